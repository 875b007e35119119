"""Counting pairs: against dense products, in parts of any size, with any number of threads."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from zoo import pair_counts
from zoo.pair_counts import count_pairs, count_pairs_with


def random_matrix(seed: int, shape: tuple[int, int] = (60, 9), density: float = 0.3) -> sp.csr_array:
    """Ones, the first column nearly always and the last never, with the columns of each row in any order."""
    generator = np.random.default_rng(seed)
    dense = generator.random(shape) < density
    dense[:, 0], dense[:, -1], dense[5] = generator.random(shape[0]) < 0.9, False, False
    rows = [generator.permutation(np.flatnonzero(row)) for row in dense]
    ends = np.cumsum([0, *map(len, rows)])
    return sp.csr_array((np.ones(ends[-1], np.int8), np.concatenate(rows), ends), shape=shape)


def product(first: sp.csr_array, second: sp.csr_array) -> np.ndarray:
    return first.toarray().astype(int).T @ second.toarray().astype(int)


def both_ways(pairs: sp.csr_array) -> np.ndarray:
    return (pairs + pairs.T).toarray()


@pytest.fixture(params=itertools.product([1, 7, 2**17], [1, 10, 2**20], [1, 3]), ids=str)
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    entries, pairs, threads = request.param
    monkeypatch.setattr(pair_counts, "ENTRIES", entries)
    monkeypatch.setattr(pair_counts, "PAIRS", pairs)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("seed", range(3))
def test_pairs_of_one_matrix(seed: int) -> None:
    matrix = random_matrix(seed)
    expected = product(matrix, matrix)
    np.fill_diagonal(expected, 0)
    counted = count_pairs(matrix)
    assert counted.dtype == np.int64
    assert counted.has_canonical_format
    np.testing.assert_array_equal(both_ways(counted), expected)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("seed", range(3))
def test_pairs_of_two_matrices_within_a_third(seed: int) -> None:
    first, second = random_matrix(seed), random_matrix(seed + 10, density=0.5)
    within = np.random.default_rng(seed).random((9, 9)) < 0.6
    counted = count_pairs_with(first, second, within=sp.csr_array(within))
    assert counted.has_canonical_format
    np.testing.assert_array_equal(counted.toarray(), np.where(within, product(first, second), 0))


def test_numbers_of_pairs_beyond_32_bits() -> None:
    """Row times columns plus column: 60,000 columns in one part make 3,600 million pairs."""
    columns = np.random.default_rng(0).choice(60_000, (50, 4), replace=False)
    columns[0, :2], columns[1, :2] = (0, 59_999), (59_999, 0)
    matrix = sp.csr_array((np.ones(200), columns.ravel(), np.arange(51) * 4), shape=(50, 60_000))
    counted = count_pairs(matrix)
    found = {(i, j): n for i, j, n in zip(*counted.tocoo().coords, counted.data, strict=True)}
    expected: dict[tuple[int, int], int] = {}
    for row in columns.tolist():
        for pair in itertools.combinations(row, 2):
            key = pair if pair in found else pair[::-1]
            expected[key] = expected.get(key, 0) + 1
    assert found == expected
    assert counted.data.sum() == 50 * 6


def test_what_the_parts_have_counted_adds_up_beyond_32_bits() -> None:
    most = np.array([2**31 - 1], dtype=np.int32)
    run = (0, np.array([1]), np.array([1], dtype=np.int32), most)
    assert pair_counts._transposed([run] * 3, 2)[1, 0] == 3 * (2**31 - 1)


@pytest.mark.parametrize("shape", [(0, 3), (4, 3), (4, 0)])
def test_nothing_to_count(shape: tuple[int, int]) -> None:
    empty = sp.csr_array(shape, dtype=np.int8)
    assert count_pairs(empty).toarray().tolist() == np.zeros((shape[1], shape[1])).tolist()
    within = sp.csr_array(np.ones((shape[1], shape[1])))
    assert count_pairs_with(empty, empty, within=within).nnz == 0


def test_rows_of_one_entry_make_no_pair() -> None:
    assert count_pairs(sp.csr_array(np.eye(5, dtype=np.int8))).nnz == 0


def test_the_matrices_stay_as_they_are() -> None:
    first, second = random_matrix(0), random_matrix(1)
    before = [array.copy() for m in (first, second) for array in (m.data, m.indices, m.indptr)]
    count_pairs(first)
    count_pairs_with(first, second, within=sp.csr_array(np.ones((9, 9))))
    after = [array for m in (first, second) for array in (m.data, m.indices, m.indptr)]
    assert all(map(np.array_equal, before, after))


def test_memory_goes_by_the_entries_and_not_by_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 rows of 300 columns out of 500: 18 million pairs, and 125 thousand different ones."""
    monkeypatch.setattr(pair_counts, "PAIRS", 2**16)
    generator = np.random.default_rng(0)
    columns = np.concatenate([generator.permutation(500)[:300] for _ in range(400)])
    matrix = sp.csr_array((np.ones(len(columns), np.int8), columns, np.arange(401) * 300), shape=(400, 500))
    tracemalloc.start()
    try:
        counted = count_pairs(matrix)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert counted.sum() == 400 * 300 * 299 // 2
    assert peak < 150 * 2**20, (
        "18 million pairs of 8 bytes are 137 MiB, and many times that while they are made"
    )
