"""Heads whose classifiers a label graph generates: each against its dense formula, and what they share."""

from __future__ import annotations

import json
from importlib import resources

import pytest
import torch
from small_heads import EMBEDDING, NUM_FEATURES, NUM_LABELS, perturb
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from zoo.convs import CONVS
from zoo.graph import unlinked_labels
from zoo.heads import build_head, head_options
from zoo.heads.graph_head import GraphHead
from zoo.heads.head import Head
from zoo.label_spaces import label_space
from zoo.lookup import InputError


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


FORMULAS = {"gat": gat_logits, "mlgcn": mlgcn_logits, "sgc": sgc_logits}


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


@pytest.mark.parametrize("name", list(FORMULAS))
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
