"""Thirds of the labels, and the gap between training and test."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.breakdown import by_frequency, frequency_thirds, train_gap
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
    found = by_frequency(scores, targets, thirds)
    assert list(found.values()) == pytest.approx(
        [expected[:2].mean(), expected[2:4].mean(), expected[4:].mean()]
    )


def test_the_gap_is_paired_and_absent_where_it_was_not_measured():
    runs = [{"train_mAP": 0.9, "test_mAP": 0.6}, {"train_mAP": 0.8, "test_mAP": 0.7}]
    assert train_gap(runs) == pytest.approx(0.2)
    assert train_gap([{"test_mAP": 0.6}]) is None
