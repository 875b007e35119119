"""Label files with one row for each image and label, of any size: how Open Images and many others come.

CSV --16 MiB at a time, in pyarrow--> (image, label, verdict) in 64 bits a row --one sort--> Parsed
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.csv_blocks import blocks_of, bytes_progress, header_of
from zoo.data.dataset import shorten
from zoo.data.numbered_names import NumberedNames, image_paths
from zoo.data.parsed import Parsed
from zoo.data.problems import Problems
from zoo.data.row_keys import SAYS_NEGATIVE, SAYS_POSITIVE, SAYS_UNKNOWN, SECOND, RowKeys
from zoo.data.splits import SPLITS
from zoo.lookup import InputError

THREAD = 2**22  # bytes that one thread parses at once
PENDING = 2**22  # image names that wait to be numbered, at least
MANY = 1000  # problems after which reading stops


@dataclass(frozen=True)
class RowFile:
    """A CSV file (UTF-8, commas, a header) with one row for each image and label.

    Attributes:
        path: where it lies.
        split: of all its images: "train", "val", "test", or "" where that is yet to be decided.
        image_path: what makes an image's path of what the file calls it; one for all files of a split.
        positive: a row whose value is this or more says that the label is there.
        negative: a row whose value is this or less says that it is not; None: no row says so.
        second: its rows count for the pairs of image and label of which no other file says anything.
    """

    path: Path
    split: str = ""
    image_path: str = "{}"
    positive: float = 1.0
    negative: float | None = 0.0
    second: bool = False

    def verdict(self, value: str) -> int | None:
        """What a value says: a number from 0 to 1; -1 or nothing is unknown, and so is what lies in between.

        Returns:
            One of ``SAYS_POSITIVE``, ``SAYS_NEGATIVE``, ``SAYS_UNKNOWN``, or None for a value that is none.
        """
        try:
            number = float(value) if value.strip() else -1.0
        except ValueError:
            return None
        if number == -1:
            return SAYS_UNKNOWN
        if not 0 <= number <= 1:
            return None
        if number >= self.positive:
            return SAYS_POSITIVE
        return SAYS_NEGATIVE if self.negative is not None and number <= self.negative else SAYS_UNKNOWN


def read_label_rows(
    files: Sequence[RowFile],
    *,
    image: str = "image",
    label: str = "label",
    value: str | None = None,
    only: tuple[str, str] | None = None,
    labels: Sequence[str] | None = None,
    absent: int = -1,
) -> Parsed:
    """Reads label files in memory that grows with what they say, not with how they say it.

    Rows may come in any order. A pair of image and label that is listed several times counts once; it is
    positive if any row says so, else negative if any row says so. How often that happened is in the remarks.

    Args:
        files: the files. Those of one split are read together, in this order.
        image: the column that names the image.
        label: the column that names the label.
        value: the column that says how sure it is, from 0 to 1 (:meth:`RowFile.verdict`); None: every row is
            a positive.
        only: a column and a value that it must have; other rows are left out.
        labels: the labels, in their order; rows of others are left out. None: all that occur, sorted by name.
        absent: what a pair is that no row mentions: -1 unknown, 0 negative.

    Returns:
        Every image that the files name, split by split in the order train, val, test, and in the order in which
        the files name them, and what they say.

    Raises:
        InputError: pyarrow is not installed; a column is missing; an image is in two splits; or rows are
            malformed, with the line of the first three of each kind.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise InputError("files with one row a label need: pip install 'label-graph-zoo[data]'") from None
    reader = _Reader((image, label), value, only, labels)
    sizes = {}
    paths: list[tuple[str, Any]] = []
    size = sum(file.path.stat().st_size for file in files)
    with bytes_progress("Reading labels", size) as advance:
        for split in (*SPLITS, ""):
            start = reader.images.count
            for file in (file for file in files if file.split == split):
                reader.read(file, start, advance)
                reader.settle(start)
            sizes[split] = reader.images.count - start
            if sizes[split]:
                paths.append((file.image_path, reader.images.known[start:]))
    reader.raise_problems()
    if not paths:
        raise InputError(f"{shorten([str(file.path) for file in files], 3)}: a header, but no rows")

    label_names = reader.labels.known.to_pylist()[: reader.num_labels]
    order = np.arange(len(label_names))
    if labels is None:
        order = np.array(sorted(order, key=label_names.__getitem__))
        label_names = [label_names[i] for i in order]
    names = image_paths(paths)
    del paths, reader.images  # as many bytes again
    shape = (len(names), len(label_names))
    annotations, remarks = reader.keys.annotations(np.argsort(order), shape, absent)
    splits = np.repeat(np.array(list(sizes)), list(sizes.values()))
    return Parsed(names, annotations, label_names, splits, (*reader.remarks(), *remarks))


