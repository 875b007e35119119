"""The head that refines logits by a graph convolutional network: its formula, its start, known labels, any conv."""

from __future__ import annotations

import math

import pytest
import torch
from small_heads import EMBEDDING, NUM_FEATURES, NUM_LABELS, perturb
from torch import Tensor
from torch_geometric.data import Data

from zoo.convs import CONVS
from zoo.graph import unlinked_labels
from zoo.heads import build_head, fold_head, head_options
from zoo.heads.head import Head
from zoo.lookup import InputError

# MixHopConv shares its channels among powers: the one channel at the end is too narrow.
LOCAL = sorted(name for name, spec in CONVS.items() if spec.local and name != "MixHopConv")


def refined(head: Head, weights: Tensor, logits: Tensor) -> Tensor:
    """Image by image, with the dense matrix."""
    p, receives = dict(head.named_parameters()), weights.T
    result = []
    for row in logits:
        hidden = row[:, None]
        for layer in range(3):
            if layer > 0:
                hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
            hidden = receives @ hidden @ p[f"convs.{layer}.conv.lin.weight"].T
        result.append(row + p["gate"] * hidden[:, 0])
    return torch.stack(result)


def logitgcn_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    p = dict(head.named_parameters())
    return refined(head, weights, feature_map.mean((2, 3)) @ p["linear.weight"].T + p["linear.bias"])


FORMULAS = {"logitgcn": logitgcn_logits}


@pytest.mark.parametrize("name", FORMULAS)
def test_logits_equal_the_formula(name, graph, weights, feature_map):
    head = build_head(name, NUM_FEATURES, graph)
    perturb(head)
    with torch.no_grad():
        head.gate.fill_(-0.7)
    expected = FORMULAS[name](head, graph, weights, feature_map)
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-4)


def test_starts_as_a_linear_head(graph, feature_map):
    head, linear = (build_head(name, NUM_FEATURES, graph) for name in ("logitgcn", "linear"))
    head.linear.load_state_dict(linear.linear.state_dict())
    assert torch.equal(head(feature_map), linear(feature_map))
    head(feature_map).square().sum().backward()
    assert head.gate.grad != 0, "and the first step of training opens the gate"


def test_the_network_reads_the_log_odds_too(graph, weights):
    head = build_head("logitgcn", NUM_FEATURES, graph)
    perturb(head)
    features, log_odds = torch.randn(4, NUM_FEATURES), torch.linspace(-3, 3, NUM_LABELS)
    head.standardize(torch.zeros(NUM_FEATURES), torch.ones(NUM_FEATURES), log_odds)
    expected = refined(head, weights, head.classify(features) + log_odds)
    torch.testing.assert_close(head.from_pooled(features), expected, atol=1e-5, rtol=1e-4)


# --- known labels --------------------------------------------------------------------------------------------


def test_known_labels_by_the_formula(graph, weights, feature_map):
    head = build_head("logitgcn", NUM_FEATURES, graph, confidence=0.9)
    perturb(head)
    known = torch.full((3, NUM_LABELS), -1)
    known[0, 2], known[1, 4], known[1, 0] = 1, 0, 1
    certain = math.log(9)
    first = head.classify(feature_map.mean((2, 3))).detach()
    first[0, 2], first[1, 4], first[1, 0] = certain, -certain, certain
    expected = refined(head, weights, first)
    expected[0, 2], expected[1, 4], expected[1, 0] = certain, -certain, certain
    logits = head(feature_map, known)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits[2], head(feature_map)[2], msg="nothing is known of the third image")
    torch.testing.assert_close(logits[0, 2].sigmoid(), torch.tensor(0.9))
    torch.testing.assert_close(logits[1, 4].sigmoid(), torch.tensor(0.1))


def test_a_known_label_speaks_to_its_neighbours_and_to_no_other_label(graph, weights, feature_map):
    head = build_head("logitgcn", NUM_FEATURES, graph, widths=())
    perturb(head)
    for dtype in (torch.int8, torch.int64):
        known = torch.full((3, NUM_LABELS), -1, dtype=dtype)
        known[:, 3] = 1
        changed = (head(feature_map, known) - head(feature_map)).abs().amax(0) > 1e-6
        assert torch.equal(changed, weights[3] != 0)


