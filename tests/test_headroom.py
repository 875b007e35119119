"""Headroom: nothing where labels tell nothing of each other, everything where they tell all, and the photo sets."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import pairwise_targets
from scipy import special

from zoo import headroom
from zoo.annotations import Annotations
from zoo.data import open_dataset
from zoo.headroom import Headroom, estimate_headroom
from zoo.lookup import InputError

# mAP of a linear model on frozen features of these photos.
LINEAR = {"posters": 0.30, "coco18": 0.63, "ucmerced": 0.95}


def estimate(targets: np.ndarray, **options: object) -> Headroom:
    return estimate_headroom(Annotations.from_array(targets.astype(np.int8)), **options)  # type: ignore[arg-type]


def independent(num_images: int = 4000, num_labels: int = 12) -> np.ndarray:
    return (np.random.default_rng(0).random((num_images, num_labels)) < 0.2).astype(np.int8)


def one_of(num_labels: int, num_images: int = 3000) -> np.ndarray:
    return np.eye(num_labels, dtype=np.int8)[np.random.default_rng(0).integers(0, num_labels, num_images)]


def test_labels_that_tell_nothing_of_each_other_leave_nothing_to_gain() -> None:
    found = estimate(independent())
    assert found.labels_alone == pytest.approx(found.chance, abs=0.01)
    assert [base for base, _ in found.gains] == [0.3, 0.5, 0.7, 0.8, 0.9, 0.95]
    for base, both in found.gains:
        assert both == pytest.approx(base, abs=0.005)


def test_labels_that_tell_all_of_each_other_leave_all_to_gain() -> None:
    found = estimate(one_of(4))
    assert found.chance == pytest.approx(0.25, abs=0.01)
    assert found.labels_alone > 0.999
    assert all(both > 0.999 for _, both in found.gains)


def test_it_is_near_what_the_probabilities_that_images_were_drawn_with_give() -> None:
    """Of a pairwise model the log-odds given all other labels are known exactly."""
    random = np.random.default_rng(1)
    couplings = np.triu(random.normal(size=(10, 10)), 1)
    couplings += couplings.T
    log_odds = random.uniform(-2.5, -1, 10)
    targets = pairwise_targets(log_odds, couplings, 20_000)
    exact = log_odds + targets @ couplings
    noise = random.normal(size=targets.shape)

    def mean_ap(scores: np.ndarray) -> float:
        from sklearn.metrics import average_precision_score

        return float(np.mean([average_precision_score(targets[:, i], scores[:, i]) for i in range(10)]))

    image = 1.2 * targets + noise
    base, both = mean_ap(image), mean_ap(exact + 1.2 * image)
    found = estimate(targets, base=(base,))
    assert found.labels_alone == pytest.approx(mean_ap(special.expit(exact)), abs=0.02)
    assert found.gains[0] == (base, pytest.approx(both, abs=0.02))
    assert both - base > 0.05, "there is something to be found"


def test_a_better_image_gains_less_and_ends_higher() -> None:
    targets = np.concatenate([one_of(5), independent(3000, 5)], axis=1)
    found = estimate(targets)
    both = [value for _, value in found.gains]
    gain = [value - base for base, value in found.gains]
    assert both == sorted(both)
    assert gain == sorted(gain, reverse=True)
    assert min(gain) > 0.005


@pytest.mark.parametrize("absent", [0, -1])
def test_unknown_labels_tell_nothing_and_are_not_predicted(absent: int) -> None:
    targets = one_of(4, 6000)
    hidden = np.random.default_rng(1).random(targets.shape) < 0.3
    rows, columns = np.nonzero(~hidden if absent else hidden | (targets == 1))
    value = np.where(hidden, -1, targets)[rows, columns]
    codes = np.where(value == 0, -2, value)
    annotations = Annotations.from_entries(rows, columns, codes, targets.shape, absent=absent)
    found = estimate_headroom(annotations)
    assert found.chance == pytest.approx(0.25, abs=0.01)
    assert 0.6 < found.labels_alone < 0.99, "less than with everything known, and more than chance"


def test_rare_labels_are_not_predicted_and_a_part_of_many_images_stands_for_all() -> None:
    targets = independent(3000)
    targets[:, 3] = 0
    targets[:5, 3] = 1
    targets[:, 4] = 1
    found = estimate(targets, max_images=2000)
    assert (found.num_images, found.num_labels, found.skipped) == (2000, 10, 2)
    assert "10 labels of 2,000 images" in str(found)
    assert "(2 too rare to tell)" in str(found)


def test_only_so_many_labels_are_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headroom, "MAX_LABELS", 3)
    found = estimate(one_of(8))
    assert found.num_labels == 3
    assert found.labels_alone > 0.999, "from all the others"


def test_a_seed_says_it_all() -> None:
    assert estimate(independent(500)) == estimate(independent(500))
    assert estimate(independent(500)) != estimate(independent(500), seed=1)


def test_a_base_that_chance_reaches_is_left_out() -> None:
    found = estimate(one_of(2), base=(0.3, 0.5, 0.8))
    assert [base for base, _ in found.gains][-1] == 0.8
    assert 0.3 not in [base for base, _ in found.gains]


def test_what_cannot_be_told() -> None:
    with pytest.raises(
        InputError, match=r"1 of 2 labels have 10 positives and 10 negatives in each half of 100"
    ):
        estimate(np.stack([np.arange(100) % 2, np.zeros(100)], axis=1))
    with pytest.raises(InputError, match=r"between 0 and 1, not 1\.5"):
        estimate(independent(), base=(0.5, 1.5))
    with pytest.raises(InputError, match="0 of 3 labels"):
        estimate(np.zeros((0, 3)))


def test_the_words() -> None:
    lines = str(Headroom(1000, 5, 0, 0.1, 0.25, ((0.5, 0.61),))).splitlines()
    assert lines[0].endswith("5 labels of 1,000 images are predicted with mAP 0.250,")
    assert lines[3].split() == ["0.50", "0.610", "+0.110"]
    assert max(map(len, lines)) <= 100


@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="needs $ZOO_DATA, the folder of photo sets")
def test_posters_have_more_of_it_than_objects_and_these_more_than_aerial_photos() -> None:
    gain = {}
    for name, base in LINEAR.items():
        path = Path(os.environ["ZOO_DATA"]) / name / "labels.csv"
        annotations = open_dataset(path, check_images=False).annotations
        ((_, both),) = estimate_headroom(annotations, base=(base,)).gains
        gain[name] = both - base
    assert gain["posters"] > 2 * gain["coco18"] > 2 * gain["ucmerced"] > 0
