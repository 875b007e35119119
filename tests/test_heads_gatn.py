"""GATN against its formulas, and what its correlation matrix promises."""

from __future__ import annotations

import math

import pytest
import torch
from small_heads import EMBEDDING, NUM_FEATURES, NUM_LABELS, perturb, small_head
from torch import Tensor
from torch_geometric.data import Data

from zoo.controls import control
from zoo.graph import unlinked_labels
from zoo.heads import build_head, head_options
from zoo.heads.gatn import PRIORS, GATNHead
from zoo.heads.head import Head
from zoo.label_spaces import label_space
from zoo.lookup import InputError


def cosine_prior(graph: Data, threshold: float) -> Tensor:
    """Pair of labels by pair of labels."""
    near = torch.zeros(NUM_LABELS, NUM_LABELS)
    for i in range(NUM_LABELS):
        for j in range(NUM_LABELS):
            cosine = graph.x[i] @ graph.x[j] / (graph.x[i].norm() * graph.x[j].norm())
            near[i, j] = float(i != j and cosine >= threshold)
    return torch.stack([0.25 * column / (column.sum() + 1e-6) for column in near.T], dim=1)


def attended(p: dict[str, Tensor], rows: Tensor, attention: int, attention_heads: int) -> Tensor:
    """Label by label and attention head by attention head."""
    q = {key.removeprefix(f"correlation.attentions.{attention}."): value for key, value in p.items()}
    size = len(q["query.weight"]) // attention_heads
    result = []
    for i in range(NUM_LABELS):
        parts = []
        for h in range(attention_heads):
            part = slice(h * size, (h + 1) * size)
            query = q["query.weight"][part] @ rows[i] + q["query.bias"][part]
            keys = [q["key.weight"][part] @ row for row in rows]
            values = [q["value.weight"][part] @ row + q["value.bias"][part] for row in rows]
            shares = torch.stack([query @ key / math.sqrt(size) for key in keys]).exp()
            parts.append(sum(s / shares.sum() * v for s, v in zip(shares, values, strict=True)))
        result.append(q["output.weight"] @ torch.cat(parts) + q["output.bias"])
    return torch.stack(result)


def correlation(head: Head, prior: Tensor, hops: int, attention_heads: int) -> Tensor:
    p = dict(head.named_parameters())
    rows = torch.stack([(row - row.mean()) / (row.var(unbiased=False) + 1e-6).sqrt() for row in prior])
    rows = rows * p["correlation.norm.weight"] + p["correlation.norm.bias"]
    a = attended(p, rows, 0, attention_heads)
    for hop in range(1, hops):
        a = a @ attended(p, rows, hop, attention_heads)
    a = a + torch.eye(NUM_LABELS)
    d = torch.diag(a.abs().sum(1) ** -0.5)
    return (a @ d).T @ d


def gatn_logits(
    head: Head, graph: Data, weights: Tensor, feature_map: Tensor, hops: int = 2, prior: Tensor | None = None
) -> Tensor:
    p = dict(head.named_parameters())
    prior = cosine_prior(graph, 0.2) if prior is None else prior
    s = correlation(head, prior, hops, attention_heads=3)
    hidden = s @ graph.x @ p["convs.0.conv.lin.weight"].T
    classifiers = s @ torch.where(hidden > 0, hidden, 0.2 * hidden) @ p["convs.1.conv.lin.weight"].T
    return feature_map.amax((2, 3)) @ classifiers.T


FORMULAS = {"gatn": gatn_logits}


@pytest.mark.parametrize("name", FORMULAS)
def test_logits_equal_the_formula(name, graph, weights, feature_map):
    head = small_head(name, NUM_FEATURES, graph)
    perturb(head)
    expected = FORMULAS[name](head, graph, weights, feature_map)
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("hops", [1, 3])
def test_as_many_attended_matrices_as_hops(hops, graph, weights, feature_map):
    head = small_head("gatn", NUM_FEATURES, graph, hops=hops)
    perturb(head)
    expected = gatn_logits(head, graph, weights, feature_map, hops=hops)
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-4)


def test_co_occurrence_as_the_prior(graph, weights, feature_map):
    head = small_head("gatn", NUM_FEATURES, graph, prior="edges")
    perturb(head)
    neighbours = weights.clone().fill_diagonal_(0)
    expected = gatn_logits(head, graph, weights, feature_map, prior=neighbours)
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-4)


