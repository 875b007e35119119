"""Co-occurrence counts: against a slow loop, in every representation, and what the errors say."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from zoo import counts as counts_module
from zoo.counts import LabelCounts, LabelPair, check_names, count_labels, label_pairs
from zoo.lookup import InputError

# Sea 4, Sky 5, Sunset 6, Cloud 1; Sea-Sky 2, Sea-Sunset 3, Sky-Sunset 3, Sky-Cloud 1.
SEASIDE = [
    *[["Sea", "Sky", "Sunset"], ["Sea", "Sky"], ["Sea", "Sunset"], ["Sea", "Sunset"]],
    *[["Sky", "Sunset"], ["Sky", "Sunset"], ["Sky", "Cloud"], ["Sunset"]],
]
SEASIDE_NAMES = ["Sea", "Sky", "Sunset", "Cloud"]


def random_targets(num_images: int, num_labels: int, unknown: bool, seed: int = 0) -> np.ndarray:
    share = (0.2, 0.5, 0.3) if unknown else (0.0, 0.7, 0.3)
    targets = np.random.default_rng(seed).choice([-1, 0, 1], size=(num_images, num_labels), p=share)
    targets[:, -1] = 0  # a label that never occurs
    return targets.astype(np.int8)


def as_lists(targets: np.ndarray, names: list[str]) -> list[list[str]]:
    return [[name for name, value in zip(names, row, strict=True) if value == 1] for row in targets]


def names_of(num_labels: int) -> list[str]:
    return [f"label {chr(ord('a') + i)}" for i in range(num_labels)]


def slow_probability(targets: np.ndarray) -> np.ndarray:
    """P(j | i) one pair at a time, over the images in which i is positive and j was checked."""
    num_labels = targets.shape[1]
    probability = np.zeros((num_labels, num_labels))
    for i, j in itertools.permutations(range(num_labels), 2):
        checked = [row for row in targets if row[i] == 1 and row[j] != -1]
        both = [row for row in checked if row[j] == 1]
        if both:
            probability[i, j] = len(both) / len(checked)
    return probability


def assert_same(left: LabelCounts, right: LabelCounts) -> None:
    assert left.label_names == right.label_names
    assert left.num_images == right.num_images
    np.testing.assert_array_equal(left.counts, right.counts)
    np.testing.assert_array_equal(left.cooccurrence.toarray(), right.cooccurrence.toarray())
    for name in ("known", "checked"):
        mine, its = getattr(left, name), getattr(right, name)
        assert (mine is None) == (its is None)
        if mine is not None:
            np.testing.assert_array_equal(
                *(np.asarray(x.todense() if sp.issparse(x) else x) for x in (mine, its))
            )


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_counts_and_probabilities_equal_a_slow_loop(unknown: bool, seed: int) -> None:
    targets = random_targets(60, 7, unknown, seed)
    counts = count_labels(targets, names_of(7))
    assert counts.num_images == 60
    pairs = np.zeros((7, 7))
    for row in targets:
        for i, j in itertools.permutations(np.flatnonzero(row == 1), 2):
            pairs[i, j] += 1
    np.testing.assert_array_equal(counts.counts, [(targets[:, i] == 1).sum() for i in range(7)])
    np.testing.assert_array_equal(counts.cooccurrence.toarray(), pairs)
    np.testing.assert_allclose(counts.p_column_given_row().toarray(), slow_probability(targets), rtol=1e-15)
    np.testing.assert_allclose(counts.p_row_given_column().toarray(), slow_probability(targets).T, rtol=1e-15)
    if not unknown:
        assert counts.checked is None


def test_what_is_unknown_is_neither_positive_nor_negative() -> None:
    counts = count_labels(np.array([[1, 1], [1, 0], [1, -1], [1, -1], [-1, 1]]), ["boat", "water"])
    probability = counts.p_column_given_row().toarray()
    assert probability[0, 1] == 1 / 2  # of four boats two were never checked for water
    assert probability[1, 0] == 1.0  # of two waters one was never checked for a boat


def test_unknowns_without_a_single_pair() -> None:
    counts = count_labels(np.array([[1, -1], [0, 1]]), ["a", "b"])
    assert counts.checked is not None
    assert counts.p_column_given_row().nnz == 0
    assert label_pairs(counts) == []


def test_the_tutorial_s_table_to_the_digit_in_both_directions() -> None:
    counts = count_labels(SEASIDE, SEASIDE_NAMES)
    assert counts.label_names == tuple(SEASIDE_NAMES)
    assert counts.counts.tolist() == [4, 5, 6, 1]
    assert counts.cooccurrence.toarray().tolist() == [[0, 2, 3, 0], [2, 0, 3, 1], [3, 3, 0, 0], [0, 1, 0, 0]]
    # Rows Sea, Sky, Sunset, Cloud; P(column | row), the text and the code.
    given_row = [[0, 2 / 4, 3 / 4, 0], [2 / 5, 0, 3 / 5, 1 / 5], [3 / 6, 3 / 6, 0, 0], [0, 1, 0, 0]]
    # The printed table is P(row | column): in the column of Cloud, Sky has 1.
    given_column = [[0, 2 / 5, 3 / 6, 0], [2 / 4, 0, 3 / 6, 1], [3 / 4, 3 / 5, 0, 0], [0, 1 / 5, 0, 0]]
    assert counts.p_column_given_row().toarray().tolist() == given_row
    assert counts.p_row_given_column().toarray().tolist() == given_column


REPRESENTATIONS: dict[str, Callable[[np.ndarray], object]] = {
    "int8 tensor": torch.from_numpy,
    "float tensor": lambda t: torch.from_numpy(t).float().requires_grad_(),
    "sparse tensor": lambda t: torch.from_numpy(t).to_sparse(),
    "float array": lambda t: t.astype(np.float64),
    "Fortran order": np.asfortranarray,
    "csr": sp.csr_array,
    "csc matrix": sp.csc_matrix,
    "coo": sp.coo_array,
    "lil": sp.lil_array,
    "dok": sp.dok_array,
    "float csr with stored zeros": lambda t: sp.csr_array(
        (
            t.ravel().astype(float),
            np.tile(np.arange(t.shape[1]), len(t)),
            np.arange(len(t) + 1) * t.shape[1],
        ),
        shape=t.shape,
    ),
}
STREAMS: dict[str, Callable[[list[list[str]]], Iterable[Iterable[str]]]] = {
    "lists": lambda lists: lists,
    "generator of sets": lambda lists: (set(labels) for labels in lists),
    "tuples with labels twice": lambda lists: tuple((*labels, *labels) for labels in lists),
    "generator of generators": lambda lists: (iter(labels) for labels in lists),
}


@pytest.mark.parametrize("kind", REPRESENTATIONS)
@pytest.mark.parametrize("block", [7, 65_536])
def test_every_representation_of_targets_counts_the_same(
    kind: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = random_targets(50, 6, unknown=True)
    expected = count_labels(targets, names_of(6))
    monkeypatch.setattr(counts_module, "BLOCK", block)
    assert_same(count_labels(REPRESENTATIONS[kind](targets), names_of(6)), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("block", [1, 7, 25, 65_536])
@pytest.mark.parametrize("names_given", [True, False])
def test_streams_of_label_lists_count_the_same(
    kind: str, block: int, names_given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets, names = random_targets(50, 6, unknown=False), names_of(6)
    if not names_given:  # a stream cannot know of a label that never occurs
        targets, names = targets[:, :-1], names[:-1]
    expected = count_labels(targets, names)
    monkeypatch.setattr(counts_module, "BLOCK", block)
    stream = STREAMS[kind](as_lists(targets, names))
    assert_same(count_labels(stream, names if names_given else None), expected)


def test_bool_targets() -> None:
    targets = random_targets(30, 4, unknown=False)
    expected = count_labels(targets, names_of(4))
    assert_same(count_labels(targets.astype(bool), names_of(4)), expected)
    assert_same(count_labels(torch.from_numpy(targets).bool(), names_of(4)), expected)


def test_the_order_of_labels_is_the_given_one_and_sorted_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "BLOCK", 2)  # so that labels appear block by block
    lists = [["zebra"], ["ant", "zebra"], [], ["bear", "ant"]]
    free = count_labels(lists)
    assert free.label_names == ("ant", "bear", "zebra")
    assert free.counts.tolist() == [2, 1, 2]
    assert free.cooccurrence.toarray().tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert free.num_images == 4  # an image without labels is an image
    given = count_labels(iter(lists), ["zebra", "cow", "bear", "ant"])
    assert given.label_names == ("zebra", "cow", "bear", "ant")
    assert given.counts.tolist() == [2, 0, 1, 2]
    assert given.cooccurrence.toarray()[3].tolist() == [1, 0, 1, 0]


def test_a_stream_is_read_once_and_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "BLOCK", 10)
    largest, alive = 0, 0

    class Image(list):
        def __init__(self) -> None:
            nonlocal alive, largest
            super().__init__(["a", "b"])
            alive += 1
            largest = max(alive, largest)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    assert count_labels(Image() for _ in range(500)).counts.tolist() == [500, 500]
    assert largest <= 25


def test_a_long_stream_is_not_added_to_all_pairs_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 blocks of 40 pairs, most of them new: what is added is a few times the result, not 500 times."""
    monkeypatch.setattr(counts_module, "BLOCK", 40)
    added, add = [], counts_module._add

    def weighed(first: sp.csr_array, second: sp.csr_array) -> sp.csr_array:
        added.append(first.nnz + second.nnz)
        return add(first, second)

    monkeypatch.setattr(counts_module, "_add", weighed)
    pairs = np.random.default_rng(0).integers(0, 3000, (40_000, 2)).tolist()
    counts = count_labels([str(a), str(b + 3000)] for a, b in pairs)
    assert counts.cooccurrence.sum() == 80_000
    assert len(added) >= 1000
    assert sum(added) < 20 * 40_000


