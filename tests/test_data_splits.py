from __future__ import annotations

import sys

import numpy as np
import pytest

from zoo.data.splits import SPLITS, complete_splits, stratified_split
from zoo.lookup import InputError


def random_targets(num_images: int, num_labels: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((num_images, num_labels)) < rng.uniform(0.03, 0.4, num_labels)).astype(np.int8)


def test_each_label_keeps_its_share():
    targets = random_targets(2000, 12)
    splits = stratified_split(targets)
    for name, fraction in zip(SPLITS, (0.6, 0.2, 0.2), strict=True):
        assert (splits == name).mean() == pytest.approx(fraction, abs=0.01)
        wanted = fraction * targets.sum(0)
        # A random split strays by the binomial's sqrt(p (1-p) n), 9 positives here in the mean.
        assert np.abs(targets[splits == name].sum(0) - wanted).max() <= 3


def test_same_seed_same_splits():
    targets = random_targets(300, 5)
    np.testing.assert_array_equal(stratified_split(targets, seed=3), stratified_split(targets, seed=3))
    assert (stratified_split(targets, seed=3) != stratified_split(targets, seed=4)).any()


def test_images_in_sorted_order_are_mixed():
    splits = stratified_split(np.zeros((300, 2), dtype=np.int8))
    assert all(0.4 < (part == "train").mean() < 0.8 for part in np.split(splits, 6))


def test_groups_stay_together_and_are_the_units():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 200, 2000).astype(str)
    per_group = random_targets(200, 6)
    # Only some images of a positive group are positive.
    targets = per_group[groups.astype(int)] * (rng.random((2000, 6)) < 0.5).astype(np.int8)
    splits = stratified_split(targets, groups)
    for group in np.unique(groups):
        assert len(np.unique(splits[groups == group])) == 1
    any_positive = np.stack([targets[groups == g].any(0) for g in np.unique(groups)])
    of_group = np.array([splits[groups == g][0] for g in np.unique(groups)])
    for name, fraction in zip(SPLITS, (0.6, 0.2, 0.2), strict=True):
        assert np.abs(any_positive[of_group == name].sum(0) - fraction * any_positive.sum(0)).max() <= 3


@pytest.mark.parametrize("seed", range(8))
def test_three_positives_reach_all_three_splits(seed):
    rng = np.random.default_rng(seed)
    targets = np.zeros((200, 20), dtype=np.int8)
    for label in range(20):
        targets[rng.choice(200, 3 + label // 10, replace=False), label] = 1
    splits = stratified_split(targets, seed=seed)
    per_split = np.stack([targets[splits == name].sum(0) for name in SPLITS])
    # One may stay behind where each unit that could move is another label's last; unmended it is 10.
    assert (per_split == 0).sum() <= 1


def test_unknown_is_not_positive():
    targets = random_targets(500, 4)
    unknown = np.where((targets == 0) & (np.arange(500) % 3 == 0)[:, None], -1, targets).astype(np.int8)
    np.testing.assert_array_equal(stratified_split(targets), stratified_split(unknown))


@pytest.mark.parametrize(
    "targets",
    [np.ones((30, 1)), np.zeros((30, 2)), random_targets(30, 1)],
    ids=["one label, always", "no positives", "one label"],
)
def test_degenerate_targets_split(targets):
    splits = stratified_split(targets.astype(np.int8))
    assert sorted((splits == name).sum() for name in SPLITS) == pytest.approx([6, 6, 18], abs=1)


@pytest.mark.parametrize(
    ("fractions", "empty"), [((0.8, 0.2, 0.0), "test"), ((0.7, 0.0, 0.3), "val"), ((0.0, 0.5, 0.5), "train")]
)
def test_a_share_of_zero_gets_nothing(fractions, empty):
    splits = stratified_split(random_targets(203, 5), fractions=fractions)
    assert set(splits) == set(SPLITS) - {empty}


def test_too_few_to_fill_the_splits():
    assert set(stratified_split(np.eye(30, dtype=np.int8))) == {"train"}
    assert len(set(stratified_split(random_targets(10, 2), np.arange(10) % 2))) <= 2
    assert stratified_split(random_targets(0, 2)).shape == (0,)


def test_wrong_fractions_and_missing_library(monkeypatch):
    targets = random_targets(10, 2)
    for fractions in ((0.6, 0.3, 0.2), (1.2, -0.1, -0.1)):
        with pytest.raises(InputError, match="sum to 1"):
            stratified_split(targets, fractions=fractions)
    monkeypatch.setitem(sys.modules, "iterstrat.ml_stratifiers", None)
    with pytest.raises(InputError, match=r"pip install 'label-graph-zoo\[train\]'"):
        stratified_split(targets)


def test_complete_splits_makes_all_three_where_none_is_given():
    targets = random_targets(400, 4)
    none = np.full(400, "")
    np.testing.assert_array_equal(complete_splits(none, targets, seed=5), stratified_split(targets, seed=5))


@pytest.mark.parametrize(("given", "missing"), [("test", "val"), ("val", "test")])
def test_the_missing_split_is_carved_out_of_train(given, missing):
    targets = random_targets(800, 4)
    before = np.where(np.arange(800) % 4 == 0, given, "train")
    after = complete_splits(before, targets)
    np.testing.assert_array_equal(after == given, before == given)
    carved = after == missing
    assert carved.sum() == pytest.approx(600 * 0.25, abs=2)  # .2 / (.6 + .2) of train
    train = targets[before == "train"]
    assert np.abs(targets[carved].sum(0) - train.sum(0) * 0.25).max() <= 2
    assert (before == ("train" if given == "val" else given)).any()


def test_complete_splits_leaves_complete_ones_alone_and_counts_blank_as_train():
    targets = random_targets(9, 2)
    given = np.array(["train", "val", "test"] * 3)
    np.testing.assert_array_equal(complete_splits(given, targets), given)
    blank = np.where(given == "train", "", given)
    np.testing.assert_array_equal(complete_splits(blank, targets), given)


def test_complete_splits_keeps_groups_in_one_piece():
    targets = random_targets(120, 3)
    groups = np.arange(120) // 4
    given = np.where(groups < 6, "test", "").astype("<U5")
    splits = complete_splits(given, targets, groups)
    assert {len(set(splits[groups == g])) for g in range(30)} == {1}
    assert set(splits) == set(SPLITS)
    given[0] = "train"
    with pytest.raises(InputError, match=r"1 group\(s\) lie in more than one split: 0 \(test, train\)"):
        complete_splits(given, targets, groups)


def test_complete_splits_refuses_nonsense():
    targets = random_targets(4, 2)
    with pytest.raises(InputError, match=r"unknown split 'tets'. Did you mean test"):
        complete_splits(np.array(["train", "train", "tets", "val"]), targets)
    with pytest.raises(InputError, match="no image is in train"):
        complete_splits(np.array(["test", "val", "test", "val"]), targets)
