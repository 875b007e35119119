"""Paired bootstrap against draws made one by one, and Holm's correction against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.lookup import InputError
from zoo.metrics import mean_average_precision
from zoo.significance import holm, paired_gains, weighted_mean_ap


def made_up(seed, strength, images=120, labels=4):
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(images, labels, generator=torch.Generator().manual_seed(9)) < 0.3).to(torch.int8)
    noise = torch.randn(targets.shape, generator=generator)
    return (strength * targets + noise).sigmoid(), targets


def test_counting_every_image_once_is_the_map():
    scores, targets = made_up(0, 1.0)
    scores = (scores * 20).round() / 20  # ties
    targets[torch.rand(targets.shape, generator=torch.Generator().manual_seed(3)) < 0.1] = -1
    once = weighted_mean_ap(scores, targets, np.ones((len(targets), 1), dtype=np.float32))
    assert once.item() == pytest.approx(mean_average_precision(scores, targets), abs=1e-6)


def test_counting_an_image_twice_is_having_it_twice():
    scores, targets = made_up(0, 1.0)
    drawn = np.random.default_rng(0).integers(0, len(targets), size=(5, len(targets)))
    times = np.stack([np.bincount(row, minlength=len(targets)) for row in drawn], axis=1).astype(np.float32)
    expected = [mean_average_precision(scores[row], targets[row]) for row in drawn]
    assert weighted_mean_ap(scores, targets, times).tolist() == pytest.approx(expected, abs=1e-6)


def test_a_better_model_is_found_and_an_equal_one_is_not():
    targets = made_up(0, 1.0)[1]
    baseline = [made_up(seed, 1.0)[0] for seed in range(3)]
    better = [made_up(seed, 2.0)[0] for seed in range(3)]
    equal = [made_up(seed + 10, 1.0)[0] for seed in range(3)]
    good, none = paired_gains([better, equal], baseline, [targets] * 3, resamples=400)
    assert good.significant
    assert 0 < good.low < good.mean < good.high
    assert good.mean == pytest.approx(
        np.mean(
            [
                mean_average_precision(a, targets) - mean_average_precision(b, targets)
                for a, b in zip(better, baseline, strict=True)
            ]
        ),
        abs=1e-6,
    )
    assert not none.significant
    assert none.low < 0 < none.high


def test_the_baseline_against_itself():
    scores, targets = made_up(0, 1.0)
    (gain,) = paired_gains([[scores]], [scores], [targets], resamples=50)
    assert (gain.mean, gain.low, gain.high, gain.p) == (0, 0, 0, 1)


def test_groups_are_drawn_whole_so_that_copies_of_a_photo_add_no_certainty():
    scores, targets = made_up(0, 1.0)
    other, _ = made_up(1, 1.3)
    plain = paired_gains([[other]], [scores], [targets], resamples=400)[0]
    many = {
        "models": [[other.repeat(4, 1)]],
        "baseline": [scores.repeat(4, 1)],
        "targets": [targets.repeat(4, 1)],
    }
    groups = np.tile(np.arange(len(targets)), 4)
    grouped, blind = (paired_gains(**many, groups=g, resamples=400)[0] for g in (groups, None))
    assert grouped.high - grouped.low == pytest.approx(plain.high - plain.low, rel=0.15)
    assert blind.high - blind.low < 0.7 * (plain.high - plain.low)


def test_the_wider_the_seeds_differ_the_wider_the_interval():
    targets = made_up(0, 1.0)[1]
    baseline = [made_up(0, 1.0)[0]] * 3
    steady, shaky = [made_up(5, 1.5)[0]] * 3, [made_up(5, strength)[0] for strength in (0.2, 1.5, 2.8)]
    widths = [g.high - g.low for g in paired_gains([steady, shaky], baseline, [targets] * 3, resamples=400)]
    assert widths[1] > 1.5 * widths[0]


def test_seeds_may_be_asked_for_other_labels():
    targets = made_up(0, 1.0)[1]
    asked = [targets.clone(), targets.clone()]
    asked[0][:, :2], asked[1][:, 2:] = -1, -1
    better, worse = made_up(0, 2.0)[0], made_up(1, 1.0)[0]
    (gain,) = paired_gains([[better, better]], [worse, worse], asked, resamples=50)
    expected = np.mean(
        [mean_average_precision(better, one) - mean_average_precision(worse, one) for one in asked]
    )
    assert gain.mean == pytest.approx(expected, abs=1e-6)


def test_holm():
    # Holm (1979): the smallest times 4, the next times 3, ..., never falling.
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_other_numbers_of_seeds_are_refused():
    scores, targets = made_up(0, 1.0)
    with pytest.raises(InputError, match="same seeds"):
        paired_gains([[scores]], [scores, scores], [targets])


def test_a_label_without_positives_is_left_out():
    scores, targets = made_up(0, 1.0)
    expected = mean_average_precision(scores[:, 1:], targets[:, 1:])
    for nothing in (0, -1):
        targets[:, 0] = nothing
        once = weighted_mean_ap(scores, targets, np.ones((len(targets), 1), dtype=np.float32))
        assert once.item() == pytest.approx(expected, abs=1e-6)
