"""What every head promises, whatever it is: for an entry of HEADS that breaks a promise, a test here fails.

What a head computes is tested in a file of its own, test_heads_<file>.py.
"""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path

import pytest
import torch
from conftest import BACKBONES
from small_heads import (
    FOLDING,
    NUM_FEATURES,
    NUM_LABELS,
    SMALL,
    entry_class,
    graph_of,
    perturb,
    small_head,
)
from torch import Tensor, nn
from torch_geometric.data import Data

from zoo.heads import HEADS, build_head, fold_head, head_options, list_heads
from zoo.heads.graph_head import GraphHead
from zoo.heads.head import POOLINGS, Head
from zoo.heads.linear import LinearHead
from zoo.lookup import InputError

every_head = pytest.mark.parametrize("name", list_heads())

# Every head with every pooling that it offers; heads on positions have none.
EVERY_POOLING = [
    (name, pooling)
    for name in list_heads()
    for pooling in (("avg", "max", "gem") if "pooling" in head_options(name) else (None,))
]
POSITIONS = [name for name in list_heads() if entry_class(name).uses_positions]


def test_every_head_has_a_formula():
    """Fails when an entry of HEADS is added: state in its file what it computes, independently of its code."""
    stated: set[str] = set()
    for file in Path(__file__).parent.glob("test_heads_*.py"):
        for table in re.findall(r"^FORMULAS = \{(.*?)\}", file.read_text(), flags=re.DOTALL | re.MULTILINE):
            stated |= set(re.findall(r'"(\w+)":', table))
    assert stated == set(HEADS)


# --- promises ------------------------------------------------------------------------------------------------


@functools.cache
def backbone_channels(name: str) -> int:
    from zoo.backbones import Backbone

    return Backbone(name).num_features


@every_head
def test_exports(name, graph):
    """With batches of any size; for the channels of one of four backbones of different layouts, in turn."""
    backbone = BACKBONES[list_heads().index(name) % len(BACKBONES)]
    head = small_head(name, backbone_channels(backbone), graph).eval()
    feature_map = torch.randn(2, head.num_features, 2, 3)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(head, (feature_map,), dynamic_shapes={"feature_map": {0: batch}})
    feature_map = torch.randn(5, head.num_features, 2, 3)
    torch.testing.assert_close(program.module()(feature_map), head(feature_map), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "pooling"), EVERY_POOLING)
def test_every_parameter_gets_a_finite_gradient(name, pooling, graph, feature_map):
    options = {} if pooling is None else {"pooling": pooling}
    head = small_head(name, NUM_FEATURES, graph, dropout=0.1, **options)
    perturb(head)
    logits = head(feature_map)
    assert logits.shape == (3, NUM_LABELS)
    ((logits * torch.randn_like(logits)).sum() + head.penalty()).backward()
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


@every_head
def test_a_head_keeps_its_state_in_its_state_dict(name, graph, feature_map):
    """The graph too: a head on another graph becomes this one by its tensors alone."""
    head = small_head(name, NUM_FEATURES, graph).eval()
    other = graph.clone()
    other.x, other.edge_weight = torch.zeros_like(graph.x), torch.ones_like(graph.edge_weight)
    copy = small_head(name, NUM_FEATURES, other).eval()
    copy.load_state_dict(head.state_dict())
    assert torch.equal(copy(feature_map), head(feature_map))


def own_tensors(head: Head) -> list[Tensor]:
    """What a head has not from the graph: its parameters, and all of its buffers if it reads no graph."""
    return [*head.parameters(), *(() if head.uses_graph else head.buffers())]


@every_head
def test_permuting_the_labels_permutes_the_logits(name, graph, weights, feature_map):
    order = torch.randperm(NUM_LABELS)
    head = small_head(name, NUM_FEATURES, graph).eval()
    perturb(head)
    permuted = small_head(
        name, NUM_FEATURES, graph_of(weights[order][:, order].contiguous(), graph.x[order])
    ).eval()
    with torch.no_grad():
        for own, tensor in zip(own_tensors(permuted), own_tensors(head), strict=True):
            for axis in [axis for axis, size in enumerate(tensor.shape) if size == NUM_LABELS]:
                tensor = tensor.index_select(axis, order)
            own.copy_(tensor)
    torch.testing.assert_close(permuted(feature_map), head(feature_map)[:, order], atol=1e-5, rtol=1e-4)


