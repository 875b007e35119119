"""What the cells of a user's label file say: one column a label, lists of labels, or one row for each label.

batches of columns --add--> layout --entries--> (row, label, code), label names
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

from zoo.annotations import NEGATIVE, POSITIVE, UNKNOWN
from zoo.data.problems import Problems
from zoo.data.records import MISSING, Batch

# pandas writes "1.0" where a column has gaps. True, 1.0 and the like are equal to their integers.
CELLS: dict[Any, int] = {1: 1, 0: 0, -1: -1, None: -1}
CELLS |= {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0}
CELLS |= {"-1": -1, "-1.0": -1, "": -1, "nan": -1, "null": -1}
CODES = {1: POSITIVE, 0: NEGATIVE, -1: UNKNOWN}
SEPARATORS = "|;,"


@dataclass(frozen=True)
class Entries:
    """What was said of single pairs of row and label.

    Attributes:
        label_names: L names.
        rows: of the pairs, counted over all files.
        labels: of the pairs.
        codes: of the pairs, those of :class:`zoo.annotations.Annotations`.
        absent: what a pair is that is not among them: 0 negative, -1 unknown.
        remarks: what was merged, with counts.
    """

    label_names: list[str]
    rows: np.ndarray
    labels: np.ndarray
    codes: np.ndarray
    absent: int = 0
    remarks: tuple[str, ...] = ()


class Layout(Protocol):
    """How labels stand in a table."""

    def add(self, batch: Batch, problems: Problems) -> None:
        """Takes the labels of the next rows; what is wrong with them goes to the problems."""

    def entries(self) -> Entries:
        """What all of the rows say."""


def is_empty(value: Any) -> bool:
    """Whether a cell says nothing: an empty one, null, NaN, or a key that is not there."""
    return value is MISSING or value is None or value == "" or value != value


def _read_cells(batch: Batch, column: str, problems: Problems) -> list[int]:
    values = batch.columns[column]
    try:
        return [CELLS[value] for value in values]
    except (KeyError, TypeError):
        return [_read_cell(batch, column, row, problems) for row in range(len(values))]


def _read_cell(batch: Batch, column: str, row: int, problems: Problems) -> int:
    """The slow way, which forgives blanks and capitals, and knows the column."""
    value = batch.columns[column][row]
    if value is not MISSING and value != value:  # NaN
        return -1
    key = value.strip().lower() if isinstance(value, str) else value
    if isinstance(key, str | int | float | None) and key in CELLS:
        return CELLS[key]
    kind = "cell(s) of label columns that are not 1, 0, -1 or empty"
    problems.add(kind, f"{value!r} ({batch.where(row)}, column {column!r})")
    return -1


class LabelColumns:
    """One column a label: 1 positive, 0 negative, -1 or nothing unknown."""

    def __init__(self, label_names: list[str]) -> None:
        self.label_names = label_names
        self._num_rows = 0
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(self, batch: Batch, problems: Problems) -> None:
        cells = np.empty((len(batch.numbers), len(self.label_names)), dtype=np.int8)
        for label, name in enumerate(self.label_names):
            cells[:, label] = _read_cells(batch, name, problems)
        rows, labels = np.nonzero(cells)
        self._parts.append((rows + self._num_rows, labels.astype(np.int32), cells[rows, labels]))
        self._num_rows += len(cells)

    def entries(self) -> Entries:
        rows, labels, codes = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        return Entries(self.label_names, rows, labels, codes)  # the codes of 1 and -1 are themselves


class LabelLists:
    """One column with a list of the positive labels, and perhaps one of those that nobody checked.

    What is not listed is negative. Equal lists are kept once.
    """

    def __init__(self, labels: str, unknown: str, separator: str | None) -> None:
        self._columns = {labels: array("q"), unknown: array("q")}
        self._codes = {labels: POSITIVE, unknown: UNKNOWN}
        self._separator = separator
        self._lists: dict[str | tuple[str, ...], int] = {}

    def add(self, batch: Batch, problems: Problems) -> None:
        number_of = self._lists
        for column, numbers in self._columns.items():
            for row, value in enumerate(batch.columns.get(column, [""] * len(batch.numbers))):
                key = value if type(value) is str else _key(batch, column, row, problems)
                numbers.append(number_of.setdefault(key, len(number_of)))

    def entries(self) -> Entries:
        texts = [cell for cell in self._lists if isinstance(cell, str)]
        separator = self._separator or next(
            (mark for mark in SEPARATORS if any(mark in text for text in texts)), SEPARATORS[0]
        )
        number_of: dict[str, int] = {}
        named, ends = array("q"), array("q", [0])
        for cell in self._lists:
            names = map(str.strip, cell.split(separator)) if isinstance(cell, str) else cell
            named.extend([number_of.setdefault(name, len(number_of)) for name in names if name])
            ends.append(len(named))
        label_names, columns = _sorted(number_of)
        labels = columns[np.frombuffer(named, np.int64)]
        shape = (len(self._lists), len(label_names))
        listed = sp.csr_array((np.ones(len(labels), np.int64), labels, np.frombuffer(ends, np.int64)), shape)
        listed.sum_duplicates()

        found, twice = [], 0
        for name, numbers in self._columns.items():
            said = listed[np.frombuffer(numbers, dtype=np.int64)].tocoo()
            twice += len(np.unique(said.coords[0][said.data > 1]))
            found.append((*said.coords, np.full(said.nnz, self._codes[name], dtype=np.int8)))
        remarks = (f"{twice:,} list(s) name a label more than once, which counts once",) if twice else ()
        rows, labels, codes = (np.concatenate(part) for part in zip(*found, strict=True))
        return Entries(label_names, rows, labels, codes, remarks=remarks)


def _key(batch: Batch, column: str, row: int, problems: Problems) -> tuple[str, ...]:
    value = batch.columns[column][row]
    if isinstance(value, list) and all(isinstance(name, str) and name for name in value):
        return tuple(value)
    if isinstance(value, list) or not is_empty(value):
        kind = "cell(s) that are no lists of label names"
        problems.add(kind, f"{str(value)[:40]} ({batch.where(row)}, column {column!r})")
    return ()


class LabelRows:
    """One row for each image and label, with or without a value.

    Without, the rows are the positive labels, and the others negative. With values, there are rows for negative
    ones too, and so a label without a row is unknown.
    """

    def __init__(self, label: str, value: str | None) -> None:
        self._label, self._value = label, value
        self._number_of: dict[str, int] = {}
        self._labels, self._cells = array("q"), array("b")

    def add(self, batch: Batch, problems: Problems) -> None:
        for row, written in enumerate(batch.columns[self._label]):
            name = "" if is_empty(written) else written
            if not isinstance(name, str):
                problems.add("label(s) that are no text", f"{name!r} ({batch.where(row)})")
                name = ""
            # An image without labels has a row too, in which the label is empty.
            name = name.strip()
            self._labels.append(self._number_of.setdefault(name, len(self._number_of)) if name else -1)
        if self._value is None:
            self._cells.extend([1] * len(batch.numbers))
        else:
            self._cells.extend(_read_cells(batch, self._value, problems))

    def entries(self) -> Entries:
        label_names, columns = _sorted(self._number_of)
        labels, cells = np.frombuffer(self._labels, np.int64), np.frombuffer(self._cells, np.int8)
        (rows,) = np.nonzero(labels >= 0)
        codes = np.array([CODES[-1], CODES[0], CODES[1]], dtype=np.int8)
        return Entries(
            label_names,
            rows,
            columns[labels[rows]],
            codes[cells[rows] + 1],
            0 if self._value is None else -1,
        )


def _sorted(number_of: dict[str, int]) -> tuple[list[str], np.ndarray]:
    """Names in their order, and for each name, as they were numbered, its place in it."""
    label_names = sorted(number_of)
    columns = np.empty(len(label_names), dtype=np.int32)
    columns[[number_of[name] for name in label_names]] = np.arange(len(label_names))
    return label_names, columns
