"""Labels that imply each other: against slow loops, and hierarchies that annotations contradict."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from zoo.annotations import Annotations
from zoo.counts import count_labels
from zoo.label_hierarchy import Link, always_together, check_hierarchy, hierarchy_tree, implications
from zoo.lookup import InputError

ANIMALS = ["animal", "mammal", "dog", "cat", "puppy", "car"]


def animals(num_images: int = 1000, seed: int = 0) -> np.ndarray:
    """puppy -> dog -> mammal -> animal, cat -> mammal, and car, which has nothing to do with them."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, 6, num_images)  # of which two are no animals
    puppy, dog, cat = kind == 0, kind <= 1, kind == 2
    mammal, animal = dog | cat, kind <= 3
    car = random.random(num_images) < 0.5
    return np.stack([animal, mammal, dog, cat, puppy, car], axis=1).astype(np.int8)


def links(targets: np.ndarray, **options: int) -> list[tuple[str, str]]:
    return [(pair.given, pair.label) for pair in implications(count_labels(targets, ANIMALS), **options)]


def test_a_chain_is_given_by_its_links() -> None:
    targets = animals()
    assert set(links(targets)) == {
        ("puppy", "dog"),
        ("dog", "mammal"),
        ("cat", "mammal"),
        ("mammal", "animal"),
    }
    for pair in implications(count_labels(targets, ANIMALS)):
        assert pair.images == targets[:, ANIMALS.index(pair.given)].sum()


@pytest.mark.parametrize("unknown", [False, True])
def test_every_implication_is_one_in_a_slow_loop(unknown: bool) -> None:
    targets = animals()
    if unknown:
        targets[np.random.default_rng(1).random(targets.shape) < 0.2] = -1
    certain = set()
    for child, parent in itertools.permutations(range(6), 2):
        checked = targets[(targets[:, child] == 1) & (targets[:, parent] != -1)]
        if len(checked) and (checked[:, parent] == 1).all():
            certain.add((ANIMALS[child], ANIMALS[parent]))
    direct = {(a, b) for a, b in certain if not any((a, c) in certain and (c, b) in certain for c in ANIMALS)}
    assert set(links(targets)) == direct != set()


def test_one_image_without_its_parent_and_it_is_not_implied() -> None:
    targets = animals()
    targets[np.flatnonzero(targets[:, 2])[0], 1] = 0
    assert ("dog", "mammal") not in links(targets)


def test_what_chance_explains_is_not_implied() -> None:
    targets = animals()
    assert ("cat", "mammal") not in links(targets, min_images=int(targets[:, 3].sum()) + 1)
    usual = (np.random.default_rng(0).random((1000, 6)) < 0.02).astype(np.int8)
    usual[:, 0] = 1  # on every image, so that all others imply it
    usual[:5, 0] = usual[:5, 1:].any(1) | (np.arange(5) > 0)
    assert links(usual, min_images=1) == []


def test_labels_on_the_same_images() -> None:
    targets = animals()
    targets[:, 4], targets[:, 5] = targets[:, 3], targets[:, 3]
    counts = count_labels(targets, ANIMALS)
    assert always_together(counts) == [("cat", "puppy", "car")]
    assert not {("cat", "puppy"), ("puppy", "car")} & set(links(targets)), "they are reported once"
    assert always_together(counts, min_images=10_000) == []
    targets[np.flatnonzero(targets[:, 3])[0], 4] = 0
    assert always_together(count_labels(targets, ANIMALS)) == [("cat", "car")]


@pytest.mark.parametrize("absent", [0, -1])
def test_a_hierarchy_is_checked_image_by_image(absent: int) -> None:
    targets = animals(1000)
    random = np.random.default_rng(2)
    targets[random.random(targets.shape) < 0.1] = -1
    targets[random.random(targets.shape) < 0.05] = 0
    rows, columns = np.nonzero(targets != absent)
    codes = np.where(targets[rows, columns] == 0, -2, targets[rows, columns])
    annotations = Annotations.from_entries(rows, columns, codes, targets.shape, absent=absent)
    pairs = [("animal", "mammal"), ("mammal", "dog"), ("animal", "cat")]
    expected = []
    for parent, child in pairs:
        seen = targets[targets[:, ANIMALS.index(child)] == 1, ANIMALS.index(parent)]
        expected.append(Link(parent, child, len(seen), int((seen == 0).sum()), int((seen == -1).sum())))
    assert check_hierarchy(pairs, annotations, ANIMALS) == expected
    assert all(link.contradicted and link.unknown for link in expected), "both are there to be found"


def test_a_hierarchy_of_other_labels() -> None:
    with pytest.raises(InputError, match=r"unknown label of the hierarchy 'mamal'\. Did you mean mammal"):
        check_hierarchy([("animal", "mamal")], Annotations.from_array(animals()), ANIMALS)


def test_the_tree_has_every_pair_and_ends() -> None:
    pairs = [("animal", "cat"), ("animal", "dog"), ("pet", "dog"), ("dog", "puppy"), ("thing", "car")]
    assert hierarchy_tree(pairs) == [
        (0, "animal"),
        (1, "cat"),
        (1, "dog"),
        (2, "puppy"),
        (0, "pet"),
        (1, "dog"),
        (0, "thing"),
        (1, "car"),
    ]
    assert hierarchy_tree([("a", "b"), ("b", "a")]) == [(0, "a"), (1, "b"), (2, "a")]
    assert hierarchy_tree([]) == []