def test_a_known_label_is_known_before_the_gate_opens(graph, feature_map):
    head = build_head("logitgcn", NUM_FEATURES, graph)
    known = torch.full((3, NUM_LABELS), -1)
    known[:, 3] = 1
    logits = head(feature_map, known)
    torch.testing.assert_close(logits[:, 3].sigmoid(), torch.full((3,), 0.99))
    others = [i for i in range(NUM_LABELS) if i != 3]
    assert torch.equal(logits[:, others], head(feature_map)[:, others])


# --- convolutions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conv", LOCAL)
def test_with_every_conv_each_image_stands_alone_and_hears_its_edge_weights(conv, graph, feature_map):
    head = build_head("logitgcn", NUM_FEATURES, graph, conv=conv, widths=[6]).eval()
    perturb(head)
    with torch.no_grad():
        head.gate.fill_(1.0)
    together = head(feature_map)
    alone = torch.cat([head(image[None]) for image in feature_map])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    linear = head.classify(feature_map.mean((2, 3)))
    assert not torch.allclose(together, linear)
    head.edge_weight *= torch.linspace(0.5, 1.5, len(head.edge_weight))
    assert not torch.allclose(together, head(feature_map))


def test_a_conv_that_looks_beyond_neighbours_is_refused(graph):
    with pytest.raises(
        InputError, match="conv 'GPSConv' looks beyond neighbours, so it would mix the images"
    ):
        build_head("logitgcn", NUM_FEATURES, graph, conv="GPSConv")


def test_a_conv_that_needs_more_than_one_channel_says_so(graph):
    with pytest.raises(InputError, match="conv 'MixHopConv' shares its 1 output channels among 3 powers"):
        build_head("logitgcn", NUM_FEATURES, graph, conv="MixHopConv")


def test_options_of_the_convolutions(graph):
    head = build_head("logitgcn", NUM_FEATURES, graph, conv="SGConv", hops=3, widths=[4])
    assert [(conv.conv.K, conv.conv.lin.out_channels) for conv in head.convs] == [(3, 4), (3, 1)]
    head = build_head("logitgcn", NUM_FEATURES, graph, conv="GATConv", attention_heads=2, widths=[4])
    assert [conv.conv.heads for conv in head.convs] == [2, 2]


# --- the rest ------------------------------------------------------------------------------------------------


def test_takes_a_label_graph_without_vectors(graph, feature_map):
    head = build_head("logitgcn", NUM_FEATURES, graph)
    graph.x = None
    other = build_head("logitgcn", NUM_FEATURES, graph)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(feature_map), head(feature_map))


def test_self_loops_only_are_one_function_for_every_label(feature_map):
    names = [f"label {i}" for i in range(NUM_LABELS)]
    head = build_head("logitgcn", NUM_FEATURES, unlinked_labels(names, torch.randn(NUM_LABELS, EMBEDDING)))
    perturb(head)
    features = feature_map.mean((2, 3))
    for label in range(NUM_LABELS):
        alone = build_head("logitgcn", NUM_FEATURES, unlinked_labels(names[:1]))
        state = head.state_dict()
        state |= {key: state[key][label : label + 1] for key in ("linear.weight", "linear.bias")}
        state |= {"edge_index": torch.zeros(2, 1, dtype=torch.long), "edge_weight": torch.ones(1)}
        alone.load_state_dict(state)
        torch.testing.assert_close(alone.from_pooled(features)[:, 0], head(feature_map)[:, label])


def test_does_not_fold(graph):
    head = build_head("logitgcn", NUM_FEATURES, graph)
    with pytest.raises(InputError, match="LogitGCNHead reasons about each image"):
        fold_head(head)


@pytest.mark.parametrize("confidence", [0.5, 1.0, 0.1, math.nan])
def test_confidence_range(confidence, graph):
    with pytest.raises(InputError, match=r"confidence must lie in \(0.5, 1\)"):
        build_head("logitgcn", NUM_FEATURES, graph, confidence=confidence)


def test_bias_of_the_labels(graph):
    assert build_head("logitgcn", NUM_FEATURES, graph).linear.bias is not None
    assert build_head("logitgcn", NUM_FEATURES, graph, bias=False).linear.bias is None


def test_options():
    assert head_options("logitgcn") == {
        "conv": "GCNConv",
        "widths": (10, 10),
        "hops": None,
        "attention_heads": None,
        "confidence": 0.99,
        "pooling": "avg",
        "dropout": 0.0,
        "bias": True,
    }