@every_head
def test_runs_in_bf16(name, graph, feature_map):
    head = small_head(name, NUM_FEATURES, graph).eval()
    expected = head(feature_map)
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(feature_map)
        (logits.float() * torch.randn_like(expected)).sum().backward()
    tolerance = 0.05 * max(1.0, float(expected.detach().abs().max()))
    torch.testing.assert_close(logits.float(), expected, atol=tolerance, rtol=0)
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)


@every_head
def test_the_memory_format_makes_no_difference(name, graph, feature_map):
    head = small_head(name, NUM_FEATURES, graph).eval()
    other = feature_map.to(memory_format=torch.channels_last)
    assert not other.is_contiguous()
    torch.testing.assert_close(
        head.to(memory_format=torch.channels_last)(other), head(feature_map), atol=1e-5, rtol=1e-4
    )


@every_head
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (9, 3)])
def test_takes_a_map_of_any_size(name, size, graph):
    head = small_head(name, NUM_FEATURES, graph).eval()
    logits = [head(torch.randn(2, NUM_FEATURES, *size)) for _ in range(2)]
    assert logits[0].shape == (2, NUM_LABELS)
    assert logits[0].isfinite().all()
    assert not torch.equal(*logits)


@every_head
def test_on_standardised_features_every_head_starts_at_the_frequencies(name, graph):
    head = small_head(name, NUM_FEATURES, graph).eval()
    log_odds = torch.linspace(-4, 4, head.num_labels)
    head.standardize(torch.zeros(NUM_FEATURES), torch.ones(NUM_FEATURES), log_odds)
    if isinstance(head, GraphHead):
        size = head.classifiers().square().mean().sqrt()
        torch.testing.assert_close(size, torch.tensor((3 * NUM_FEATURES) ** -0.5), msg="as nn.Linear starts")
    shape = (500, NUM_FEATURES, 2, 3) if head.pooling == "none" else (500, NUM_FEATURES)
    logits = head.from_pooled(torch.randn(shape))
    assert (logits.mean(0) - log_odds).abs().max() < 0.5
    assert logits.std(0).max() < 1.2


@every_head
def test_a_head_does_not_change_the_graph_it_is_given(name, graph, feature_map):
    before = graph.clone()
    head = small_head(name, NUM_FEATURES, graph).eval()
    perturb(head)
    for attribute in ("x", "edge_index", "edge_weight"):
        assert torch.equal(graph[attribute], before[attribute]), attribute
    logits = head(feature_map)
    graph.x.zero_()
    graph.edge_weight.zero_()
    assert torch.equal(head(feature_map), logits), "the graph is a copy"


def test_small_heads_are_heads():
    for name, options in SMALL.items():
        assert options.keys() <= head_options(name).keys()


# --- folding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FOLDING)
@pytest.mark.parametrize("pooling", ["avg", "max", "gem"])
@pytest.mark.parametrize("bias", [False, True])
def test_a_folded_head_has_the_same_logits(name, pooling, bias, graph, feature_map):
    head = small_head(name, NUM_FEATURES, graph, pooling=pooling, bias=bias).eval()
    perturb(head)
    folded = fold_head(head)
    assert type(folded) is LinearHead
    assert not folded.training
    assert folded.label_names == head.label_names
    torch.testing.assert_close(folded(feature_map), head(feature_map), atol=1e-5, rtol=0)
    assert {key.split(".")[0] for key in folded.state_dict()} <= {"linear", "pool"}