def test_counts_are_of_64_bits_and_in_canonical_format() -> None:
    lists = as_lists(random_targets(40, 6, unknown=False), names_of(6)[::-1])
    for targets, names in (
        (random_targets(40, 6, unknown=True), names_of(6)),
        (lists, names_of(6)),
        (lists, None),
    ):
        counts = count_labels(targets, names)
        assert counts.counts.dtype == counts.cooccurrence.dtype == np.int64
        assert counts.cooccurrence.has_canonical_format
        if counts.checked is not None:
            assert counts.checked.dtype == np.int64
            assert counts.checked.has_canonical_format


def test_probabilities_are_a_copy() -> None:
    counts = count_labels(random_targets(40, 6, unknown=False), names_of(6))
    probability, before = counts.p_column_given_row(), counts.cooccurrence.toarray()
    probability.data[:5] = 0
    probability.eliminate_zeros()
    np.testing.assert_array_equal(counts.cooccurrence.toarray(), before)


def test_counting_leaves_the_targets_alone() -> None:
    stored = sp.coo_array((np.array([1, 1, -1]), (np.array([1, 0, 0]), np.array([0, 1, 0]))), shape=(2, 2))
    before = stored.data.tolist(), stored.coords[0].tolist(), stored.coords[1].tolist()
    count_labels(stored, ["a", "b"])
    assert (stored.data.tolist(), stored.coords[0].tolist(), stored.coords[1].tolist()) == before


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_permuting_labels_permutes_everything(unknown: bool, seed: int) -> None:
    targets, names = random_targets(40, 6, unknown, seed), names_of(6)
    order = np.random.default_rng(100 + seed).permutation(6)
    straight, permuted = (
        count_labels(targets, names),
        count_labels(targets[:, order], [names[i] for i in order]),
    )
    np.testing.assert_array_equal(permuted.counts, straight.counts[order])
    for matrix in (LabelCounts.p_column_given_row, LabelCounts.p_row_given_column):
        np.testing.assert_array_equal(
            matrix(permuted).toarray(), matrix(straight).toarray()[np.ix_(order, order)]
        )
    assert label_pairs(permuted) == label_pairs(straight)


