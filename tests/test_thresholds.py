"""What thresholds leave of a label graph, against slow loops, and the words for it."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.counts import LabelCounts, count_labels, label_pairs
from zoo.thresholds import Connectivity, connectivity, threshold_for


def names_of(num_labels: int) -> list[str]:
    return [f"label {i:02}" for i in range(num_labels)]


def random_counts(seed: int, num_labels: int = 15, unknown: bool = False) -> LabelCounts:
    random = np.random.default_rng(seed)
    targets = (random.random((80, num_labels)) < random.uniform(0, 0.15, num_labels)).astype(np.int8)
    if unknown:
        targets[random.random(targets.shape) < 0.2] = -1
    return count_labels(targets, names_of(num_labels))


def slow_components(counts: LabelCounts, threshold: float) -> list[set[str]]:
    """By merging the ends of one edge after the other."""
    sets = [{name} for name in counts.label_names]
    for pair in label_pairs(counts, at_least=threshold):
        ends = [group for group in sets if group & {pair.given, pair.label}]
        sets = [group for group in sets if group not in ends] + [set().union(*ends)]
    return sets


@pytest.mark.parametrize("seed", range(6))
def test_components_and_isolated_labels_are_those_of_a_slow_loop(seed: int) -> None:
    counts = random_counts(seed, unknown=seed > 2)
    thresholds = [0.0, 0.1, 0.2, 0.35, 0.5, 1.0]
    for row, threshold in zip(connectivity(counts, thresholds), thresholds, strict=True):
        sets = slow_components(counts, threshold)
        several = [group for group in sets if len(group) > 1]
        assert row.edges == len(label_pairs(counts, at_least=threshold))
        assert set(row.isolated) == {name for group in sets if len(group) == 1 for name in group}
        assert row.components == len(several)
        assert row.largest == max(map(len, several), default=0)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_the_largest_threshold_that_leaves_a_share_of_labels_an_edge(seed: int, share: float) -> None:
    counts = random_counts(seed)
    best = threshold_for(counts, share)
    hundredths = np.arange(1, 101) / 100
    enough = [
        tau
        for tau, row in zip(hundredths, connectivity(counts, hundredths.tolist()), strict=True)
        if 1 - len(row.isolated) / 15 >= share - 1e-9
    ]
    assert best == (max(enough) if enough else None)


def test_the_words_of_a_row() -> None:
    assert str(Connectivity(0.4, 1206, ("a",), 2, 17)) == (
        "threshold 0.4     1,206 edges, 1 label without any; 2 components, largest 17"
    )
    assert (
        str(Connectivity(0.5, 0, ("a", "b"), 0, 0)) == "threshold 0.5         0 edges, 2 labels without any"
    )
