"""Every head against an independent formula, and what all heads promise."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from importlib import resources

import pytest
import torch
from conftest import BACKBONES
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from zoo.convs import CONVS
from zoo.graph import unlinked_labels
from zoo.heads import HEADS, build_head, fold_head, head_options, list_heads, uses_graph
from zoo.heads.graph_head import GraphHead
from zoo.heads.head import POOLINGS, Head
from zoo.heads.linear import LinearHead
from zoo.label_spaces import label_space
from zoo.lookup import InputError

NUM_FEATURES = 8
NUM_LABELS = 6
EMBEDDING = 5


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(0)


def graph_of(weights: Tensor, x: Tensor) -> Data:
    """The label graph of a matrix (source, target)."""
    edge_index = weights.nonzero().T.contiguous()
    names = [f"label {i}" for i in range(len(weights))]
    edge_weight = weights[edge_index[0], edge_index[1]]
    return Data(x=x, edge_index=edge_index, edge_weight=edge_weight, label_names=names, recipe={})


@pytest.fixture
def weights() -> Tensor:
    weights = torch.rand(NUM_LABELS, NUM_LABELS) * (torch.rand(NUM_LABELS, NUM_LABELS) < 0.5)
    weights[0, 1], weights[1, 0] = 0.4, 0  # not symmetric, so that the direction matters
    return weights.fill_diagonal_(0.6)


@pytest.fixture
def graph(weights: Tensor) -> Data:
    return graph_of(weights, torch.randn(NUM_LABELS, EMBEDDING))


@pytest.fixture
def feature_map() -> Tensor:
    return torch.randn(3, NUM_FEATURES, 4, 5)


def perturb(module: nn.Module) -> None:
    """Moves every parameter away from its initial value, zeros and ones included."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)


# --- each head against its formula ---------------------------------------------------------------------------


def linear_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    p = dict(head.named_parameters())
    return feature_map.mean((2, 3)) @ p["linear.weight"].T + p["linear.bias"]


def mlp_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    p = dict(head.named_parameters())
    hidden = (feature_map.mean((2, 3)) @ p["layers.0.weight"].T + p["layers.0.bias"]).clamp(min=0)
    return hidden @ p["layers.3.weight"].T + p["layers.3.bias"]


def mlgcn_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    p, receives = dict(head.named_parameters()), weights.T
    hidden = receives @ graph.x @ p["convs.0.conv.lin.weight"].T
    classifiers = receives @ torch.where(hidden > 0, hidden, 0.2 * hidden) @ p["convs.1.conv.lin.weight"].T
    return feature_map.amax((2, 3)) @ classifiers.T


def sgc_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    p, receives = dict(head.named_parameters()), weights.T
    classifiers = receives @ receives @ graph.x @ p["convs.0.conv.lin.weight"].T + p["convs.0.conv.lin.bias"]
    return feature_map.amax((2, 3)) @ classifiers.T


def gat_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    """Label by label and attention head by attention head, with the edge's weight as its one feature."""
    p, x = dict(head.named_parameters()), graph.x
    for layer in (0, 1):
        q = {key.removeprefix(f"convs.{layer}.conv."): value for key, value in p.items()}
        columns = []
        for h in range(4):
            width = q["att_src"].size(2)
            rows = slice(h * width, (h + 1) * width)
            z, edge = x @ q["lin.weight"][rows].T, q["lin_edge.weight"][rows, 0]
            per_label = []
            for i in range(NUM_LABELS):
                neighbours = [j for j in range(NUM_LABELS) if weights[j, i] != 0]
                energies = torch.stack(
                    [
                        z[j] @ q["att_src"][0, h]
                        + z[i] @ q["att_dst"][0, h]
                        + weights[j, i] * edge @ q["att_edge"][0, h]
                        for j in neighbours
                    ]
                )
                per_label.append(F.leaky_relu(energies, 0.2).softmax(0) @ z[neighbours])
            columns.append(torch.stack(per_label))
        x = torch.cat(columns, 1) + q["bias"]
        x = F.leaky_relu(x, 0.2) if layer == 0 else x
    return feature_map.amax((2, 3)) @ x.T


