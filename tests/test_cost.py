"""Costs of heads: closed forms, the same counted on real numbers, and heads of a user's own."""

from __future__ import annotations

import pytest
import torch
from small_heads import EMBEDDING, FOLDING, NUM_FEATURES, NUM_LABELS, SMALL, small_head
from torch import Tensor, nn
from torch_geometric.data import Data

from zoo.backbones import Backbone
from zoo.cost import HeadCost, _count, _flops, backbone_size, head_cost
from zoo.heads import HEADS, list_heads
from zoo.heads.head import Head
from zoo.lookup import InputError

D, L, E = NUM_FEATURES, NUM_LABELS, EMBEDDING
N = 14 * 14  # positions


def closed_form(name: str, m: int) -> HeadCost:
    """Parameters, and multiply-adds an image and once, by hand, at the papers' sizes; m edges, self-loops included."""
    linear = L * D
    parameters, image, once = {
        "linear": (linear + L, linear, 0),
        "mlp": (D * 1024 + 1024 + 1024 * L + L, D * 1024 + 1024 * L, 0),
        # Each layer's sums over edges at the narrower of its two widths.
        "mlgcn": (E * 1024 + 1024 * D, linear, L * (E * 1024 + 1024 * D) + m * (E + D)),
        "sgc": (E * D + D, linear, 2 * m * E + L * E * D),
        "appnp": (
            E * 1024 + 1024 + 1024 * D + D,
            linear,
            L * (E * 1024 + 1024 * D) + 10 * m * D,
        ),
        "logitgcn": (
            linear + L + 10 + 100 + 10 + 1,
            linear + L * (10 + 100 + 10) + m * (1 + 10 + 1),
            0,
        ),
        "csra": (linear, linear * N, 0),
        "addgcn": (
            linear + (D + 1) * 1024 + L * L + 2 * 1025 * 1024 + 1025 * L + 1024 * L + 1025 * 1024 + L * 1024 + L,
            N * D * (L + 1024)  # activation maps and transformed positions
            + L * N * 1024  # label vectors
            + 2 * (L * L * 1024 + L * 1024 * 1024)  # both graphs
            + (1024 * 1024 + 1024 * L + L * 1024 * L),  # the links of the second
            0,
        ),
        "ssgrl": (
            1024 * (D + E + 1024 + 1) + (2 * D + 1) * 3 * D + 3 * D * D + (2 * D + 1) * 2048 + L * 2048 + L,
            N * D * 1024  # positions in the joint space
            + L * N * 1024  # scores
            + L * N * D  # label features
            + 3 * (2 * m * D + L * 2 * D * 3 * D + L * 3 * D * D)  # sums over edges both ways, gates
            + L * 2 * D * 2048,
            L * E * 1024 + 1024 * 1024,
        ),
        "q2l": (
            (D + 1) * 2048
            + 4 * 4 * 2049 * 2048  # four attentions: encoder, decoder, labels, decoder
            + 3 * (2049 * 8192 + 8193 * 2048)
            + (4 + 3 + 1) * 2 * 2048  # norms
            + 2 * L * 2048
            + L,
            N * D * 2048
            + attention(N, N) + attention(L, N) + attention(L, L) + attention(L, N)
            + (N + 2 * L) * 2 * 2048 * 8192,
            0,
        ),
    }[name]  # fmt: skip
    return HeadCost(parameters, 2 * image, 2 * once)


def attention(queries: int, keys: int, width: int = 2048) -> int:
    """Multiply-adds of four projections and two products."""
    return 2 * queries * width**2 + 2 * keys * width**2 + 2 * queries * keys * width


@pytest.mark.parametrize(
    "name",
    ["addgcn", "appnp", "csra", "linear", "logitgcn", "mlgcn", "mlp", "q2l", "sgc", "ssgrl"],
)
def test_closed_forms(name, graph):
    assert head_cost(name, D, graph) == closed_form(name, graph.edge_index.size(1))


class Neighbours(Head):
    """A head of a user's own: logits are summed over edges, and so are its classifiers, in one of several ways."""

    def __init__(self, num_features: int, labels: Data, *, by: str) -> None:
        super().__init__(num_features, labels, pooling="avg")
        self.weight = nn.Parameter(torch.zeros(self.num_labels, num_features))
        self.edge_index = nn.Buffer(labels.edge_index.clone())
        self.by = by

    def classifiers(self) -> Tensor:
        return self.sum(self.weight)

    def refine(self, logits: Tensor, known: Tensor | None) -> Tensor:
        return self.sum(logits.T).T

    def sum(self, x: Tensor) -> Tensor:
        source, target = self.edge_index
        zeros, messages = torch.zeros_like(x), x[source]
        if self.by == "index_add":
            return zeros.index_add(0, target, messages)
        index = target[:, None].expand_as(messages)
        if self.by == "scatter_add":
            return zeros.scatter_add(0, index, messages)
        return zeros.scatter_reduce(0, index, messages, "amax")


