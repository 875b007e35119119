"""A label graph that is learned: against loops over its labels, and what its options and its penalty do."""

from __future__ import annotations

import math

import pytest
import torch
from small_heads import NUM_FEATURES, NUM_LABELS, graph_of, perturb, small_head
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Data

from zoo.graph import unlinked_labels
from zoo.heads import HEADS, build_head
from zoo.heads.head import Head
from zoo.lookup import InputError


def heard_by(target: int, graph: Data, weights: Tensor, candidates: int) -> list[int]:
    """The labels that a label hears: its neighbours, then as many others, the most similar ones first."""
    neighbours = [j for j in range(NUM_LABELS) if weights[j, target] != 0]
    others = [j for j in range(NUM_LABELS) if j not in neighbours]
    x = graph.x
    others.sort(key=lambda j: -float(x[j] @ x[target] / (x[j].norm() * x[target].norm())))
    return neighbours + others[:candidates]


def learned_weights(head: Head, graph: Data, weights: Tensor, candidates: int) -> tuple[Tensor, list[Tensor]]:
    """The refined matrix (target, source), and what was added to each of its edges."""
    p = dict(head.named_parameters())
    refined, corrections = torch.zeros(NUM_LABELS, NUM_LABELS), []
    for target in range(NUM_LABELS):
        query = p["label_graph.query.weight"] @ graph.x[target] + p["label_graph.query.bias"]
        sources = heard_by(target, graph, weights, candidates)
        for source in sources:
            key = p["label_graph.key.weight"] @ graph.x[source] + p["label_graph.key.bias"]
            corrections.append(query @ key / len(sources))
            refined[target, source] = weights[source, target] + corrections[-1]
    return refined, corrections


def agcn_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor, candidates: int = 2) -> Tensor:
    p = dict(head.named_parameters())
    refined, _ = learned_weights(head, graph, weights, candidates)
    hidden = F.leaky_relu(refined @ graph.x @ p["convs.0.conv.lin.weight"].T, 0.2)
    return feature_map.amax((2, 3)) @ (refined @ hidden @ p["convs.1.conv.lin.weight"].T).T


FORMULAS = {"agcn": agcn_logits}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("candidates", [0, 1, 2, 100])
def test_logits_equal_the_formula(name, candidates, graph, weights, feature_map):
    head = small_head(name, NUM_FEATURES, graph, candidates=candidates)
    perturb(head)
    expected = FORMULAS[name](head, graph, weights, feature_map, candidates)
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("candidates", [0, 2, 100])
def test_the_penalty_is_the_mean_distance_to_the_given_graph(candidates, graph, weights):
    head = small_head("agcn", NUM_FEATURES, graph, candidates=candidates, penalty_weight=0.3)
    perturb(head)
    _, corrections = learned_weights(head, graph, weights, candidates)
    torch.testing.assert_close(head.penalty(), 0.3 * torch.stack(corrections).abs().mean())
    assert small_head("agcn", NUM_FEATURES, graph, penalty_weight=0.0).penalty() == 0


def test_all_pairs_without_links_are_the_graph_of_the_paper(graph, feature_map):
    """I + Q K^T / L, with queries and keys half as wide as the vectors, but for its normalisation."""
    alone = unlinked_labels(graph.label_names, torch.randn(NUM_LABELS, 6))
    head = build_head("agcn", NUM_FEATURES, alone)
    perturb(head)
    assert head.label_graph.query.weight.shape == head.label_graph.key.weight.shape == (3, 6)
    queries, keys = head.label_graph.query(alone.x), head.label_graph.key(alone.x)
    (source, target), weight = head.weighted_edges()
    dense = torch.zeros(NUM_LABELS, NUM_LABELS).index_put((target, source), weight)
    torch.testing.assert_close(dense, torch.eye(NUM_LABELS) + queries @ keys.T / NUM_LABELS)
    torch.testing.assert_close(head.penalty(), (dense - torch.eye(NUM_LABELS)).abs().mean())


def test_it_is_mlgcn_while_nothing_is_learned(graph, feature_map):
    head, mlgcn = build_head("agcn", NUM_FEATURES, graph), build_head("mlgcn", NUM_FEATURES, graph)
    head.convs.load_state_dict(mlgcn.convs.state_dict())
    assert not torch.allclose(head(feature_map), mlgcn(feature_map), atol=1e-3)
    with torch.no_grad():
        head.label_graph.query.weight.zero_()
        head.label_graph.query.bias.zero_()
    torch.testing.assert_close(head(feature_map), mlgcn(feature_map), atol=1e-5, rtol=1e-4)


def test_training_on_the_penalty_alone_leads_back_to_the_given_graph(graph, weights):
    head = small_head("agcn", NUM_FEATURES, graph)
    optimizer = torch.optim.Adam(
        [*head.label_graph.query.parameters(), *head.label_graph.key.parameters()], lr=0.02
    )
    before = head.penalty().item()
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 200)
        optimizer.zero_grad()
        head.penalty().backward()
        optimizer.step()
    assert before > 0.02
    assert head.penalty().item() < 0.05 * before
    (source, target), weight = head.weighted_edges()
    torch.testing.assert_close(weight, weights[source, target], atol=0.02, rtol=0)


def test_candidates_bound_the_edges_where_labels_are_many():
    labels = 150
    x = torch.randn(labels, 4)
    graph = graph_of(torch.eye(labels).roll(1, 1) + torch.eye(labels), x)
    (source, target), _ = build_head("agcn", 8, graph).weighted_edges()
    assert target.bincount().tolist() == [102] * labels  # itself, one neighbour, and 100 more
    assert len({*zip(source.tolist(), target.tolist(), strict=True)}) == len(source)
    (source, target), _ = build_head("agcn", 8, graph, candidates=200).weighted_edges()
    assert len(source) == labels**2


def test_it_takes_any_convolution(graph, feature_map):
    head = small_head("agcn", NUM_FEATURES, graph, conv="GATConv")
    perturb(head)
    head(feature_map).square().sum().backward()
    assert head.label_graph.query.weight.grad.any()


def test_only_agcn_asks_for_a_penalty(graph):
    penalties = {name: float(small_head(name, NUM_FEATURES, graph).penalty().detach()) for name in HEADS}
    assert {name for name, penalty in penalties.items() if penalty} == {"agcn"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": -1}, "candidates must be 0 or more, not -1"),
        ({"width": 0}, "width must be at least 1, not 0"),
        ({"penalty_weight": -0.1}, "penalty_weight must be 0 or more, and finite, not -0.1"),
        ({"penalty_weight": math.nan}, "penalty_weight must be 0 or more, and finite, not nan"),
        ({"penalty_weight": math.inf}, "penalty_weight must be 0 or more, and finite, not inf"),
        ({"conv": "SAGEConv"}, "conv 'SAGEConv' cannot use edge weights"),
    ],
)
def test_options_out_of_range(options, message, graph):
    with pytest.raises(InputError, match=message):
        small_head("agcn", NUM_FEATURES, graph, **options)


def test_it_asks_for_label_vectors():
    with pytest.raises(InputError, match="needs label vectors, and this label space has none"):
        build_head("agcn", NUM_FEATURES, unlinked_labels(["dog", "cat"]))