FORMULAS: dict[str, Callable[[Head, Data, Tensor, Tensor], Tensor]] = {
    "gat": gat_logits,
    "linear": linear_logits,
    "mlgcn": mlgcn_logits,
    "mlp": mlp_logits,
    "sgc": sgc_logits,
}


def test_every_head_has_a_formula():
    """Fails when an entry of HEADS is added: state here what it computes, independently of its code."""
    assert set(FORMULAS) == set(HEADS)


@pytest.mark.parametrize("name", FORMULAS)
def test_logits_equal_the_formula(name, graph, weights, feature_map):
    head = build_head(name, NUM_FEATURES, graph)
    perturb(head)
    expected = FORMULAS[name](head, graph, weights, feature_map)
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-4)


def test_mlgcn_is_the_dense_formula_of_the_paper_on_coco():
    """Values and gradients, from the shipped counts to the logits: threshold, re-weighting, normalisation."""
    table = json.loads((resources.files("zoo") / "label_space_data" / "coco2014.json").read_text())
    counts = torch.tensor(table["counts"], dtype=torch.float64)
    binary = (torch.tensor(table["cooccurrence"]) / counts[:, None] >= 0.1).double().fill_diagonal_(0)
    a = binary * 0.25 / (binary.sum(0) + 1e-6) + torch.eye(80)
    d = torch.diag(a.sum(1) ** -0.5)
    final = ((a @ d).T @ d).float()

    graph = label_space("coco2014")
    assert graph.label_names == table["labels"]
    head = build_head("mlgcn", 64, graph, pooling="avg")
    feature_map = torch.randn(4, 64, 3, 3, requires_grad=True)
    output_gradient = torch.randn(4, 80) / 80

    w1, w2 = (conv.conv.lin.weight.detach().clone().requires_grad_() for conv in head.convs)
    dense_map = feature_map.detach().clone().requires_grad_()
    classifiers = final @ F.leaky_relu(final @ graph.x @ w1.T, 0.2) @ w2.T
    expected = dense_map.mean((2, 3)) @ classifiers.T
    expected.backward(output_gradient)
    logits = head(feature_map)
    logits.backward(output_gradient)

    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    for own, dense in ((head.convs[0].conv.lin.weight, w1), (head.convs[1].conv.lin.weight, w2)):
        torch.testing.assert_close(own.grad, dense.grad, atol=1e-5, rtol=0)
        assert dense.grad.abs().max() > 1e-3, "too small a gradient for the tolerance"
    torch.testing.assert_close(feature_map.grad, dense_map.grad, atol=1e-5, rtol=0)


def test_mlgcn_starts_in_the_bounds_of_the_paper(graph):
    head = build_head("mlgcn", 512, graph)
    for conv, out in zip(head.convs, (1024, 512), strict=True):
        weight = conv.conv.lin.weight
        assert weight.shape[0] == out
        assert 0.95 * out**-0.5 < weight.abs().max() <= out**-0.5
        assert abs(weight.mean()) < 0.1 * out**-0.5
        # A uniform distribution on (-b, b) has the standard deviation b / sqrt(3).
        assert weight.std().item() == pytest.approx((out * 3) ** -0.5, rel=0.05)


def test_sgc_is_one_layer_of_two_hops(graph):
    head = build_head("sgc", NUM_FEATURES, graph)
    assert [type(conv.conv).__name__ for conv in head.convs] == ["_SGConv"]
    assert head.convs[0].conv.K == 2
    assert build_head("sgc", NUM_FEATURES, graph, hops=5).convs[0].conv.K == 5


def test_gat_has_four_attention_heads_that_share_the_width(graph):
    head = build_head("gat", NUM_FEATURES, graph, widths=[12])
    assert [tuple(conv.conv.att_src.shape) for conv in head.convs] == [(1, 4, 3), (1, 4, 2)]


# --- what every head promises, for the channels of four backbones of different layouts -----------------------


