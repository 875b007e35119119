"""How often two columns of sparse matrices meet in a row: ``first.T @ second`` of zeros and ones, in little memory.

entries (N,L) --the pairs of some, sorted--> runs of equal pairs --their lengths--> counts (L,L)

scipy's own product comes back to every row of ``second`` once for each of its columns, twice over, and waits for the
memory each time. Here that happens once, and threads share the waiting.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse as sp
import torch

from zoo.progress import watched

# Of some columns of first: the lowest, how many different pairs each has, with which columns of second they are, and in
# how many rows.
Runs = tuple[int, np.ndarray, np.ndarray, np.ndarray]

# Entries that a thread takes at once, and the pairs that it sorts at once: what its memory goes by.
ENTRIES, PAIRS = 2**16, 2**19


def count_pairs(first: sp.csr_array, *, show: bool = False) -> sp.csr_array:
    """(L, L) int64: in how many rows two columns are stored. Each pair is counted once, at ``[i, j]`` or ``[j, i]``.

    Args:
        first: (N, L), without duplicates; its values play no part.
        show: whether there may be a progress bar.
    """
    return _transposed(_count(first, None, None, show), first.shape[1])


def count_pairs_with(
    first: sp.csr_array, second: sp.csr_array, *, within: sp.csr_array, show: bool = False
) -> sp.csr_array:
    """(L, L) int64: in how many rows ``i`` is stored in ``first`` and ``j`` in ``second``, at ``[i, j]``.

    Args:
        first: (N, L), without duplicates; its values play no part.
        second: such another.
        within: (L, L) in canonical format; pairs that are not stored there are left out.
        show: whether there may be a progress bar.
    """
    return _transposed(_count(first, second, within, show), first.shape[1]).T.tocsr()


def _count(
    first: sp.csr_array, second: sp.csr_array | None, within: sp.csr_array | None, show: bool
) -> list[Runs]:
    """The pairs, by the column of ``first``; those of one column may be in several parts, and come again."""
    # Column by column: in which row an entry is, and how many come after it there.
    entries = sp.csr_array((_following(first), first.indices, first.indptr), shape=first.shape).tocsc()
    partners = first if second is None else second
    starts = range(0, first.nnz, ENTRIES)

    def part(start: int) -> list[Runs]:
        taken = slice(start, start + ENTRIES)
        rows, column = entries.indices[taken], _columns(entries, taken)
        end = partners.indptr[1:][rows]
        length = entries.data[taken] if second is None else end - second.indptr[rows]
        cuts = length.cumsum(dtype=np.int64)
        cuts = cuts.searchsorted(np.arange(0, cuts[-1] + PAIRS, PAIRS), side="right")
        slices = itertools.starmap(slice, itertools.pairwise(np.unique(cuts)))
        return [
            _runs(column[some], length[some], end[some], partners.indices, within, first.shape[1])
            for some in slices
        ]

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        parts: Iterable[list[Runs]] = pool.map(part, starts)
        if show:
            parts = watched(parts, "counting labels", len(starts))
        return [runs for some in parts for runs in some]


def _runs(
    column: np.ndarray,
    length: np.ndarray,
    end: np.ndarray,
    partners: np.ndarray,
    within: sp.csr_array | None,
    num_columns: int,
) -> Runs:
    """The pairs of some entries: each with as many partners as its ``length``, which stand before its ``end``."""
    stop = length.cumsum(dtype=np.int64)
    lowest, span = int(column[0]), int(column[-1] - column[0]) + 1
    # Half the width is sorted at twice the speed.
    dtype = np.int32 if span * num_columns < 2**31 else np.int64
    pairs = np.repeat(((column - lowest) * num_columns).astype(dtype), length)
    pairs += partners.take(np.repeat(end - stop, length) + np.arange(stop[-1])).astype(dtype, copy=False)
    if span * num_columns <= 2 * len(pairs):
        # Few columns, of frequent labels: a table is filled, nothing sorted.
        table = np.bincount(pairs)
        pairs = np.flatnonzero(table)
        often = table[pairs].astype(np.int32)
    else:
        pairs.sort()
        head = np.flatnonzero(np.diff(pairs, prepend=-1))
        pairs, often = pairs[head], np.diff(head, append=len(pairs)).astype(np.int32)
    if within is not None:
        row, other = within[lowest : lowest + span].nonzero()
        kept = np.isin(pairs, row.astype(np.int64) * num_columns + other, assume_unique=True)
        pairs, often = pairs[kept], often[kept]
    row, other = np.divmod(pairs, num_columns)
    return lowest, np.bincount(row), other.astype(np.int32), often


def _following(matrix: sp.csr_array) -> np.ndarray:
    """(nnz,) how many entries come after each in its row, in as few bytes as that needs."""
    lengths = np.diff(matrix.indptr)
    lengths = lengths[lengths > 0]
    dtype = np.min_scalar_type(lengths.max(initial=0))
    # One less than the entry before, and in a new row as many more as it is long; modulo the type's range.
    steps = np.full(matrix.nnz, np.iinfo(dtype).max, dtype=dtype)
    steps[np.cumsum(lengths) - lengths] += lengths.astype(dtype)
    return steps.cumsum(dtype=dtype, out=steps)


def _columns(entries: sp.csc_array, taken: slice) -> np.ndarray:
    """In which column each of these entries is."""
    return np.repeat(np.arange(entries.shape[1]), np.diff(entries.indptr.clip(taken.start, taken.stop)))


def _transposed(runs: list[Runs], num_columns: int) -> sp.csr_array:
    """As a matrix, and transposed: that sorts, in linear time, and what comes again then stands side by side."""
    if not runs:
        return sp.csr_array((num_columns, num_columns), dtype=np.int64)
    sizes = np.zeros(num_columns + 1, dtype=np.int64)
    for lowest, some, _, _ in runs:
        sizes[lowest + 1 : lowest + 1 + len(some)] += some
    ends = sizes.cumsum()
    if ends[-1] < 2**31:
        ends = ends.astype(np.int32)  # or scipy makes all indices long
    column = np.concatenate([column for _, _, column, _ in runs])
    often = np.concatenate([often for *_, often in runs], dtype=np.int64)
    shape = (num_columns, num_columns)
    matrix = sp.csr_array((often, column, ends), shape=shape).T.tocsr()
    matrix.sum_duplicates()
    return matrix