@pytest.mark.parametrize("name", FOLDING)
@pytest.mark.parametrize("bias", [False, True])
def test_standardised_features_fold_away(name, bias, graph, feature_map):
    head = small_head(name, NUM_FEATURES, graph, bias=bias, pooling="avg").eval()
    mean, std = torch.randn(NUM_FEATURES), torch.rand(NUM_FEATURES) + 0.5
    log_odds = torch.randn(head.num_labels)
    head.standardize(mean, std, log_odds)
    plain = head.classify((feature_map.mean((2, 3)) - mean) / std) + log_odds
    torch.testing.assert_close(head(feature_map), plain)
    torch.testing.assert_close(head.from_pooled(feature_map.mean((2, 3))), plain)
    torch.testing.assert_close(fold_head(head)(feature_map), plain, atol=1e-5, rtol=0)
    mean.zero_()
    log_odds.zero_()
    torch.testing.assert_close(head(feature_map), plain, msg="the moments are a copy")


def test_folding_keeps_dropout_precision_and_mode(graph):
    head = build_head("mlgcn", NUM_FEATURES, graph, dropout=0.3).double().train()
    folded = fold_head(head)
    assert folded.dropout.p == 0.3
    assert folded.linear.weight.dtype == torch.float64
    assert folded.training
    torch.testing.assert_close(folded.linear.weight, head.classifiers())


def test_folding_copies(graph, feature_map):
    head = build_head("linear", NUM_FEATURES, graph, pooling="gem")
    folded = fold_head(head)
    before = folded(feature_map)
    perturb(head)
    assert torch.equal(folded(feature_map), before)


def test_a_head_that_reasons_about_each_image_does_not_fold(graph):
    head = build_head("mlp", NUM_FEATURES, graph)
    with pytest.raises(InputError, match=rf"MLPHead reasons about each image.*can: {', '.join(FOLDING)}$"):
        fold_head(head)
    with pytest.raises(InputError, match="MLPHead has no classifiers"):
        head.classifiers()


# --- pooling and dropout -------------------------------------------------------------------------------------


def test_poolings_against_loops(feature_map):
    feature_map = feature_map.abs() + 0.1
    positions = [feature_map[:, :, y, x] for y in range(4) for x in range(5)]
    torch.testing.assert_close(POOLINGS["avg"]()(feature_map), sum(positions) / 20)
    torch.testing.assert_close(POOLINGS["max"]()(feature_map), functools.reduce(torch.maximum, positions))
    gem = POOLINGS["gem"]()
    assert gem.p == 3
    torch.testing.assert_close(gem(feature_map), (sum(f**3 for f in positions) / 20) ** (1 / 3))
    assert POOLINGS["none"]()(feature_map) is feature_map


def test_gem_lies_between_average_and_maximum(feature_map):
    feature_map, gem = feature_map.abs() + 0.1, POOLINGS["gem"]()
    with torch.no_grad():
        gem.p.fill_(1)
        torch.testing.assert_close(gem(feature_map), feature_map.mean((2, 3)))
        gem.p.fill_(80)
        torch.testing.assert_close(gem(feature_map), feature_map.amax((2, 3)), rtol=0.05, atol=0)


def test_gem_keeps_half_precision_finite():
    """30 ** 3 fits into half precision, 50 ** 3 does not."""
    pooled = POOLINGS["gem"]()(torch.full((1, 2, 3, 3), 50.0, dtype=torch.float16))
    assert pooled.dtype == torch.float16
    torch.testing.assert_close(pooled.float(), torch.full((1, 2), 50.0), rtol=1e-2, atol=0)


@pytest.mark.parametrize("p", [3.0, 8.0, 80.0])
def test_gem_has_finite_gradients_where_features_are_zero(p):
    gem, zeros = POOLINGS["gem"](), torch.zeros(2, 3, 4, 4, requires_grad=True)
    with torch.no_grad():
        gem.p.fill_(p)
    gem(zeros).sum().backward()
    assert gem.p.grad.isfinite()
    assert zeros.grad.isfinite().all()


