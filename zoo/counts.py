"""Co-occurrence counts: how often labels occur, and occur together.

targets (N,L) or label lists --one sparse product--> counts (L,), co-occurrence (L,L)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from zoo.annotations import NEGATIVE, POSITIVE, UNKNOWN, Annotations
from zoo.lookup import InputError, unknown

Targets: TypeAlias = Annotations | Tensor | np.ndarray | sp.sparray | sp.spmatrix | Iterable[Iterable[str]]

BLOCK = 65_536  # images that one sparse product takes: what bounds the memory of a stream


@dataclass(frozen=True)
class LabelCounts:
    """How often labels occur, and occur together.

    Attributes:
        label_names: the L labels, in the order of every other array.
        counts: (L,) number of images that have the label.
        cooccurrence: (L, L) symmetric, number of images that have both; the diagonal is zero.
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
        pairs = self.cooccurrence.tocoo()
        images = self.counts[pairs.row].astype(np.float64)
        if self.checked is not None:
            images = _at(self.checked, pairs.row, pairs.col).astype(np.float64)
        return sp.csr_array((pairs.data / images, (pairs.row, pairs.col)), shape=pairs.shape)

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
        return f"{self.given} -> {self.label} {self.probability:.2f}, {self.images} images"


def count_labels(targets: Targets | LabelCounts, label_names: Sequence[str] | None = None) -> LabelCounts:
    """Counts labels and pairs of labels with one sparse product.

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
    if isinstance(targets, Annotations):
        names = check_names(() if label_names is None else label_names, targets.shape[1])
        blocks: Iterable[Annotations] = targets.treated("ignored").blocks(BLOCK)
        absent = targets.absent
    else:
        names, blocks = _label_list_blocks(targets, label_names)
        absent = 0

    num_images = 0
    unsure = np.zeros(len(names), dtype=np.int64)
    total = sp.csr_array((len(names), len(names)), dtype=np.int64)
    # Of the labels beside a positive one, what is stored apart from the rule: the known ones, or the unknown.
    apart = total.copy()
    for block in blocks:
        positive = block.where(POSITIVE).astype(np.int64)
        other = block.where(NEGATIVE if absent else UNKNOWN).astype(np.int64)
        num_images += len(block)
        unsure = len(block) - block.known() + np.pad(unsure, (0, block.shape[1] - len(unsure)))
        total = _grow(total, block.shape[1]) + positive.T @ positive
        apart = _grow(apart, block.shape[1]) + positive.T @ other
    if label_names is None and not isinstance(
        targets, Annotations
    ):  # names were met in the order of the stream
        order = np.argsort(np.array(check_names(names, len(names)), dtype=object))
        names = [names[i] for i in order]
        total = total[order][:, order]  # and nothing is unknown
    counts = total.diagonal()
    cooccurrence = sp.csr_array(total - sp.diags_array(counts, dtype=np.int64))
    cooccurrence.eliminate_zeros()  # the product's diagonal holds the counts: they are no pairs
    if not unsure.any():
        return LabelCounts(tuple(names), counts, cooccurrence, num_images)
    if absent:
        checked = sp.csr_array(cooccurrence + apart)
    else:
        pairs = cooccurrence.tocoo()
        seen = counts[pairs.row] - _at(apart, pairs.row, pairs.col)
        checked = sp.csr_array((seen, (pairs.row, pairs.col)), shape=pairs.shape)
    return LabelCounts(tuple(names), counts, cooccurrence, num_images, num_images - unsure, checked)


def label_pairs(counts: LabelCounts, *, at_least: float = 0.0, below: float = math.inf) -> list[LabelPair]:
    """Pairs of labels with ``at_least <= P(label | given) < below``, most probable first.

    ``label_pairs(counts, below=0.1)`` lists what a threshold of 0.1 removes: chance pairs, mostly.
    """
    probability = counts.p_column_given_row().tocoo()
    keep = (probability.data >= at_least) & (probability.data < below)
    rows, columns, values = probability.row[keep], probability.col[keep], probability.data[keep]
    images = _at(counts.cooccurrence, rows, columns)
    name = counts.label_names
    pairs = [
        LabelPair(name[i], name[j], float(v), int(n))
        for i, j, v, n in zip(rows, columns, values, images, strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-pair.probability, -pair.images, pair.given, pair.label))


def describe_counts(counts: LabelCounts, threshold: float) -> str:
    """Lines to print: labels, edges at several thresholds, the strongest edges, those the threshold removes."""
    names, num_labels = counts.label_names, len(counts.label_names)
    rarest = sorted(zip(counts.counts.tolist(), names, strict=True))[:5]
    lines = [
        f"{num_labels:,} labels on {counts.num_images:,} images; "
        f"rarest: {', '.join(f'{name} {count:,}' for count, name in rarest)}"
    ]
    for tau in sorted({0.05, 0.1, 0.2, 0.3, 0.4, 0.5, threshold}):
        pairs = label_pairs(counts, at_least=tau)
        alone = num_labels - len({pair.given for pair in pairs} | {pair.label for pair in pairs})
        mark = "  <- threshold" if tau == threshold else ""
        lines.append(f"threshold {tau:<5g} {len(pairs):>7,} edges, {alone:,} labels without any{mark}")
    kept, removed = label_pairs(counts, at_least=threshold), label_pairs(counts, below=threshold)
    for title, pairs in (("strongest edges", kept), ("strongest that the threshold removes", removed)):
        lines += [f"{title}:", *(f"  {pair}" for pair in pairs[:8])]
    return "\n".join(lines)


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


def _label_list_blocks(
    lists: Iterable[Iterable[str]], label_names: Sequence[str] | None
) -> tuple[list[str], Iterable[Annotations]]:
    """Label lists as blocks of sparse targets. Without names, the list of names grows as blocks are read."""
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

    def blocks() -> Iterable[Annotations]:
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
            yield Annotations(sp.csr_array((ones, columns, ends), shape=shape))

    return names, blocks()


def _at(matrix: sp.csr_array, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The entries at these places."""
    # scipy gives an empty selection no numerical type.
    return np.asarray(matrix[rows, columns]).ravel() if len(rows) else np.empty(0, dtype=matrix.dtype)


def _grow(matrix: sp.csr_array, num_labels: int) -> sp.csr_array:
    if matrix.shape[0] < num_labels:
        matrix = matrix.copy()
        matrix.resize((num_labels, num_labels))
    return matrix
