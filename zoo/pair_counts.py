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

Runs = tuple[np.ndarray, np.ndarray, np.ndarray]  # column of first, column of second, in how many rows

# Entries that a thread takes at once, and the pairs that it sorts at once: what its memory goes by.
ENTRIES, PAIRS = 2**17, 2**20


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
    # Column by column: in which row an entry is, and which of all entries it is.
    numbers = np.arange(first.nnz, dtype=first.indices.dtype)
    entries = sp.csr_array((numbers, first.indices, first.indptr), shape=first.shape).tocsc()
    del numbers
    starts = range(0, first.nnz, ENTRIES)

    def part(start: int) -> list[Runs]:
        rows, column = entries.indices[start : start + ENTRIES], _columns(entries, start, start + ENTRIES)
        if second is None:  # those after it in its row
            begin, end = entries.data[start : start + ENTRIES] + 1, first.indptr[1:][rows]
            partners = first.indices
        else:
            begin, end, partners = second.indptr[rows], second.indptr[1:][rows], second.indices
        cuts = (end - begin).cumsum(dtype=np.int64)
        cuts = cuts.searchsorted(np.arange(0, cuts[-1] + PAIRS, PAIRS), side="right")
        slices = itertools.starmap(slice, itertools.pairwise(np.unique(cuts)))
        return [
            _runs(column[some], begin[some], end[some], partners, within, first.shape[1]) for some in slices
        ]

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        parts: Iterable[list[Runs]] = pool.map(part, starts)
        if show:
            parts = watched(parts, "counting labels", len(starts))
        return [runs for some in parts for runs in some]


def _runs(
    column: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    partners: np.ndarray,
    within: sp.csr_array | None,
    num_columns: int,
) -> Runs:
    """The pairs of some entries: each with the partners from its ``begin`` to its ``end``."""
    length = end - begin
    stop = length.cumsum(dtype=np.int64)
    lowest, span = int(column[0]), int(column[-1] - column[0]) + 1
    # Half the width is sorted at twice the speed.
    dtype = np.int32 if span * num_columns < 2**31 else np.int64
    pairs = np.repeat(((column - lowest) * num_columns).astype(dtype), length)
    pairs += partners[np.repeat(end - stop, length) + np.arange(stop[-1])].astype(dtype, copy=False)
    pairs.sort()
    head = np.flatnonzero(np.diff(pairs, prepend=-1))
    pairs, often = pairs[head], np.diff(head, append=len(pairs)).astype(np.int32)
    if within is not None:
        row, other = within[lowest : lowest + span].nonzero()
        kept = np.isin(pairs, row.astype(np.int64) * num_columns + other, assume_unique=True)
        pairs, often = pairs[kept], often[kept]
    row, other = np.divmod(pairs, num_columns)
    return (row + lowest).astype(np.int32), other.astype(np.int32), often


def _columns(entries: sp.csc_array, start: int, end: int) -> np.ndarray:
    """In which column each of these entries is."""
    return np.repeat(np.arange(entries.shape[1]), np.diff(entries.indptr.clip(start, end)))


def _transposed(runs: list[Runs], num_columns: int) -> sp.csr_array:
    """As a matrix, and transposed: that sorts, in linear time, and what comes again then stands side by side."""
    if not runs:
        return sp.csr_array((num_columns, num_columns), dtype=np.int64)
    row, column, often = (np.concatenate(arrays) for arrays in zip(*runs, strict=True))
    ends = np.concatenate([[0], np.bincount(row, minlength=num_columns).cumsum()])
    if len(row) < 2**31:
        ends = ends.astype(np.int32)  # or scipy makes all indices long
    shape = (num_columns, num_columns)
    matrix = sp.csr_array((often.astype(np.int64), column, ends), shape=shape).T.tocsr()
    matrix.sum_duplicates()
    return matrix