def test_no_images_and_no_pairs() -> None:
    counts = count_labels(np.zeros((0, 2)), ["a", "b"])
    assert (counts.num_images, counts.counts.tolist(), label_pairs(counts)) == (0, [0, 0], [])


def test_counts_pass_through() -> None:
    counts = count_labels(SEASIDE, SEASIDE_NAMES)
    assert count_labels(counts) is counts
    assert count_labels(counts, SEASIDE_NAMES) is counts
    with pytest.raises(InputError, match="label names of their own, which differ"):
        count_labels(counts, SEASIDE_NAMES[::-1])


# 40 photos of birds, 25 at night time, one of both: chance.
CHANCE = [["birds", "sky"]] * 39 + [["nighttime", "moon"]] * 24 + [["birds", "nighttime"]]


def test_what_the_threshold_removes_is_listed() -> None:
    counts = count_labels(CHANCE)
    removed = label_pairs(counts, below=0.1)
    assert removed == [
        LabelPair("nighttime", "birds", 1 / 25, 1),
        LabelPair("birds", "nighttime", 1 / 40, 1),
    ]
    kept = label_pairs(counts, at_least=0.1)
    assert [(pair.given, pair.label, pair.images) for pair in kept] == [
        ("sky", "birds", 39),
        ("moon", "nighttime", 24),
        ("birds", "sky", 39),
        ("nighttime", "moon", 24),
    ]
    assert [pair.probability for pair in kept] == [1, 1, 39 / 40, 24 / 25]
    assert str(removed[0]) == "nighttime -> birds 0.04, 1 image"


