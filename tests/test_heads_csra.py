"""Class-specific residual attention against its formula, label by label."""

from __future__ import annotations

import math

import pytest
import torch
from small_heads import NUM_FEATURES, NUM_LABELS, perturb
from torch import Tensor
from torch.export import Dim
from torch_geometric.data import Data

from zoo.heads import build_head, head_options
from zoo.heads.csra import TEMPERATURES
from zoo.heads.head import Head
from zoo.lookup import InputError

HEAD_COUNTS = (1, 2, 4, 6, 8)


def csra_logit(head: Head, image: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """The logit of one label for one image (D, h, w), and its attention (h*w,), position by position."""
    heads = len(head.weight)
    positions = [image[:, y, x] for y in range(image.size(1)) for x in range(image.size(2))]
    logit, maps = torch.zeros(()), []
    for i in range(heads):
        classifier = head.weight[i, label]
        classifier = classifier / classifier.square().sum().sqrt()
        scores = torch.stack([position @ classifier for position in positions])
        if heads > 1 and i == heads - 1:
            attention = torch.zeros(len(positions))
            attention[scores.argmax()] = 1
        else:
            temperature = (1, 2, 4)[i] if heads == 4 else i + 1
            powers = torch.stack([torch.exp(temperature * score) for score in scores])
            attention = powers / powers.sum()
        logit = logit + sum(scores) / len(positions) + head.residual * sum(attention * scores)
        maps.append(attention)
    return logit, sum(maps) / heads


def csra_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    return torch.stack(
        [torch.stack([csra_logit(head, image, i)[0] for i in range(NUM_LABELS)]) for image in feature_map]
    )


FORMULAS = {"csra": csra_logits}


@pytest.mark.parametrize("attention_heads", HEAD_COUNTS)
def test_logits_equal_the_formula(attention_heads, graph, weights, feature_map):
    head = build_head("csra", NUM_FEATURES, graph, attention_heads=attention_heads, residual=0.4)
    perturb(head)
    expected = csra_logits(head, graph, weights, feature_map)
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("attention_heads", HEAD_COUNTS)
def test_attention_maps_equal_the_formula(attention_heads, graph, feature_map):
    head = build_head("csra", NUM_FEATURES, graph, attention_heads=attention_heads)
    perturb(head)
    maps = head.attention_maps(feature_map)
    assert maps.shape == (3, NUM_LABELS, 4, 5)
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(3, NUM_LABELS))
    for image, own in zip(feature_map, maps, strict=True):
        for label in range(NUM_LABELS):
            torch.testing.assert_close(own[label].flatten(), csra_logit(head, image, label)[1])


def test_attention_maps_are_of_standardised_features(graph, feature_map):
    head = build_head("csra", NUM_FEATURES, graph, attention_heads=2)
    mean, std = torch.randn(NUM_FEATURES), torch.rand(NUM_FEATURES) + 0.5
    plain = head.attention_maps((feature_map - mean[:, None, None]) / std[:, None, None])
    head.standardize(mean, std, torch.zeros(NUM_LABELS))
    torch.testing.assert_close(head.attention_maps(feature_map), plain)


@pytest.mark.parametrize("attention_heads", HEAD_COUNTS)
def test_however_many_attention_heads_it_starts_at_the_frequencies(attention_heads, graph):
    head = build_head("csra", NUM_FEATURES, graph, attention_heads=attention_heads)
    log_odds = torch.linspace(-4, 4, NUM_LABELS)
    head.standardize(torch.zeros(NUM_FEATURES), torch.ones(NUM_FEATURES), log_odds)
    logits = head(torch.randn(500, NUM_FEATURES, 2, 3))
    assert (logits.mean(0) - log_odds).abs().max() < 0.3
    assert logits.std(0).max() < 1


def test_without_residual_it_is_average_pooling_and_a_linear_layer(graph, feature_map):
    head = build_head("csra", NUM_FEATURES, graph, residual=0.0)
    classifiers = head.weight[0] / head.weight[0].norm(dim=1, keepdim=True)
    torch.testing.assert_close(head(feature_map), feature_map.mean((2, 3)) @ classifiers.T)


def test_the_size_of_a_classifier_makes_no_difference(graph, feature_map):
    head = build_head("csra", NUM_FEATURES, graph, attention_heads=2)
    before = head(feature_map)
    with torch.no_grad():
        head.weight *= torch.rand(2, NUM_LABELS, 1) + 0.5
    torch.testing.assert_close(head(feature_map), before)


def test_positions_that_tie_for_the_maximum_share_the_attention(graph):
    head = build_head("csra", NUM_FEATURES, graph, attention_heads=8)
    flat = torch.randn(2, NUM_FEATURES, 1, 1).expand(-1, -1, 2, 2)
    torch.testing.assert_close(head.attention_maps(flat), torch.full((2, NUM_LABELS, 2, 2), 0.25))


def test_large_features_overflow_nowhere(graph, feature_map):
    head = build_head("csra", NUM_FEATURES, graph, attention_heads=8)
    head(1e4 * feature_map).sum().backward()
    assert head.weight.grad.isfinite().all()


def test_exports_for_any_batch_and_map(graph, feature_map):
    head = build_head("csra", NUM_FEATURES, graph, attention_heads=2).eval()
    any_size = {0: Dim("b"), 2: Dim("h"), 3: Dim("w")}
    program = torch.export.export(head, (feature_map,), dynamic_shapes=(any_size,))
    other = torch.randn(2, NUM_FEATURES, 6, 3)
    torch.testing.assert_close(program.module()(other), head(other))


def test_temperatures():
    assert tuple(TEMPERATURES) == HEAD_COUNTS
    for number, temperatures in TEMPERATURES.items():
        assert len(temperatures) == number
        assert number == 1 or temperatures[-1] == math.inf


@pytest.mark.parametrize("attention_heads", [0, 3, 99])
def test_other_numbers_of_attention_heads_are_refused(attention_heads, graph):
    with pytest.raises(InputError, match=rf"one of 1, 2, 4, 6, 8 .* not {attention_heads}"):
        build_head("csra", NUM_FEATURES, graph, attention_heads=attention_heads)


@pytest.mark.parametrize("residual", [-0.1, math.inf, math.nan])
def test_range_of_the_residual(residual, graph):
    with pytest.raises(InputError, match=f"residual must be a finite number, 0 or greater, not {residual}"):
        build_head("csra", NUM_FEATURES, graph, residual=residual)


def test_options():
    assert head_options("csra") == {"attention_heads": 1, "residual": 0.1, "dropout": 0.0}