def test_gem_gradients(feature_map):
    gem = POOLINGS["gem"]().double()
    positive = (feature_map.double().abs() + 0.1).requires_grad_()

    def formula(p: Tensor, x: Tensor) -> Tensor:
        return x.pow(p).mean((2, 3)).pow(1 / p)

    output_gradient = torch.randn(3, NUM_FEATURES)
    expected = torch.autograd.grad(formula(gem.p, positive), [gem.p, positive], output_gradient.double())
    own = torch.autograd.grad(gem(positive), [gem.p, positive], output_gradient.double())
    for gradient, reference in zip(own, expected, strict=True):
        torch.testing.assert_close(gradient, reference, atol=1e-5, rtol=1e-4)


def test_dropout_only_in_training(graph, feature_map):
    head = build_head("linear", NUM_FEATURES, graph, dropout=0.5)
    assert not torch.equal(head(feature_map), head(feature_map))
    head.eval()
    assert torch.equal(head(feature_map), head(feature_map))


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 2.0, math.nan])
@every_head
def test_dropout_range(name, dropout, graph):
    with pytest.raises(InputError, match=r"dropout must lie in \[0, 1\)"):
        small_head(name, NUM_FEATURES, graph, dropout=dropout)


@pytest.mark.parametrize("name", sorted(set(list_heads()) - set(POSITIONS)))
def test_heads_on_vectors_refuse_the_feature_map(name, graph):
    with pytest.raises(InputError, match="takes pooled features: choose pooling avg, max or gem"):
        small_head(name, NUM_FEATURES, graph, pooling="none")


# --- names, options, heads of one's own ----------------------------------------------------------------------


def test_unknown_names_and_options(graph):
    with pytest.raises(InputError, match=r"unknown head 'mlgnc'\. Did you mean mlgcn\? Known: addgcn, "):
        build_head("mlgnc", NUM_FEATURES, graph)
    with pytest.raises(
        InputError, match=r"unknown option of head 'mlgcn' 'polling'\. Did you mean pooling\?"
    ):
        build_head("mlgcn", NUM_FEATURES, graph, polling="avg")
    with pytest.raises(InputError, match="unknown option of head 'linear' 'conv'"):
        build_head("linear", NUM_FEATURES, graph, conv="GCNConv")
    with pytest.raises(InputError, match="unknown option of head 'linear' 'name'"):
        build_head("linear", NUM_FEATURES, graph, name="mine")
    with pytest.raises(InputError, match=r"unknown pooling 'maximum'\. Did you mean max\?"):
        build_head("mlgcn", NUM_FEATURES, graph, pooling="maximum")
    with pytest.raises(InputError, match=r"unknown conv 'GCN'\. Did you mean GCNConv"):
        build_head("mlgcn", NUM_FEATURES, graph, conv="GCN")
    with pytest.raises(InputError, match="conv 'GCNConv' has no option hops"):
        build_head("mlgcn", NUM_FEATURES, graph, hops=3)


class PositionVotes(Head):
    """A head of a user's own: it looks at positions, and takes the most confident one for each label."""

    uses_positions = True

    def __init__(self, num_features: int, labels: Data, scale: float = 2.0) -> None:
        super().__init__(num_features, labels, pooling="none")
        self.votes, self.scale = nn.Conv2d(num_features, self.num_labels, 1), scale

    def classify(self, features: Tensor) -> Tensor:
        return self.scale * self.votes(features).amax((2, 3))


def test_a_head_of_ones_own(graph, feature_map, monkeypatch):
    monkeypatch.setitem(HEADS, "mine", PositionVotes)
    assert "mine" in list_heads()
    assert head_options("mine") == {"scale": 2.0}
    head = build_head("mine", NUM_FEATURES, graph, scale=3.0)
    logits = head(feature_map)
    assert logits.shape == (3, NUM_LABELS)
    torch.testing.assert_close(logits, 3 * head.votes(feature_map).amax((2, 3)))
    with pytest.raises(InputError, match=r"unknown option of head 'mine' 'scales'\. Did you mean scale\?"):
        build_head("mine", NUM_FEATURES, graph, scales=3.0)
    with pytest.raises(InputError, match="PositionVotes reasons about each image"):
        fold_head(head)
