"""Thirds of the labels, and the gap between training and test."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.breakdown import by_frequency, chance, frequency_thirds, mean_ap_of_labels, train_gap
from zoo.metrics import average_precision


def test_thirds_go_from_rare_to_frequent():
    thirds = frequency_thirds(np.array([5, 1, 9, 3, 7]))
    assert {name: found.tolist() for name, found in thirds.items()} == {
        "rare": [1, 3],
        "medium": [0, 4],
        "frequent": [2],
    }


def test_map_of_each_third_is_the_mean_over_seeds_and_labels():
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(40, 6, generator=generator) < 0.3).to(torch.int8)
    scores = [torch.rand(40, 6, generator=generator) for _ in range(2)]
    thirds = frequency_thirds(np.arange(6))
    expected = np.mean([average_precision(one, targets).numpy() for one in scores], axis=0)
    found = by_frequency(scores, [targets] * 2, thirds)
    assert list(found.values()) == pytest.approx(
        [expected[:2].mean(), expected[2:4].mean(), expected[4:].mean()]
    )


def test_a_label_counts_for_the_seeds_that_were_asked_for_it():
    targets = [torch.tensor([[1, -1], [0, -1], [0, -1]]), torch.tensor([[1, 0], [0, 1], [0, 1]])]
    scores = [
        torch.tensor([[0.9, 0.9], [0.1, 0.5], [0.2, 0.1]]),
        torch.tensor([[0.1, 0.9], [0.2, 0.5], [0.3, 0.1]]),
    ]
    # First label: first of three, then last of three. Second: of the second seed alone, places two and three.
    expected = [(1 + 1 / 3) / 2, (1 / 2 + 2 / 3) / 2]
    assert mean_ap_of_labels(scores, targets).tolist() == pytest.approx(expected)
    assert chance(targets) == pytest.approx((1 / 3 + (1 / 3 + 2 / 3) / 2) / 2)


def test_the_gap_is_paired_and_absent_where_it_was_not_measured():
    runs = [{"train_mAP": 0.9, "test_mAP": 0.6}, {"train_mAP": 0.8, "test_mAP": 0.7}]
    assert train_gap(runs) == pytest.approx(0.2)
    assert train_gap([{"test_mAP": 0.6}]) is None
