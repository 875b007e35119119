"""What each regime takes away from the training split, and what it leaves alone."""

from __future__ import annotations

import re

import numpy as np
import pytest

from zoo.lookup import InputError
from zoo.protocol import Protocol
from zoo.regimes import REGIMES, draw, parse_regime


def test_all_takes_nothing(colours):
    train = colours.split("train")
    rows, left = draw("all", train, 0)
    assert left is train
    assert len(rows) == len(train)


@pytest.mark.parametrize(("regime", "number"), [("photos:count=5", 5), ("photos:share=0.5", None)])
def test_photos(regime, number, colours):
    train = colours.split("train")
    rows, left = draw(regime, train, 0)
    assert len(left) == len(rows) == (number or round(len(train) / 2))
    assert (left.targets == train.targets[rows]).all()
    assert [*left.images] == [train.images[i] for i in rows.tolist()]
    assert (draw(regime, train, 0)[0] == rows).all()
    assert any((draw(regime, train, seed)[0] != rows).any() for seed in (1, 2, 3))


def test_noise_keeps_how_many_positives_a_label_has(colours):
    train = colours.split("train")
    noisy = draw("noise:share=0.5", train, 0)[1].targets
    assert (noisy.sum(0) == train.targets.sum(0)).all()
    wrong = ((noisy == 1) & (train.targets == 0)).sum(0)
    absent = (train.targets == 0).sum(0)
    assert (wrong == np.minimum(np.round(0.5 * train.targets.sum(0)), absent)).all()


def test_missing_drops_positives_alone(colours):
    train = colours.split("train")
    targets = draw("missing:share=0.5", train, 0)[1].targets
    assert (targets <= train.targets).all()
    assert 0 < (targets == 1).sum() < (train.targets == 1).sum()
    assert not (targets == -1).any()


def test_unknown_hides_entries_and_changes_none(colours):
    train = colours.split("train")
    targets = draw("unknown:share=0.5", train, 0)[1].targets
    hidden = targets == -1
    assert 0.2 < hidden.mean() < 0.8
    assert (targets[~hidden] == train.targets[~hidden]).all()


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
        ("noise:share=1.5", "must lie in (0, 1]"),
        ("missing:share=1", "leaves no label of any photo"),
    ],
)
def test_regimes_that_do_not_fit_the_data(regime, message, colours):
    with pytest.raises(InputError, match=re.escape(message)):
        draw(regime, colours.split("train"), 0)