def test_which_prior_hears_what(graph):
    """The control ``identity`` takes the edges away, ``random_vectors`` the meaning of the vectors."""
    for name, deaf, hears in (
        ("cosine", "identity", "random_vectors"),
        ("edges", "random_vectors", "identity"),
    ):
        prior = PRIORS[name](graph, 0.2)
        assert torch.equal(PRIORS[name](control(graph, deaf), 0.2), prior)
        assert not torch.equal(PRIORS[name](control(graph, hears), 0.2), prior)


def test_the_threshold_cuts_and_no_label_is_its_own_neighbour(graph):
    for threshold, pairs in ((-1.0, NUM_LABELS * (NUM_LABELS - 1)), (1.0, 0)):
        prior = small_head("gatn", NUM_FEATURES, graph, threshold=threshold).correlation.prior
        assert int(prior.count_nonzero()) == pairs
        assert not prior.diagonal().any()
    torch.testing.assert_close(PRIORS["cosine"](graph, -1.0).sum(0), torch.full((NUM_LABELS,), 0.25))


def test_negative_row_sums_stay_finite(graph, feature_map):
    """Where the inverse root of a plain row sum is NaN."""
    head = small_head("gatn", NUM_FEATURES, graph)
    first, second = head.correlation.attentions
    with torch.no_grad():
        first.output.bias.fill_(2.0)
        second.output.bias.fill_(-2.0)
    rows = head.correlation.norm(head.correlation.prior)
    assert ((first(rows) @ second(rows)).sum(1) + 1 < 0).all()
    assert head(feature_map).isfinite().all()


@pytest.mark.parametrize("seed", range(5))
def test_starts_finite_and_of_mlgcns_size_on_coco(seed):
    torch.manual_seed(seed)
    graph = label_space("coco2014")
    head, mlgcn = (build_head(name, 64, graph) for name in ("gatn", "mlgcn"))
    size, reference = (h.classifiers().square().mean().sqrt() for h in (head, mlgcn))
    assert 0.02 < size / reference < 2
    assert sum(p.numel() for p in head.correlation.attentions.parameters()) == 8 * 80**2 + 2 * 3 * 80


@pytest.mark.parametrize(
    ("num_labels", "attention_heads", "width"), [(80, 5, 80), (7, 5, 5), (7, 3, 6), (2, 5, 5)]
)
def test_the_default_width_is_that_of_the_labels(num_labels, attention_heads, width):
    labels = unlinked_labels([str(i) for i in range(num_labels)], torch.randn(num_labels, EMBEDDING))
    head = build_head("gatn", NUM_FEATURES, labels, attention_heads=attention_heads)
    assert head.correlation.attentions[0].value.out_features == width
    assert head.classifiers().isfinite().all()


def test_asks_for_label_vectors():
    with pytest.raises(InputError, match="needs label vectors, and this label space has none"):
        build_head("gatn", NUM_FEATURES, unlinked_labels(["dog", "cat"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": "cosines"}, r"unknown prior 'cosines'\. Did you mean cosine\? Known: cosine, edges"),
        ({"threshold": 1.5}, r"threshold must lie in \[-1, 1\], not 1.5"),
        ({"threshold": math.nan}, r"threshold must lie in \[-1, 1\], not nan"),
        ({"hops": 0}, "hops and attention_heads must be at least 1, not 0 and 5"),
        ({"attention_heads": 0}, "hops and attention_heads must be at least 1, not 2 and 0"),
        ({"attention_width": 12}, "multiple of the 5 attention heads that share it, not 12"),
        ({"attention_width": 0}, "multiple of the 5 attention heads that share it, not 0"),
    ],
)
def test_options_out_of_range(options, message, graph):
    with pytest.raises(InputError, match=message):
        GATNHead(NUM_FEATURES, graph, **options)


def test_options():
    assert head_options("gatn") == {
        "prior": "cosine",
        "threshold": 0.2,
        "hops": 2,
        "attention_heads": 5,
        "attention_width": None,
        "widths": (1024,),
        "pooling": "max",
        "dropout": 0.0,
        "bias": False,
    }