@pytest.mark.parametrize("by", ["index_add", "scatter_add", "scatter_reduce"])
def test_sums_over_edges(by, graph, monkeypatch):
    monkeypatch.setitem(HEADS, "mine", Neighbours)
    m = graph.edge_index.size(1)
    assert head_cost("mine", D, graph, by=by) == HeadCost(L * D, 2 * (L * D + m), 2 * m * D)


def test_labels_that_conclude_from_each_other_cost_by_the_step(graph):
    graph.recipe = {"edges": "couplings"}
    costs = [head_cost("coupled", D, graph, steps=steps).flops_image for steps in (1, 2, 3)]
    edges = int((graph.edge_index[0] != graph.edge_index[1]).sum())
    assert costs[2] - costs[1] == costs[1] - costs[0] >= 2 * edges


def test_an_image_costs_by_its_positions(graph):
    assert head_cost("csra", D, graph, 3).flops_image == 2 * L * D * 9
    assert head_cost("csra", D, graph, 3, attention_heads=4).flops_image == 4 * 2 * L * D * 9
    assert head_cost("linear", D, graph, 3) == head_cost("linear", D, graph, 30)


@pytest.mark.parametrize("name", list_heads())
def test_nothing_is_different_on_real_numbers(name, graph):
    """Shapes alone say what a real pass costs, whatever the number of images; the graph stays where it was."""
    options = SMALL.get(name, {})
    cost = head_cost(name, D, graph, 3, **options)
    assert cost == _count("cpu", name, D, graph, 3, options)
    head = small_head(name, D, graph).eval()
    assert _flops(head, torch.randn(5, D, 3, 3)) == cost.flops_once + 5 * cost.flops_image
    assert cost.parameters == sum(p.numel() for p in head.parameters())
    assert cost.flops_image >= 2 * D * L
    assert cost.flops_once >= 0
    assert graph.x.device.type == "cpu"
    assert torch.empty(0).device.type == "cpu"


@pytest.mark.parametrize("name", sorted({*FOLDING} - {"coupled"}))
def test_what_folds_costs_an_image_no_more_than_a_linear_layer(name, graph):
    options = SMALL.get(name, {})
    assert head_cost(name, D, graph, **options).flops_image == head_cost("linear", D, graph).flops_image


class PositiveVotes(Head):
    """A head of a user's own, which looks at the numbers that reach it: once by their sign, once as an array."""

    def __init__(self, num_features: int, labels: Data, *, in_numpy: bool = False) -> None:
        super().__init__(num_features, labels, pooling="avg")
        self.vote, self.in_numpy = nn.Linear(num_features, self.num_labels), in_numpy

    def classify(self, features: Tensor) -> Tensor:
        negative = features.numpy().min() < 0 if self.in_numpy else bool((features < 0).any())
        return -self.vote(features) if negative else self.vote(features)


@pytest.mark.parametrize("in_numpy", [False, True])
def test_a_head_that_looks_at_numbers_is_given_some(in_numpy, graph, monkeypatch):
    monkeypatch.setitem(HEADS, "mine", PositiveVotes)
    assert head_cost("mine", D, graph, in_numpy=in_numpy) == HeadCost(L * D + L, 2 * L * D, 0)


def test_a_bug_in_a_head_stays_one(graph, monkeypatch):
    class Broken(PositiveVotes):
        def classify(self, features: Tensor) -> Tensor:
            raise RuntimeError("broken")

    monkeypatch.setitem(HEADS, "mine", Broken)
    with pytest.raises(RuntimeError, match="broken"):
        head_cost("mine", D, graph)


def test_the_size_of_a_backbone():
    backbone = Backbone("test_vit")
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    assert backbone_size("test_vit") == (backbone.num_features, parameters)


def test_wrong_input(graph):
    with pytest.raises(InputError, match=r"unknown head 'mlgnc'\. Did you mean mlgcn"):
        head_cost("mlgnc", D, graph)
    with pytest.raises(InputError, match=r"unknown option of head 'mlp' 'width'\. Did you mean widths"):
        head_cost("mlp", D, graph, width=3)
    with pytest.raises(InputError, match="num_features and map_size must be 1 or more, not 0 and 14"):
        head_cost("mlp", 0, graph)
    with pytest.raises(InputError, match="num_features and map_size must be 1 or more, not 8 and -1"):
        head_cost("mlp", D, graph, -1)
    with pytest.raises(InputError, match=r"unknown backbone 'resnet1O1'\. Did you mean"):
        backbone_size("resnet1O1")
