from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from zoo.annotations import DIFFICULT, NEGATIVE, POSITIVE, UNKNOWN, Annotations
from zoo.lookup import InputError


def random_codes(absent: int, num_images: int = 40, num_labels: int = 6, seed: int = 0) -> np.ndarray:
    """(N, L) of codes; 0 where nothing is stored."""
    return np.random.default_rng(seed).choice(
        [0, *(POSITIVE, UNKNOWN, DIFFICULT, NEGATIVE)], (num_images, num_labels)
    )


def slow_targets(codes: np.ndarray, absent: int, difficult: int) -> np.ndarray:
    meaning = {0: absent, POSITIVE: 1, UNKNOWN: -1, NEGATIVE: 0, DIFFICULT: difficult}
    return np.array([[meaning[code] for code in row] for row in codes.tolist()])


@pytest.mark.parametrize("absent", [0, -1])
@pytest.mark.parametrize(("treatment", "value"), [("positive", 1), ("negative", 0), ("ignored", -1)])
def test_targets_equal_a_slow_loop(absent, treatment, value):
    codes = random_codes(absent)
    annotations = Annotations(sp.csr_array(codes.astype(np.int8)), absent)
    wanted = slow_targets(codes, absent, value)
    assert annotations.targets(treatment).dtype == np.int8
    np.testing.assert_array_equal(annotations.targets(treatment), wanted)
    np.testing.assert_array_equal([annotations.row(i, treatment) for i in range(40)], wanted)
    treated = annotations.treated(treatment)
    np.testing.assert_array_equal(treated.targets("ignored"), wanted)
    np.testing.assert_array_equal(treated.positives(), (wanted == 1).sum(0))
    np.testing.assert_array_equal(treated.known(), (wanted >= 0).sum(0))
    some = [5, 3, 30]
    np.testing.assert_array_equal(annotations.rows(np.array(some)).targets(treatment), wanted[some])
    np.testing.assert_array_equal(annotations.columns([4, 0]).targets(treatment), wanted[:, [4, 0]])
    blocks = [block.targets(treatment) for block in annotations.blocks(7)]
    assert [len(block) for block in blocks] == [7] * 5 + [5]
    np.testing.assert_array_equal(np.concatenate(blocks), wanted)


def test_difficult_entries_are_neither_positive_nor_known():
    annotations = Annotations.from_array(
        np.array([[1, 0], [1, -1]]), np.array([[True, False], [False, False]])
    )
    assert annotations.positives().tolist() == [1, 0]
    assert annotations.known().tolist() == [1, 1]
    assert annotations.where(DIFFICULT).toarray().tolist() == [[1, 0], [0, 0]]
    assert annotations.where(POSITIVE, UNKNOWN).toarray().tolist() == [[0, 0], [1, 1]]


def test_a_dense_array_comes_back():
    targets = np.random.default_rng(1).choice([-1, 0, 1], (30, 5)).astype(np.int8)
    np.testing.assert_array_equal(Annotations.from_array(targets).targets(), targets)
    assert Annotations.from_array(targets).shape == (30, 5)


@pytest.mark.parametrize("absent", [0, -1])
def test_entries_in_any_order(absent):
    codes = random_codes(absent, seed=2)
    images, labels = np.nonzero(codes)
    order = np.random.default_rng(3).permutation(len(images))
    made = Annotations.from_entries(
        images[order], labels[order], codes[images, labels][order], codes.shape, absent=absent
    )
    np.testing.assert_array_equal(made.targets("positive"), slow_targets(codes, absent, 1))
    assert made.stored.has_canonical_format


def test_of_entries_that_differ_the_surest_counts():
    codes = [POSITIVE, DIFFICULT, NEGATIVE, UNKNOWN]
    for i, better in enumerate(codes):
        for worse in codes[i:]:
            for pair in ([better, worse], [worse, better]):
                made = Annotations.from_entries(np.array([0, 0]), np.array([1, 1]), np.array(pair), (1, 2))
                assert made.stored.toarray().tolist() == [[0, better]]


def test_one_code_for_all_and_nothing_at_all():
    made = Annotations.from_entries(np.array([0, 2]), np.array([1, 1]), POSITIVE, (3, 2))
    assert made.targets().tolist() == [[0, 1], [0, 0], [0, 1]]
    none = Annotations.from_entries(np.array([]), np.array([]), POSITIVE, (2, 2), absent=-1)
    assert none.targets().tolist() == [[-1, -1], [-1, -1]]


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match=r"targets must be 1 .* not \[2, 5\]"):
        Annotations.from_array(np.array([[2, 5], [1, 0]]))
    with pytest.raises(InputError, match=r"targets must be \(N, L\), not \(3,\)"):
        Annotations.from_array(np.array([1, 0, 1]))
    with pytest.raises(InputError, match="absent must be 0"):
        Annotations(sp.csr_array((1, 1), dtype=np.int8), 1)
    with pytest.raises(InputError, match="codes other than"):
        Annotations(sp.csr_array(np.array([[3]], dtype=np.int8)))
    with pytest.raises(
        InputError, match=r"unknown treatment of difficult entries 'ignore'\. Did you mean ignored"
    ):
        Annotations.from_array(np.array([[1]])).targets("ignore")
