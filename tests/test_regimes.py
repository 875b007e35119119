"""What each regime takes away from the training split, and what it leaves alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from zoo.annotations import Annotations
from zoo.data import ImageDataset
from zoo.lookup import InputError
from zoo.protocol import Protocol
from zoo.regimes import REGIMES, draw, parse_regime


def test_all_takes_nothing(colours):
    train = colours.split("train")
    drawn = draw("all", train, 0)
    assert drawn.data is train
    assert len(drawn.rows) == len(train)
    assert drawn.labels.tolist() == list(range(len(train.label_names)))


@pytest.mark.parametrize(("regime", "number"), [("photos:count=5", 5), ("photos:share=0.5", None)])
def test_photos(regime, number, colours):
    train = colours.split("train")
    drawn = draw(regime, train, 0)
    rows, left = drawn.rows, drawn.data
    assert len(left) == len(rows) == (number or round(len(train) / 2))
    assert (left.targets == train.targets[rows]).all()
    assert [*left.images] == [train.images[i] for i in rows.tolist()]
    assert (draw(regime, train, 0).rows == rows).all()
    assert any((draw(regime, train, seed).rows != rows).any() for seed in (1, 2, 3))


def test_noise_keeps_how_many_positives_a_label_has(colours):
    train = colours.split("train")
    noisy = draw("noise:share=0.5", train, 0).data.targets
    assert (noisy.sum(0) == train.targets.sum(0)).all()
    wrong = ((noisy == 1) & (train.targets == 0)).sum(0)
    absent = (train.targets == 0).sum(0)
    assert (wrong == np.minimum(np.round(0.5 * train.targets.sum(0)), absent)).all()


def test_missing_drops_positives_alone(colours):
    train = colours.split("train")
    targets = draw("missing:share=0.5", train, 0).data.targets
    assert (targets <= train.targets).all()
    assert 0 < (targets == 1).sum() < (train.targets == 1).sum()
    assert not (targets == -1).any()


def test_unknown_hides_entries_and_changes_none(colours):
    train = colours.split("train")
    targets = draw("unknown:share=0.5", train, 0).data.targets
    hidden = targets == -1
    assert 0.2 < hidden.mean() < 0.8
    assert (targets[~hidden] == train.targets[~hidden]).all()


@pytest.fixture(scope="module")
def four_labels() -> ImageDataset:
    """300 images with four labels, of which the last is on two training images only."""
    targets = (np.random.default_rng(0).random((300, 4)) < 0.3).astype(np.int8)
    targets[:, 3] = 0
    targets[[0, 1, 299], 3] = 1
    splits = np.repeat(["train", "val", "test"], [200, 50, 50])
    images = [Path(f"{i}.jpg") for i in range(300)]
    return ImageDataset("made up", images, Annotations.from_array(targets), list("abcd"), splits)


@pytest.mark.parametrize("positives", [5, 2, 0])
def test_rare_labels_keep_so_many_positives_and_are_the_ones_tested(positives, four_labels):
    train = four_labels.split("train")
    drawn = draw(f"rare:positives={positives}", train, 1)
    assert len(drawn.labels) == round(3 / 2), "half of the common labels"
    (label,) = drawn.labels[:1]
    assert 3 not in drawn.labels, "a label that is rare already is left alone"
    column, truth = drawn.data.targets[:, label], train.targets[:, label]
    assert (column == 1).sum() == positives
    assert (truth[column == 1] == 1).all()
    if positives:  # what is known to be absent stays known
        assert (column[truth == 0] == 0).all()
    else:
        assert (column == -1).all()
    others = [other for other in range(4) if other not in drawn.labels]
    assert np.array_equal(drawn.data.targets[:, others], train.targets[:, others])
    assert len({tuple(draw("rare:share=0.34", train, seed).labels) for seed in range(9)}) == 3


@pytest.mark.parametrize("name", REGIMES)
def test_every_regime_is_a_protocol(name):
    assert Protocol(regime=name).regime == name
    assert parse_regime(name) == (name, {})


@pytest.mark.parametrize(
    ("regime", "message"),
    [
        ("photo:count=5", "unknown regime 'photo'. Did you mean photos?"),
        ("photos:counts=5", "unknown option of regime 'photos' 'counts'. Did you mean count?"),
        ("photos:count=few", "option of regime 'photos': count: expected int, not 'few'"),
    ],
)
def test_wrong_regimes(regime, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Protocol(regime=regime)


@pytest.mark.parametrize(
    ("regime", "message"),
    [
        ("photos:count=5000", "has 1 to"),
        ("rare:common=5000", "0 labels have 5000 positives"),
        ("rare:positives=30", "rare:positives=30 must lie between 0 and common=20"),
        ("noise:share=1.5", "must lie in (0, 1]"),
        ("missing:share=1", "leaves no label of any photo"),
    ],
)
def test_regimes_that_do_not_fit_the_data(regime, message, colours):
    with pytest.raises(InputError, match=re.escape(message)):
        draw(regime, colours.split("train"), 0)
