"""Labels that exclude each other: every group against a search over all sets, and what must be in none."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from zoo import label_groups
from zoo.annotations import Annotations
from zoo.counts import LabelCounts, count_labels
from zoo.label_groups import LabelGroup, exclusive_groups


def counted(targets: np.ndarray) -> tuple[LabelCounts, Annotations]:
    annotations = Annotations.from_array(targets)
    return count_labels(annotations, [f"l{i}" for i in range(targets.shape[1])]), annotations


def one_hot(random: np.random.Generator, num_images: int, num_labels: int) -> np.ndarray:
    return np.eye(num_labels, dtype=np.int8)[random.integers(0, num_labels, num_images)]


def outputs(seed: int = 0, num_images: int = 2000) -> np.ndarray:
    """Two labels of which each image has one, four likewise, and six that are on images as it happens."""
    random = np.random.default_rng(seed)
    others = (random.random((num_images, 6)) < 0.3).astype(np.int8)
    return np.concatenate([one_hot(random, num_images, 2), one_hot(random, num_images, 4), others], axis=1)


def sets(groups: list[LabelGroup], exactly_one: bool = True) -> set[frozenset[str]]:
    return {frozenset(group.labels) for group in groups if group.exactly_one == exactly_one}


def slow_groups(targets: np.ndarray) -> list[tuple[int, ...]]:
    """Every set of at least two labels, each on some image, of which every image has exactly one."""
    labels = np.flatnonzero((targets == 1).any(0))
    return [
        group
        for size in range(2, len(labels) + 1)
        for group in itertools.combinations(labels.tolist(), size)
        if ((targets[:, group] == 1).sum(1) == 1).all()
    ]


def test_the_outputs_of_a_multi_output_task_are_found_from_counts_alone() -> None:
    counts, annotations = counted(outputs())
    for given in (None, annotations):
        found = exclusive_groups(counts, given)
        assert found.complete
        assert sets(found.groups) == {frozenset({"l0", "l1"}), frozenset({"l2", "l3", "l4", "l5"})}
        assert all(group.images == group.with_one == 2000 for group in found.groups)
        assert sets(found.groups, exactly_one=False) == set()


@pytest.mark.parametrize("seed", range(60))
def test_groups_are_those_of_a_search_over_all_sets(seed: int) -> None:
    random = np.random.default_rng(seed)
    parts = [one_hot(random, 30, int(size)) for size in random.integers(2, 4, random.integers(0, 4))]
    chance = (random.random((30, 3)) < random.uniform(0.05, 0.6)).astype(np.int8)
    targets = np.concatenate([*parts, chance], axis=1)
    if seed % 3 == 0:  # and labels that split one of another group, as a hierarchy does
        first = targets[:, :1]
        targets = np.concatenate(
            [targets, first * (part := random.random((30, 1)) < 0.5), first * ~part], axis=1
        )
    targets = targets[:, random.permutation(targets.shape[1])]
    everything = slow_groups(targets)
    found = exclusive_groups(counted(targets)[0])
    mine = [tuple(sorted(int(name[1:]) for name in group.labels)) for group in found.groups]
    assert found.complete
    assert set(mine) <= set(everything)
    taken = [label for group in mine for label in group]
    assert len(taken) == len(set(taken)), "no label is in two groups"
    for group in everything:  # what was left out shares a label with what was found
        assert group in mine or set(group) & set(taken)


def test_one_wrong_annotation_and_there_is_no_exactly_one() -> None:
    for wrong in (1, 0):  # both labels on one image, or none
        targets = outputs()
        targets[0, :2] = wrong
        found = exclusive_groups(counted(targets)[0]).groups
        assert sets(found) == {frozenset({"l2", "l3", "l4", "l5"})}
        assert sets(found, exactly_one=False) == (set() if wrong else {frozenset({"l0", "l1"})})
        if not wrong:
            assert found[-1].with_one == 1999
            assert str(found[-1]).endswith("one on 99.9 % of 2,000 images"), "and not on 100.0 %"


def test_of_a_hierarchy_each_level_is_a_group() -> None:
    random = np.random.default_rng(0)
    species = one_hot(random, 500, 6)
    genus = species.reshape(500, 3, 2).sum(2).astype(np.int8)
    found = exclusive_groups(counted(np.concatenate([species, genus], axis=1))[0])
    assert sets(found.groups) == {
        frozenset({"l6", "l7", "l8"}),
        frozenset({f"l{i}" for i in range(6)}),
    }


def test_labels_on_every_image_or_on_none_are_in_no_group() -> None:
    targets = np.concatenate([outputs()[:, :2], np.ones((2000, 1)), np.zeros((2000, 1))], axis=1)
    found = exclusive_groups(counted(targets.astype(np.int8))[0])
    assert [set(group.labels) for group in found.groups] == [{"l0", "l1"}]
    assert exclusive_groups(counted(np.zeros((0, 3), dtype=np.int8))[0]).groups == []
    assert exclusive_groups(counted(np.ones((5, 1), dtype=np.int8))[0]).groups == []


@pytest.mark.parametrize("absent", [0, -1])
def test_an_output_that_is_unknown_on_some_images_is_a_group_on_the_others(absent: int) -> None:
    targets = outputs()
    unsure = np.random.default_rng(1).random(2000) < 0.3
    targets[unsure, :2] = -1
    rows, columns = np.nonzero(targets != absent)
    codes = np.where(targets[rows, columns] == 0, -2, targets[rows, columns])
    annotations = Annotations.from_entries(rows, columns, codes, targets.shape, absent=absent)
    counts = count_labels(annotations, [f"l{i}" for i in range(12)])
    found = {frozenset(group.labels): group for group in exclusive_groups(counts, annotations).groups}
    assert found[frozenset({"l0", "l1"})].images == (~unsure).sum()
    assert found[frozenset({"l0", "l1"})].exactly_one
    assert found[frozenset({"l2", "l3", "l4", "l5"})].images == 2000
    # Counts alone cannot tell on which images both are known.
    assert sets(exclusive_groups(counts).groups) == {frozenset({"l2", "l3", "l4", "l5"})}


def test_labels_that_are_never_known_together_do_not_exclude_each_other() -> None:
    targets = (np.random.default_rng(0).random((4000, 3)) < 0.4).astype(np.int8)
    targets[:2000, 0] = -1
    targets[2000:, 1] = -1
    counts, annotations = counted(targets)
    assert counts.cooccurrence[0, 1] == 0
    assert exclusive_groups(counts, annotations).groups == []


def test_at_most_one_of_labels_known_in_images_of_their_own_is_counted_where_all_are_known() -> None:
    random = np.random.default_rng(0)
    targets = one_hot(random, 3000, 3)[:, :2]
    targets[random.random(targets.shape) < 0.1] = -1
    counts, annotations = counted(targets)
    (group,) = exclusive_groups(counts, annotations).groups
    both = (targets >= 0).all(1)
    assert (group.images, group.with_one) == (both.sum(), (both & (targets == 1).any(1)).sum())
    assert not group.exactly_one


def test_pairs_that_chance_explains_are_no_group() -> None:
    random = np.random.default_rng(0)
    rare = (random.random((2000, 40)) < 0.02).astype(np.int8)  # most pairs are never together
    counts, _ = counted(rare)
    assert (counts.cooccurrence.toarray() == 0).sum() > 700
    assert exclusive_groups(counts).groups == []
    frequent = np.concatenate([one_hot(random, 2000, 4)[:, :3], rare], axis=1)
    assert sets(exclusive_groups(counted(frequent)[0]).groups, exactly_one=False) == {
        frozenset({"l0", "l1", "l2"})
    }


def test_thousands_of_labels_of_which_each_image_has_one_and_one_of_two() -> None:
    random = np.random.default_rng(0)
    lists = [[f"i{i}", f"s{i % 2}"] for i in random.integers(0, 3000, 20_000)]
    found = exclusive_groups(count_labels(lists))
    sizes = [len(group.labels) for group in found.groups]
    assert sizes == [2, len({labels[0] for labels in lists})]
    assert ", ... (" in str(found.groups[1]), "a message has no 3,000 names"


def test_outputs_are_found_among_thousands_of_other_labels() -> None:
    targets = outputs()[:, :6]
    random = np.random.default_rng(0)
    lists = [
        [f"l{i}" for i in np.flatnonzero(row)] + [f"tag {i}" for i in random.integers(0, 4000, 4)]
        for row in targets
    ]
    found = exclusive_groups(count_labels(lists))
    assert sets(found.groups) == {frozenset({"l0", "l1"}), frozenset({"l2", "l3", "l4", "l5"})}


def test_a_search_that_is_stopped_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_groups, "CHOICES", 1)
    assert not exclusive_groups(counted(outputs())[0]).complete


def test_the_words() -> None:
    assert str(LabelGroup(("cat", "dog"), 1200, 1200)) == "exactly one of cat, dog: on all of 1,200 images"
    assert (
        str(LabelGroup(("cat", "dog"), 1200, 300)) == "at most one of cat, dog: one on 25.0 % of 1,200 images"
    )
    assert not LabelGroup(("cat", "dog", "cow"), 0, 0).exactly_one, (
        "where all are known nowhere, nothing is told"
    )