def test_a_pair_right_at_the_threshold_is_kept() -> None:
    counts = count_labels([["a", "b"]] * 3 + [["a"]] * 27)
    assert [pair.given for pair in label_pairs(counts, at_least=0.1)] == ["b", "a"]
    assert label_pairs(counts, below=0.1) == []


def test_the_first_pairs_are_the_first_of_all_in_the_order_of_their_names_where_they_tie() -> None:
    names = ["zebra", "ant", "cow", "bee", "dog", "elk", "fox"]
    for seed in range(3):
        counts = count_labels(random_targets(30, 7, unknown=seed > 0, seed=seed), names)
        everything = label_pairs(counts)
        by_rank = sorted(everything, key=lambda p: (-p.probability, -p.images, p.given, p.label))
        assert everything == by_rank
        for limit in (0, 1, 5, 20, 10_000):
            assert label_pairs(counts, limit=limit) == everything[:limit]
    alike = label_pairs(count_labels([["b", "a"], ["d", "c"]]), limit=3)
    assert [(pair.given, pair.label) for pair in alike] == [("a", "b"), ("b", "a"), ("c", "d")]


BAD_TARGETS: dict[str, tuple[object, object, str]] = {
    "values": (np.array([[1, 2], [5, 0]]), ["a", "b"], r"1 \(positive\), 0 .* -1 \(unknown\), not \[2, 5\]"),
    "probabilities": (torch.tensor([[0.5, 1.0]]), ["a", "b"], r"not \[0.5\]"),
    "NaN": (np.array([[np.nan, 1.0]]), ["a", "b"], r"not \[nan\]"),
    "-1 in uint8": (np.array([[255, 1]], dtype=np.uint8), ["a", "b"], r"not \[255\]"),
    "sparse values": (sp.csr_array(np.array([[0, 3]])), ["a", "b"], r"not \[3\]"),
    "stored twice": (sp.coo_array((np.ones(2), ([0, 0], [1, 1])), shape=(1, 2)), ["a", "b"], r"not \[2.0\]"),
    "one axis": (np.array([1, 0]), ["a", "b"], r"must be multi-hot \(N, L\), not \(2,\)"),
    "three axes": (torch.zeros(2, 2, 2), ["a", "b"], r"must be multi-hot \(N, L\), not \(2, 2, 2\)"),
    "too few names": (np.eye(3), ["a", "b"], "3 labels, but 2 label names"),
    "no names": (np.eye(3), None, "3 labels, but 0 label names"),
    "no label": (np.zeros((4, 0)), [], "there is no label"),
    "same name": (np.eye(3), ["dog", "cat", "dog"], "must be unique; more than once: dog"),
    "empty name": (np.eye(2), ["dog", " "], "must be strings that are not empty, not ' '"),
    "stream of nothing": (iter(()), None, "there is no label"),
    "stream without labels": (iter([[], []]), None, "there is no label"),
    "unknown label": ([["dog"], ["hores"]], ["dog", "horse"], "unknown label 'hores'. Did you mean horse"),
    "strings": (["dog", "cat"], None, "each image needs a list of labels, not 'dog'"),
    "a path": ("labels.csv", None, "each image needs a list of labels, not 'l'"),
    "numbers": (iter([1, 0]), ["a", "b"], "each image needs a list of labels, not 1"),
    "rows": (iter([[1, 0], [0, 1]]), ["a", "b"], r"labels are names, not 1; .* as one array \(N, L\)"),
    "rows without names": (iter([[1, 0], [0, 1]]), None, r"labels are names, not 1"),
    "empty label": (iter([["dog", ""]]), None, "must be strings that are not empty, not ''"),
}


@pytest.mark.parametrize("case", BAD_TARGETS)
def test_bad_targets_and_names_are_refused_by_their_words(case: str) -> None:
    targets, names, words = BAD_TARGETS[case]
    with pytest.raises(InputError, match=words):
        count_labels(targets, names)  # type: ignore[arg-type]


def test_check_names() -> None:
    assert check_names(("a", "b"), 2) == ["a", "b"]
    with pytest.raises(InputError, match="a list of names, not the one name 'dog'"):
        check_names("dog", 3)
    with pytest.raises(InputError, match="not empty, not 7"):
        check_names(["a", 7], 2)
