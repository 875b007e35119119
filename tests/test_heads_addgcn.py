"""ADD-GCN: against its formulas, label by label, and what its learned graphs promise."""

from __future__ import annotations

import pytest
import torch
from small_heads import NUM_FEATURES, NUM_LABELS, perturb, small_head
from torch import Tensor
from torch_geometric.data import Data

from zoo.graph import unlinked_labels
from zoo.heads import build_head, head_options, uses_graph
from zoo.heads.addgcn import AddGCNHead
from zoo.heads.head import Head


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def addgcn_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    """Image by image, label by label and position by position."""
    p, labels = dict(head.named_parameters()), range(NUM_LABELS)
    classifier_of_maps = p["activation.weight"][:, :, 0, 0]
    w_transform, b_transform = p["transform.weight"][:, :, 0, 0], p["transform.bias"]
    w_a = torch.cat([p["local_links.weight"], p["global_links.weight"]], 1)
    logits = torch.empty(len(feature_map), NUM_LABELS)
    for image, x in enumerate(feature_map):
        positions = [x[:, row, column] for row in range(x.size(1)) for column in range(x.size(2))]
        v = []
        for c in labels:
            masks = [1 / (1 + torch.exp(-(classifier_of_maps[c] @ f))) for f in positions]
            v.append(sum(m * (w_transform @ f + b_transform) for m, f in zip(masks, positions, strict=True)))
        h = []
        for c in labels:
            received = sum(p["static_graph"][c, other] * v[other] for other in labels)
            h.append(v[c] + leaky(p["static_layer.weight"] @ received + p["static_layer.bias"]))
        h_g = leaky(p["global_layer.weight"] @ (sum(h) / NUM_LABELS) + p["global_layer.bias"])
        for c in labels:
            a_d = torch.sigmoid(w_a @ torch.cat([h[c], h_g]) + p["local_links.bias"])
            received = sum(a_d[other] * h[other] for other in labels)
            z = v[c] + leaky(p["dynamic_layer.weight"] @ received + p["dynamic_layer.bias"])
            z_r = p["classifier"][c] @ z + p["bias"][c]
            z_m = max(classifier_of_maps[c] @ f for f in positions)
            logits[image, c] = (z_m + z_r) / 2
    return logits


FORMULAS = {"addgcn": addgcn_logits}


@pytest.mark.parametrize("name", FORMULAS)
def test_logits_equal_the_formula(name, graph, weights, feature_map):
    head = small_head(name, NUM_FEATURES, graph)
    perturb(head)
    expected = FORMULAS[name](head, graph, weights, feature_map)
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-5)


def test_the_sizes_of_the_paper(graph):
    assert head_options("addgcn") == {"width": 1024, "dropout": 0.0}
    head = build_head("addgcn", NUM_FEATURES, graph)
    assert head.transform.weight.shape == (1024, NUM_FEATURES, 1, 1)
    assert head.static_graph.shape == (NUM_LABELS, NUM_LABELS)


def test_it_needs_no_label_graph(graph, feature_map):
    assert not uses_graph("addgcn")
    head = small_head("addgcn", NUM_FEATURES, graph).eval()
    unlinked = small_head("addgcn", NUM_FEATURES, unlinked_labels(graph.label_names)).eval()
    unlinked.load_state_dict(head.state_dict())
    assert torch.equal(unlinked(feature_map), head(feature_map))


def test_every_image_has_a_graph_of_its_own(graph):
    head = small_head("addgcn", NUM_FEATURES, graph)
    perturb(head)
    hidden = torch.randn(3, NUM_LABELS, 12)
    graphs = head.dynamic_graphs(hidden)
    assert graphs.shape == (3, NUM_LABELS, NUM_LABELS)
    assert 0 < graphs.min() < graphs.max() < 1
    assert not torch.allclose(graphs[0], graphs[1])
    hidden[1, 4] += 1
    changed = (head.dynamic_graphs(hidden) - graphs).abs().amax(2)
    assert (changed[1] > 0).all(), "the global vector carries a label to every other"
    assert not changed[[0, 2]].any()


def test_the_logits_of_an_image_do_not_depend_on_its_batch(graph, feature_map):
    head = small_head("addgcn", NUM_FEATURES, graph)
    assert head.training
    torch.testing.assert_close(head(feature_map[1:2]), head(feature_map)[1:2])


def test_attention_maps_are_the_masks(graph, feature_map):
    head = small_head("addgcn", NUM_FEATURES, graph).eval()
    maps = head.attention_maps(feature_map)
    assert maps.shape == (3, NUM_LABELS, 4, 5)
    expected = torch.einsum("ld,bdhw->blhw", head.activation.weight[:, :, 0, 0], feature_map).sigmoid()
    torch.testing.assert_close(maps, expected)
    mean, std = torch.randn(NUM_FEATURES), torch.rand(NUM_FEATURES) + 0.5
    state = {name: parameter.clone() for name, parameter in head.named_parameters()}
    head.standardize(mean, std, torch.zeros(NUM_LABELS))
    head.load_state_dict(state, strict=False)
    raw = feature_map * std[:, None, None] + mean[:, None, None]
    torch.testing.assert_close(head.attention_maps(raw), maps, msg="the same norm as in forward")


@pytest.mark.parametrize(("num_labels", "size"), [(1, 14), (20, 14), (300, 7)])
def test_on_standardised_features_neither_labels_nor_positions_raise_the_first_logits(num_labels, size):
    """As the paper starts, the logits of 300 labels are 60 and more."""
    head = AddGCNHead(64, unlinked_labels([str(i) for i in range(num_labels)]), width=64).eval()
    feature_map = torch.randn(50, 64, size, size)
    head.standardize(torch.zeros(64), torch.ones(64), torch.zeros(num_labels))
    logits = head(feature_map)
    assert logits.mean(0).abs().max() < 0.2
    assert 0 < logits.std(0).max() < 0.2
    assert head.propagate(torch.randn(5, num_labels, 64)).std() < 2, "whatever the number of labels"
    again = {name: parameter.abs().max() for name, parameter in head.named_parameters()}
    head.standardize(torch.zeros(64), torch.ones(64), torch.zeros(num_labels))
    for name, parameter in head.named_parameters():
        torch.testing.assert_close(parameter.abs().max(), again[name], rtol=0.2, atol=0, msg=name)


def test_thousands_of_labels():
    head = AddGCNHead(4, unlinked_labels([str(i) for i in range(3000)]), width=4)
    logits = head(torch.randn(1, 4, 2, 2))
    logits.sum().backward()
    assert logits.shape == (1, 3000)
    assert head.static_graph.grad.isfinite().all()
