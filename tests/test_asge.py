"""ASGE: vectors whose cosines follow the label graph."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from zoo.asge import MOST_LABELS, asge
from zoo.label_spaces import label_space
from zoo.lookup import InputError


def similarities(edge_index: Tensor, edge_weight: Tensor, num_labels: int) -> Tensor:
    """A, edge by edge, with 0.5 for the most strongly linked pair."""
    a = torch.zeros(num_labels, num_labels, dtype=torch.float64)
    for i, j, weight in zip(*edge_index.tolist(), edge_weight.tolist(), strict=True):
        if i != j:
            a[i, j] += weight / 2
            a[j, i] += weight / 2
    return a / (2 * a.max())


def cosines(vectors: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=2).double()


def between(values: Tensor) -> Tensor:
    """Of the pairs of different labels."""
    return values[~torch.eye(len(values), dtype=torch.bool)]


@pytest.mark.parametrize("name", ["voc2007", "coco2014"])
@pytest.mark.parametrize("normalization", ["mlgcn", "none"])
def test_cosines_follow_the_shipped_graphs(name, normalization):
    graph = label_space(name, normalization=normalization)
    edges, num_labels = (graph.edge_index, graph.edge_weight), len(graph.label_names)
    started = time.perf_counter()
    vectors = asge(*edges, num_labels)
    assert time.perf_counter() - started < 20, "0.3 s on a quiet machine"
    expected = similarities(*edges, num_labels)
    found = cosines(vectors)
    assert torch.corrcoef(torch.stack([between(found), between(expected)]))[0, 1] > 0.999
    assert between(found - expected).abs().max() < 0.01
    assert between(expected).max() == 0.5
    isolated = expected.sum(1) == 0
    assert isolated.sum() == 2, "labels without a neighbour are in these graphs"
    assert between(found)[between(isolated[:, None].expand_as(found))].abs().max() < 0.01, "at right angles"


def test_three_labels_by_hand():
    """0 and 1 are linked one way with weight 3, 1 and 2 both ways with weights 1 and 2; self-loops say nothing."""
    edge_index = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 1, 2, 1]])
    vectors = asge(edge_index, torch.tensor([9.0, 3.0, 9.0, 1.0, 2.0]), 3, dim=4, strongest=0.6)
    expected = [[1, 0.6, 0], [0.6, 1, 0.6], [0, 0.6, 1]]
    torch.testing.assert_close(cosines(vectors), torch.tensor(expected).double(), atol=1e-4, rtol=0)


def test_it_is_a_minimum_where_the_cosines_cannot_all_be_met():
    """In two dimensions, against gradient descent by autograd from where it ended."""
    torch.manual_seed(0)
    edge_index = torch.randint(0, 6, (2, 20)).unique(dim=1)
    edge_weight = torch.rand(edge_index.size(1))
    target = similarities(edge_index, edge_weight, 6)
    vectors = asge(edge_index, edge_weight, 6, dim=2, steps=1000).double().requires_grad_()
    loss = between(cosines(vectors) - target).square().sum()
    assert loss > 1, "no exact solution"
    (gradient,) = torch.autograd.grad(loss, vectors)
    assert gradient.abs().max() < 1e-3
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(6, dtype=torch.float64))


def test_the_relaxation_lets_weak_pairs_be():
    graph = label_space("coco2014")
    edges, threshold = (graph.edge_index, graph.edge_weight, 80), 0.1
    expected = between(similarities(*edges))
    strict, relaxed = (between(cosines(asge(*edges, relaxation=r))) for r in (0.0, threshold))
    weak = expected < threshold
    assert 0 < weak.sum() < len(weak)
    assert (relaxed[weak] - expected[weak]).abs().mean() > 10 * (strict[weak] - expected[weak]).abs().mean()
    assert relaxed[weak].max() < threshold + 0.05, "they are free below the threshold only"
    assert (relaxed[~weak] - expected[~weak]).abs().max() < 0.05, "and the strong pairs are met"


def test_the_scale_and_the_order_of_the_weights_do_not_matter():
    graph = label_space("voc2007")
    vectors = asge(graph.edge_index, graph.edge_weight, 20)
    torch.testing.assert_close(asge(graph.edge_index, 7 * graph.edge_weight, 20), vectors)
    torch.testing.assert_close(asge(graph.edge_index.flip(0), graph.edge_weight, 20), vectors)
    order = torch.randperm(len(graph.edge_weight))
    torch.testing.assert_close(asge(graph.edge_index[:, order], graph.edge_weight[order], 20), vectors)


def test_equal_seeds_give_equal_vectors_and_nothing_global_is_drawn():
    graph = label_space("voc2007")
    state = torch.random.get_rng_state()
    first, again, other = (asge(graph.edge_index, graph.edge_weight, 20, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.01)
    torch.testing.assert_close(cosines(first), cosines(other), atol=0.01, rtol=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.inference_mode(), torch.device("meta"):
        assert torch.equal(asge(graph.edge_index, graph.edge_weight, 20, seed=3), first)


@pytest.mark.parametrize("num_labels", [1, 5])
def test_labels_without_any_edge_get_random_directions(num_labels):
    loops = torch.arange(num_labels).expand(2, num_labels)
    vectors = asge(loops, torch.ones(num_labels), num_labels, dim=8)
    assert vectors.shape == (num_labels, 8)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(num_labels))
    assert num_labels == 1 or between(cosines(vectors)).abs().max() < 0.95


@pytest.mark.parametrize(
    ("num_labels", "options", "words"),
    [
        (MOST_LABELS + 1, {}, r"1,000 labels at most, not 1,001: use other label vectors"),
        (3, {"dim": 1}, "2 dimensions, a seed of 0 and 1 step or more, not 1, 0 and 200"),
        (3, {"seed": -1}, "a seed of 0"),
        (3, {"steps": 0}, "1 step or more"),
        (3, {"strongest": 0.0}, r"strongest must lie in \(0, 1\]"),
        (3, {"strongest": 1.5}, r"strongest must lie in \(0, 1\]"),
        (3, {"relaxation": -0.1}, r"relaxation in \[0, 1\], not 0.5 and -0.1: they are cosines"),
    ],
)
def test_what_cannot_be_fitted_is_refused(num_labels, options, words):
    with pytest.raises(InputError, match=words):
        asge(torch.zeros(2, 1, dtype=torch.long), torch.ones(1), num_labels, **options)
