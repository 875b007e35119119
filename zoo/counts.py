"""Co-occurrence counts: how often labels occur, and occur together.

targets (N,L) or label lists --pairs--> counts (L,), co-occurrence (L,L)
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from zoo.annotations import DIFFICULT, NEGATIVE, POSITIVE, UNKNOWN, Annotations
from zoo.lookup import InputError, unknown
from zoo.pair_counts import count_pairs, count_pairs_with
from zoo.progress import watched

Targets: TypeAlias = Annotations | Tensor | np.ndarray | sp.sparray | sp.spmatrix | Iterable[Iterable[str]]

BLOCK = 65_536  # images of a stream that are read at once
PART = 2**20  # entries that are looked at at once


@dataclass(frozen=True)
class LabelCounts:
    """How often labels occur, and occur together.

    Attributes:
        label_names: the L labels, in the order of every other array.
        counts: (L,) number of images that have the label.
        cooccurrence: (L, L) symmetric, number of images that have both; the diagonal is zero, and zeros are not stored.
        num_images: N.
        known: (L,) number of images in which each label is known to be there or not; ``None``: all of them.
        checked: (L, L) number of images that have the row's label and in which the column's is known, at least
            wherever a pair occurs; ``None`` where everything is known.
    """

    label_names: tuple[str, ...]
    counts: np.ndarray
    cooccurrence: sp.csr_array
    num_images: int
    known: np.ndarray | None = None
    checked: sp.csr_array | None = None

    def p_column_given_row(self) -> sp.csr_array:
        """(L, L) with P[i, j] = P(j | i): of the images with the row's label, the share that has the column's.

        Images in which j is unknown do not count. A label that never occurs has an empty row, not NaN.
        """
        probability = self.cooccurrence.astype(np.float64)
        if self.checked is None:
            images = np.repeat(self.counts, np.diff(probability.indptr))
        else:
            images = _at(self.checked, *probability.tocoo().coords)
        probability.data /= images
        return probability

    def p_row_given_column(self) -> sp.csr_array:
        """(L, L) with P[i, j] = P(i | j), the transpose of :meth:`p_column_given_row`."""
        return sp.csr_array(self.p_column_given_row().T)


class LabelPair(NamedTuple):
    """``label`` is on the share ``probability`` of the images that have ``given``: on ``images`` of them."""

    given: str
    label: str
    probability: float
    images: int

    def __str__(self) -> str:
        plural = "" if self.images == 1 else "s"
        return f"{self.given} -> {self.label} {self.probability:.2f}, {self.images:,} image{plural}"


def count_labels(targets: Targets | LabelCounts, label_names: Sequence[str] | None = None) -> LabelCounts:
    """Counts labels and pairs of labels. The memory it takes goes by the pairs that occur, not by L^2.

    Args:
        targets: multi-hot (N, L), dense (tensor, array) or scipy sparse, of {1 positive, 0 negative,
            -1 unknown}; the :class:`zoo.annotations.Annotations` of a data set, in which difficult entries are
            ignored; or a stream of label lists, one an image, read once and never held in memory.
            Counts that were made earlier pass through.
        label_names: the labels of the columns. For label lists it may be left out: their labels, sorted.

    Raises:
        InputError: values other than 1, 0 and -1, names that do not fit, a label that is not among the names.
    """
    if isinstance(targets, LabelCounts):
        if label_names is not None and tuple(label_names) != targets.label_names:
            raise InputError("these counts have label names of their own, which differ from the given ones")
        return targets
    if isinstance(targets, Tensor | np.ndarray) or sp.issparse(targets):
        targets = Annotations(_sparse_targets(targets))
    if not isinstance(targets, Annotations):
        return _count_lists(targets, label_names)
    return _count(targets, check_names(() if label_names is None else label_names, targets.shape[1]))


def label_pairs(
    counts: LabelCounts, *, at_least: float = 0.0, below: float = math.inf, limit: int | None = None
) -> list[LabelPair]:
    """Pairs of labels with ``at_least <= P(label | given) < below``, most probable first.

    ``label_pairs(counts, below=0.1)`` lists what a threshold of 0.1 removes: chance pairs, mostly.

    Args:
        counts: of the annotations.
        at_least: the lowest probability.
        below: what all probabilities are below.
        limit: how many pairs, of thousands of labels' millions; ``None``: all.
    """
    probability = counts.p_column_given_row().tocoo()
    keep = (probability.data >= at_least) & (probability.data < below)
    if limit is not None and limit < keep.sum():  # spares millions the sorting
        values = probability.data[keep]
        keep &= probability.data >= np.partition(values, -limit)[-limit] if limit else False
    rows, columns, values = probability.row[keep], probability.col[keep], probability.data[keep]
    images = _at(counts.cooccurrence, rows, columns)
    name = counts.label_names
    place = np.empty(len(name), dtype=np.int64)
    place[sorted(range(len(name)), key=name.__getitem__)] = np.arange(len(name))
    order = np.lexsort((place[columns], place[rows], -images, -values))[:limit]
    return [
        LabelPair(name[i], name[j], float(v), int(n))
        for i, j, v, n in zip(rows[order], columns[order], values[order], images[order], strict=True)
    ]


def check_names(label_names: Iterable[object], num_labels: int) -> list[str]:
    """The names as a list.

    Raises:
        InputError: another number than ``num_labels``, none, an empty one, or one twice.
    """
    if isinstance(label_names, str):
        raise InputError(f"label names must be a list of names, not the one name {label_names!r}")
    names: list[str] = []
    for name in label_names:
        if not (isinstance(name, str) and name.strip()):
            raise InputError(f"label names must be strings that are not empty, not {name!r}")
        names.append(name)
    if len(names) != num_labels:
        raise InputError(f"{num_labels} labels, but {len(names)} label names")
    if not names:
        raise InputError("there is no label")
    if duplicates := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"label names must be unique; more than once: {', '.join(duplicates)}")
    return names


def _sparse_targets(targets: Any) -> sp.csr_array:
    """Multi-hot targets as an int8 matrix that stores the ones and the unknowns."""
    if isinstance(targets, Tensor):
        targets = targets.to_dense().numpy(force=True)
    if targets.ndim != 2:
        raise InputError(f"targets must be multi-hot (N, L), not {tuple(targets.shape)}")
    if sp.issparse(targets):
        targets = sp.csr_array(targets, copy=True)
        targets.sum_duplicates()  # what COO stores twice is the sum: 2, and no target
    values = targets.data if sp.issparse(targets) else targets
    if not np.isin(values, (-1, 0, 1)).all():
        bad = np.unique(np.asarray(values)[~np.isin(values, (-1, 0, 1))])[:5]
        raise InputError(f"targets must be 1 (positive), 0 (negative) or -1 (unknown), not {bad.tolist()}")
    matrix = sp.csr_array(targets.astype(np.int8))
    matrix.eliminate_zeros()  # a stored zero is no code
    return matrix


def _count(annotations: Annotations, names: list[str]) -> LabelCounts:
    plain = (annotations.stored.data == POSITIVE).all()  # then a copy is spared
    positive = annotations.stored if plain else annotations.where(POSITIVE)
    counts = np.zeros(len(names), dtype=np.int64)
    for start in range(0, positive.nnz, PART):  # bincount makes a copy of 64 bits
        counts += np.bincount(positive.indices[start : start + PART], minlength=len(names))
    cooccurrence = _both_ways(count_pairs(positive, show=True))
    all_known = plain and not annotations.absent
    known = np.full(len(names), len(annotations)) if all_known else annotations.known()
    if (known == len(annotations)).all():
        return LabelCounts(tuple(names), counts, cooccurrence, len(annotations))
    # Of the labels beside a positive one, what is stored apart from the rule: the negative ones, or the unknown.
    apart = annotations.where(NEGATIVE) if annotations.absent else annotations.where(UNKNOWN, DIFFICULT)
    beside = count_pairs_with(positive, apart, within=cooccurrence, show=True)
    if annotations.absent:
        checked = cooccurrence + beside
    else:
        ends = cooccurrence.indptr
        images = np.repeat(counts, np.diff(ends))
        checked = sp.csr_array((images, cooccurrence.indices, ends), shape=cooccurrence.shape) - beside
    return LabelCounts(tuple(names), counts, cooccurrence, len(annotations), known, sp.csr_array(checked))


def _count_lists(lists: Iterable[Iterable[str]], label_names: Sequence[str] | None) -> LabelCounts:
    names, blocks = _label_list_blocks(lists, label_names)
    num_images, counts = 0, np.zeros(len(names), dtype=np.int64)
    sums = [sp.csr_array((len(names), len(names)), dtype=np.int64)]
    num_blocks = math.ceil(len(lists) / BLOCK) if isinstance(lists, Sized) else None
    for block in watched(blocks, "counting labels", num_blocks):
        num_images += block.shape[0]
        counts = block.sum(0, dtype=np.int64) + np.pad(counts, (0, len(names) - len(counts)))
        sums.append(count_pairs(block))
        # Only sums of like size are added: else every block would cost as much as all pairs before it.
        while len(sums) > 1 and sums[-2].nnz <= 2 * sums[-1].nnz:
            sums.append(_add(sums.pop(), sums.pop()))
    cooccurrence = _both_ways(functools.reduce(_add, reversed(sums)))
    if label_names is None:  # names were met in the order of the stream
        order = np.argsort(np.array(check_names(names, len(names)), dtype=object))
        names, counts = [names[i] for i in order], counts[order]
        cooccurrence = cooccurrence[order][:, order].sorted_indices()
    return LabelCounts(tuple(names), counts, cooccurrence, num_images)


def _label_list_blocks(
    lists: Iterable[Iterable[str]], label_names: Sequence[str] | None
) -> tuple[list[str], Iterator[sp.csr_array]]:
    """Label lists as blocks of multi-hot rows. Without names, the list of names grows as blocks are read."""
    names = check_names(label_names, len(label_names)) if label_names is not None else []
    index = {name: i for i, name in enumerate(names)}

    def column(label: object) -> int:
        if not isinstance(label, str):
            raise InputError(
                f"labels are names, not {label!r}; multi-hot targets are given as one array (N, L)"
            )
        if label not in index:
            if label_names is not None:
                raise unknown("label", label, index)
            index[label] = len(names)
            names.append(label)
        return index[label]

    def blocks() -> Iterator[sp.csr_array]:
        images = iter(lists)
        while block := list(islice(images, BLOCK)):
            columns: list[int] = []
            ends = [0]
            for labels in block:
                if isinstance(labels, str) or not isinstance(labels, Iterable):
                    raise InputError(f"each image needs a list of labels, not {labels!r}")
                columns += {column(label) for label in labels}
                ends.append(len(columns))
            shape = (len(block), len(names))
            ones = np.ones(len(columns), dtype=np.int8)
            yield sp.csr_array((ones, columns, ends), shape=shape)

    return names, blocks()


def _at(matrix: sp.csr_array, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The entries at these places."""
    # scipy gives an empty selection no numerical type.
    return np.asarray(matrix[rows, columns]).ravel() if len(rows) else np.empty(0, dtype=matrix.dtype)


def _both_ways(pairs: sp.csr_array) -> sp.csr_array:
    """Pairs that were counted in one order or the other, as a symmetric matrix."""
    return sp.csr_array(pairs + pairs.T)


def _add(first: sp.csr_array, second: sp.csr_array) -> sp.csr_array:
    """The sum, also where more labels had been met when the one was counted."""
    size = max(first.shape, second.shape)
    for matrix in (first, second):
        matrix.resize(size)
    return first + second