@functools.cache
def backbone_channels(name: str) -> int:
    from zoo.backbones import Backbone

    return Backbone(name).num_features


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", list_heads())
def test_exports(name, backbone, graph):
    head = build_head(name, backbone_channels(backbone), graph).eval()
    feature_map = torch.randn(2, head.num_features, 2, 3)
    program = torch.export.export(head, (feature_map,))
    torch.testing.assert_close(program.module()(feature_map), head(feature_map), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", list_heads())
@pytest.mark.parametrize("pooling", ["avg", "max", "gem"])
def test_every_parameter_gets_a_finite_gradient(name, pooling, graph, feature_map):
    head = build_head(name, NUM_FEATURES, graph, pooling=pooling, dropout=0.1)
    logits = head(feature_map)
    assert logits.shape == (3, NUM_LABELS)
    (logits * torch.randn_like(logits)).sum().backward()
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", list_heads())
def test_a_head_keeps_its_state_in_its_state_dict(name, graph, feature_map):
    """The graph too: a head on another graph becomes this one by its tensors alone."""
    head = build_head(name, NUM_FEATURES, graph)
    other = graph.clone()
    other.x, other.edge_weight = torch.zeros_like(graph.x), torch.ones_like(graph.edge_weight)
    copy = build_head(name, NUM_FEATURES, other)
    copy.load_state_dict(head.state_dict())
    assert torch.equal(copy(feature_map), head(feature_map))


@pytest.mark.parametrize("name", [name for name in list_heads() if uses_graph(name)])
def test_permuting_the_labels_permutes_the_logits(name, graph, weights, feature_map):
    order = torch.randperm(NUM_LABELS)
    head = build_head(name, NUM_FEATURES, graph)
    permuted = build_head(name, NUM_FEATURES, graph_of(weights[order][:, order].contiguous(), graph.x[order]))
    permuted.convs.load_state_dict(head.convs.state_dict())
    torch.testing.assert_close(permuted(feature_map), head(feature_map)[:, order], atol=1e-5, rtol=1e-4)


def test_self_loops_only_are_a_multilayer_perceptron_for_each_label(graph, feature_map):
    head = build_head("mlgcn", NUM_FEATURES, unlinked_labels(graph.label_names, graph.x), widths=[16, 12])
    w1, w2, w3 = (conv.conv.lin.weight for conv in head.convs)
    perceptron = nn.Sequential(
        nn.Linear(EMBEDDING, 16, bias=False),
        nn.LeakyReLU(0.2),
        nn.Linear(16, 12, bias=False),
        nn.LeakyReLU(0.2),
        nn.Linear(12, NUM_FEATURES, bias=False),
    )
    for layer, weight in zip((0, 2, 4), (w1, w2, w3), strict=True):
        perceptron[layer].weight = weight
    for label in range(NUM_LABELS):
        torch.testing.assert_close(head.classifiers()[label], perceptron(graph.x[label]))


@pytest.mark.parametrize("conv", sorted(CONVS))
def test_every_conv_works_in_a_graph_head_and_hears_its_edge_weights(conv, graph, feature_map):
    head = GraphHead(NUM_FEATURES, graph, conv=conv, widths=[6]).eval()
    perturb(head)
    before = head(feature_map)
    assert before.shape == (3, NUM_LABELS)
    assert before.isfinite().all()
    head.edge_weight *= torch.linspace(0.5, 1.5, len(head.edge_weight))
    assert not torch.allclose(before, head(feature_map))


def test_the_graph_is_a_copy(graph, feature_map):
    head = build_head("mlgcn", NUM_FEATURES, graph)
    before = head(feature_map)
    graph.x.zero_()
    graph.edge_weight.zero_()
    assert torch.equal(head(feature_map), before)
    assert not any(parameter is head.x for parameter in head.parameters())


def test_bias_of_the_labels(graph, feature_map):
    without, with_bias = (build_head("mlgcn", NUM_FEATURES, graph, bias=bias) for bias in (False, True))
    assert without.classifier_bias() is None
    with_bias.convs.load_state_dict(without.convs.state_dict())
    assert torch.equal(with_bias(feature_map), without(feature_map)), "the bias starts at zero"
    with torch.no_grad():
        with_bias.bias.copy_(torch.arange(float(NUM_LABELS)))
    expected = without(feature_map) + torch.arange(NUM_LABELS)
    torch.testing.assert_close(with_bias(feature_map), expected)


def test_penalty_is_zero_unless_a_head_says_otherwise(graph):
    for name in list_heads():
        assert build_head(name, NUM_FEATURES, graph).penalty().item() == 0


def test_uses_graph():
    assert {name: uses_graph(name) for name in HEADS} == {
        "gat": True,
        "linear": False,
        "mlgcn": True,
        "mlp": False,
        "sgc": True,
    }


# --- folding -------------------------------------------------------------------------------------------------

FOLDING = [name for name in HEADS if name != "mlp"]


@pytest.mark.parametrize("name", FOLDING)
@pytest.mark.parametrize("pooling", ["avg", "max", "gem"])
@pytest.mark.parametrize("bias", [False, True])
def test_a_folded_head_has_the_same_logits(name, pooling, bias, graph, feature_map):
    head = build_head(name, NUM_FEATURES, graph, pooling=pooling, bias=bias).eval()
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
    head = build_head(name, NUM_FEATURES, graph, bias=bias, pooling="avg").eval()
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


@pytest.mark.parametrize("name", list_heads())
def test_on_standardised_features_every_head_starts_at_the_frequencies(name, graph):
    head = build_head(name, NUM_FEATURES, graph, pooling="avg").eval()
    log_odds = torch.linspace(-4, 4, head.num_labels)
    head.standardize(torch.zeros(NUM_FEATURES), torch.ones(NUM_FEATURES), log_odds)
    if head.uses_graph:
        size = head.classifiers().square().mean().sqrt()
        torch.testing.assert_close(size, torch.tensor((3 * NUM_FEATURES) ** -0.5), msg="as nn.Linear starts")
    logits = head.from_pooled(torch.randn(500, NUM_FEATURES))
    assert (logits.mean(0) - log_odds).abs().max() < 0.5
    assert logits.std(0).max() < 1.2


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
    with pytest.raises(InputError, match=r"MLPHead reasons about each image.*can: gat, linear, mlgcn, sgc$"):
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
@pytest.mark.parametrize("name", list_heads())
def test_dropout_range(name, dropout, graph):
    with pytest.raises(InputError, match=r"dropout must lie in \[0, 1\)"):
        build_head(name, NUM_FEATURES, graph, dropout=dropout)


@pytest.mark.parametrize("name", list_heads())
def test_heads_on_vectors_refuse_the_feature_map(name, graph):
    with pytest.raises(InputError, match="takes pooled features: choose pooling avg, max or gem"):
        build_head(name, NUM_FEATURES, graph, pooling="none")


# --- names, options, heads of one's own ----------------------------------------------------------------------


def test_unknown_names_and_options(graph):
    with pytest.raises(InputError, match=r"unknown head 'mlgnc'\. Did you mean mlgcn\? Known: gat, linear"):
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


@pytest.mark.parametrize("name", [name for name in list_heads() if uses_graph(name)])
def test_graph_heads_ask_for_label_vectors(name):
    with pytest.raises(InputError, match=r"needs label vectors, and this label space has none.*label_graph"):
        build_head(name, NUM_FEATURES, unlinked_labels(["dog", "cat"]))


def test_head_options_are_those_of_the_table_entry():
    assert head_options("mlgcn") == {
        "conv": "GCNConv",
        "widths": (1024,),
        "hops": None,
        "attention_heads": None,
        "pooling": "max",
        "dropout": 0.0,
        "bias": False,
    }
    assert head_options("sgc") == head_options("mlgcn") | {"conv": "SGConv", "widths": (), "hops": 2}
    assert head_options("gat") == head_options("mlgcn") | {"conv": "GATConv", "attention_heads": 4}
    assert head_options("linear") == {"pooling": "avg", "dropout": 0.0, "bias": True}


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