class _Reader:
    """The rows of all files, and what is wrong with them."""

    def __init__(
        self,
        names: tuple[str, str],
        value: str | None,
        only: tuple[str, str] | None,
        labels: Sequence[str] | None,
    ) -> None:
        self.image_column, self.label_column = names
        self.value, self.only, self.given_labels = value, only, labels
        self.columns = [*names, *([value] if value else []), *([only[0]] if only else [])]
        self.images, self.labels = NumberedNames(), NumberedNames(labels or ())
        self.keys = RowKeys()
        self.waiting: list[tuple[np.ndarray, np.ndarray]] = []  # pending image; label and verdict
        self.rows_of_label = np.zeros(0, dtype=np.int64)
        self.other_rows = 0  # that `only` leaves out
        self.twice = np.zeros(0, dtype=np.int64)  # images that are in two splits
        self.problems = Problems()
        self.paths: list[Path] = []

    @property
    def num_labels(self) -> int:
        return self.labels.count if self.given_labels is None else len(self.given_labels)

    def read(self, file: RowFile, start: int, advance: Callable[[int], None]) -> None:
        """Takes the rows of a file in; ``start`` is the first image of its split."""
        self.paths.append(file.path)
        blocks = blocks_of(file.path)
        header = header_of(file.path, next(blocks, (b"", 1))[0], self.columns)
        for block, line in blocks:
            self._read_block(file, header, block, line)
            advance(len(block))
            if self.problems.counts.total() >= MANY:
                self.raise_problems()
            if self.images.num_pending > max(PENDING, self.images.count):
                self.settle(start)  # Each name is numbered once or twice, however often it comes.

    def _read_block(self, file: RowFile, header: list[str], block: bytes, line: int) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.csv as pa_csv

        if block.isspace():
            return
        word = pa.dictionary(pa.int32(), pa.string())
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(block),
                read_options=pa_csv.ReadOptions(column_names=header, block_size=THREAD),
                convert_options=pa_csv.ConvertOptions(
                    include_columns=self.columns, column_types=dict.fromkeys(self.columns, word)
                ),
            )
        except pa.ArrowInvalid as error:
            self._find_problems(file, header, block, line, str(error))
            return
        codes, words = {}, {}
        for name in self.columns:
            column = table[name].unify_dictionaries().combine_chunks()
            column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
            codes[name] = column.indices.to_numpy()
            words[name] = pc.utf8_trim_whitespace(column.dictionary.cast(pa.large_string()))
        verdicts = [file.verdict(text) for text in words[self.value].to_pylist()] if self.value else []
        names = pa.chunked_array([words[name] for name in self.columns[:2]])
        wrong = pc.any(pc.equal(names, "")).as_py()
        # pyarrow takes a line end in quotes for a part of the name, unless the block ends there.
        wrong |= b'"' in block and pc.any(pc.match_substring(names, "\n")).as_py()
        if wrong or None in verdicts:
            self._find_problems(file, header, block, line, "")
            return

        first = self.images.add(words[self.image_column])
        self.labels.add(words[self.label_column])
        label = self.labels.settle()[codes[self.label_column]]
        self.rows_of_label = np.pad(self.rows_of_label, (0, self.labels.count - len(self.rows_of_label)))
        low = label << 3
        if self.value:
            low |= np.array(verdicts, dtype=np.int32)[codes[self.value]]
        if file.second:
            low |= SECOND
        keep = np.ones(len(low), dtype=bool)
        if self.only:
            name, wanted = self.only
            keep = np.array([text == wanted for text in words[name].to_pylist()], dtype=bool)[codes[name]]
            self.other_rows += int((~keep).sum())
        self.rows_of_label += np.bincount(label[keep], minlength=self.labels.count)
        keep &= label < self.num_labels
        image = codes[self.image_column] + np.int32(first)
        self.waiting.append((image, low) if keep.all() else (image[keep], low[keep]))

    def settle(self, start: int) -> None:
        """Numbers the images of the rows that wait; one before ``start`` is in an earlier split."""
        number = self.images.settle()
        self.twice = np.union1d(self.twice, number[number < start])
        for image, low in self.waiting:
            self.keys.add(number[image], low)
        self.waiting = []

    def remarks(self) -> Iterator[str]:
        """What was left out."""
        if self.only and self.other_rows:
            yield f"{self.other_rows:,} row(s) with another {self.only[0]} than {self.only[1]!r} left out"
        rows = self.rows_of_label[self.num_labels :]
        if rows.any():
            others = self.labels.known[self.num_labels :].to_pylist()
            names = [name for name, count in zip(others, rows, strict=True) if count]
            yield f"{rows.sum():,} row(s) of {len(names):,} unknown label(s) left out: {shorten(names, 3)}"

    def _find_problems(self, file: RowFile, header: list[str], block: bytes, line: int, message: str) -> None:
        """Names what is wrong in a block, row by row: slow, and seldom needed."""
        before = self.problems.counts.total()
        for number, raw in enumerate(block.split(b"\n"), start=line):
            where = f"{file.path.name} line {number}"
            if not raw.strip(b"\r"):
                continue
            try:
                (row,) = csv.reader([raw.rstrip(b"\r").decode()])
            except (UnicodeDecodeError, csv.Error) as error:
                self.problems.add("row(s) that are no CSV in UTF-8", f"{where} ({error})")
                continue
            if len(row) != len(header):
                self.problems.add(
                    f"row(s) without the header's {len(header)} columns", f"{where} has {len(row)}"
                )
                continue
            cell = dict(zip(header, row, strict=True))
            for name in self.columns[:2]:
                if not cell[name].strip():
                    self.problems.add(f"row(s) with an empty {name!r}", where)
            if self.value and file.verdict(cell[self.value]) is None:
                kind = f"value(s) of {self.value!r} that are neither a number from 0 to 1 nor -1"
                self.problems.add(kind, f"{cell[self.value]!r} ({where}, column {self.value!r})")
        if self.problems.counts.total() == before:
            last = line + block.count(b"\n") - 1
            where = f"{file.path.name} lines {line} to {last}"
            self.problems.add("block(s) that cannot be read", f"{where}: {message}")

    def raise_problems(self) -> None:
        """Raises one error for all problems."""
        for image in self.images.known.take(self.twice).to_pylist():
            self.problems.add("image(s) in more than one split", image)
        many = self.problems.counts.total() >= MANY
        more = f" ({MANY:,} problems or more: read no further)" if many else ""
        self.problems.raise_any(f"{shorten([str(path) for path in self.paths], 3)}{more}")
