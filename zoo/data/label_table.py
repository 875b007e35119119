"""The rows of all of a data set's label files: which images, in which splits and groups, with which labels."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np
import scipy.sparse as sp

from zoo.annotations import UNKNOWN, Annotations
from zoo.data.cells import Entries, LabelColumns, LabelLists, LabelRows, Layout, is_empty
from zoo.data.dataset import shorten
from zoo.data.problems import Problems
from zoo.data.records import Batch
from zoo.lookup import InputError, unknown

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "": ""}
NO_PATH = "\0"  # begins what stands for a path that is not there; no path holds it
# What other tools call the column of images: Hugging Face, Kaggle, NUS-WIDE's JSON, and everyone.
IMAGE_COLUMNS = ("file_name", "image_name", "filename", "path")
UNCHECKED = "unknown"  # the column of labels that nobody checked, beside a column of labels


class LabelTable:
    """Rows, gathered batch by batch, and what is wrong with them.

    An image costs its path, twenty bytes and its positive labels.

    Args:
        images: the column of image paths, relative to their file's folder.
        labels: the column of label lists, where there is one.
        separator: what stands between labels in text; None: found.
        check_images: whether every image must be there.
    """

    def __init__(self, images: str, labels: str, separator: str | None, check_images: bool) -> None:
        self.problems = Problems()
        self.remarks: list[str] = []
        self.splits: list[str] = []  # of each image
        self.groups: list[str] = []  # of each image, "" for none
        self._images, self._labels = images, labels
        self._separator, self._check_images = separator, check_images
        self._layout: Layout | None = None
        self._label_columns: list[str] = []
        self._number_of: dict[str, int] = {}  # each image's path, and its place
        self._first_row = array("q")  # of each image
        self._image_of = array("q")  # of each row
        self._numbers = array("q")  # of each row, in its file
        self._starts: list[tuple[int, Batch]] = []  # each file's first row, and a batch that knows its name
        self._again: list[tuple[int, str]] = []  # rows with an image that another row has, as they write it

    @property
    def images(self) -> list[str]:
        """Their paths."""
        return list(self._number_of)

    def add(self, batch: Batch, split: str) -> None:
        """Appends rows; with ``split`` all of them belong to it."""
        if not self._starts or self._starts[-1][1].file != batch.file:
            self._starts.append((len(self._image_of), batch))
        column = self._check_columns(batch, split)
        assert self._layout is not None
        self._layout.add(batch, self.problems)
        self._numbers.extend(batch.numbers)
        self._add_images(batch, column, self._read_splits(batch, split), self._read_groups(batch))

    def _check_columns(self, batch: Batch, split: str) -> str:
        """Finds the column of images, and by all others the layout, to which later batches are held."""
        file, columns = batch.file, list(batch.columns)
        images = self._image_column(file, columns)
        if split and "split" in columns:
            raise InputError(f"{file}: a column 'split' in the file of split {split!r}; leave it out")
        columns = [name for name in columns if name not in (images, "split", "group")]
        if not columns:
            raise InputError(
                f"{file} has no labels: expected a column for each label, or one column {self._labels!r}"
            )
        layout: Layout
        if self._labels in columns:
            if odd := [name for name in columns if name not in (self._labels, UNCHECKED)]:
                raise InputError(
                    f"{file}: the column {self._labels!r} lists them all; take out {shorten(odd)}"
                )
            columns = [self._labels]
            layout = LabelLists(self._labels, UNCHECKED, self._separator)
        elif set(columns) in ({"label"}, {"label", "value"}):
            layout = LabelRows("label", "value" if "value" in columns else None)
        else:
            layout = LabelColumns(columns)
        if self._layout is None:
            self._layout, self._label_columns = layout, columns
            if isinstance(layout, LabelRows) and "value" in columns:
                self.remarks.append("a label of which an image has no row is unknown, since there are values")
        elif odd := sorted(set(columns) ^ set(self._label_columns)):
            raise InputError(f"{file}: label columns that are not in all of the files: {shorten(odd)}")
        return images

    def _image_column(self, file: Path, columns: list[str]) -> str:
        if self._images in columns:
            return self._images
        others = [name for name in IMAGE_COLUMNS if name in columns] if self._images == "image" else []
        if len(others) != 1:
            raise InputError(f"{file}: {unknown('column', self._images, columns)}")
        remark = f"{file.name} has no column 'image'; the images are those of {others[0]!r}"
        if remark not in self.remarks:
            self.remarks.append(remark)
        return others[0]

    def _read_splits(self, batch: Batch, split: str) -> list[str]:
        written = batch.columns.get("split")
        if split or written is None:
            return [split] * len(batch.numbers)
        try:
            return [SPLIT_NAMES[word] for word in written]
        except (KeyError, TypeError):  # the slow way, which forgives blanks and capitals
            return [self._read_split(batch, row, word) for row, word in enumerate(written)]

    def _read_split(self, batch: Batch, row: int, written: Any) -> str:
        word = "" if is_empty(written) else str(written).strip().lower()
        if word and word not in SPLIT_NAMES:
            kind = "split(s) other than train, val and test"
            self.problems.add(kind, f"{word!r} ({batch.where(row)})")
        return SPLIT_NAMES.get(word, "")

    def _read_groups(self, batch: Batch) -> list[str]:
        written = batch.columns.get("group")
        if written is None:
            return [""] * len(batch.numbers)
        return ["" if is_empty(group) else intern(str(group).strip()) for group in written]

    def _add_images(self, batch: Batch, column: str, splits: list[str], groups: list[str]) -> None:
        """Numbers the images; each has the split and the group of its first row."""
        for row, path in enumerate(self._read_paths(batch, column)):
            image = self._number_of.setdefault(path, len(self.splits))
            if image < len(self.splits):
                self._note_repeated(batch, row, batch.columns[column][row], image, splits[row], groups[row])
            else:
                self._first_row.append(len(self._image_of))
                self.splits.append(splits[row])
                self.groups.append(groups[row])
                if self._check_images and not os.path.isfile(path) and path[0] != NO_PATH:
                    folder = f"the {batch.file.suffix[1:].upper()}'s folder {batch.file.parent.absolute()}"
                    kind = f"image(s) not found, by paths relative to {folder}"
                    self.problems.add(kind, f"{batch.columns[column][row]} ({batch.where(row)})")
            self._image_of.append(image)

    def _read_paths(self, batch: Batch, column: str) -> list[str]:
        folder = str(batch.file.parent)
        # A Path would cost ten times as much, which a million rows show.
        return [
            os.path.normpath(os.path.join(folder, written.strip()))
            if isinstance(written, str) and written and not written.isspace()
            else self._no_path(batch, row, written)
            for row, written in enumerate(batch.columns[column])
        ]

    def _no_path(self, batch: Batch, row: int, written: Any) -> str:
        if is_empty(written) or isinstance(written, str):
            self.problems.add("row(s) without an image", batch.where(row))
        else:
            self.problems.add("image(s) that are no paths", f"{str(written)[:40]} ({batch.where(row)})")
        return f"{NO_PATH}{len(self._image_of) + row}"

    def _note_repeated(
        self, batch: Batch, row: int, written: str, image: int, split: str, group: str
    ) -> None:
        if not isinstance(self._layout, LabelRows):
            self._again.append((len(self._image_of), written))
        elif (split, group) != (self.splits[image], self.groups[image]):
            where = f"{written} ({self._where(self._first_row[image])} and {batch.where(row)})"
            self.problems.add("image(s) in more than one split or group", where)

    def _where(self, row: int) -> str:
        _, batch = self._starts[bisect_right(self._starts, row, key=lambda start: start[0]) - 1]
        return f"{batch.file.name} {batch.unit} {self._numbers[row]}"

    def finish(self, subject: object) -> tuple[list[str], Annotations]:
        """Label names, and what is known of every image.

        Args:
            subject: what was read, for the error.

        Raises:
            InputError: with every problem of all rows, or that there are no images or labels.
        """
        if self._layout is None:
            raise InputError(f"{subject} holds no records")
        entries = self._layout.entries()
        self._find_contradictions(entries)
        self._find_repeated_images(entries)
        self.problems.raise_any(subject)
        if not self._first_row:
            raise InputError(f"{subject} has a header, but no images")
        if not entries.label_names:
            raise InputError(f"{subject}: the column {self._label_columns[0]!r} is empty in every row")
        self.remarks += entries.remarks
        image = np.frombuffer(self._image_of, dtype=np.int64)[entries.rows]
        shape = (len(self._first_row), len(entries.label_names))
        said = (entries.codes != UNKNOWN) | (entries.absent == 0)  # the rest is as the rule has it
        return entries.label_names, Annotations.from_entries(
            image[said], entries.labels[said], entries.codes[said], shape, absent=entries.absent
        )

    def _find_contradictions(self, entries: Entries) -> None:
        """One image and one label twice: a remark where both say the same, else a problem."""
        # Where an image must not have more rows than one, a second row is another problem.
        rows = entries.rows
        image = np.frombuffer(self._image_of, np.int64)[rows] if isinstance(self._layout, LabelRows) else rows
        pair = image * len(entries.label_names) + entries.labels
        order = np.argsort(pair, kind="stable")
        (again,) = np.nonzero(np.diff(pair[order]) == 0)
        first, second = order[again], order[again + 1]
        differ = entries.codes[first] != entries.codes[second]
        for one, other in zip(first[differ].tolist(), second[differ].tolist(), strict=True):
            where = dict.fromkeys(self._where(int(rows[entry])) for entry in (one, other))
            name = entries.label_names[entries.labels[one]]
            self.problems.add(
                "label(s) that one image has with two values", f"{name!r} ({' and '.join(where)})"
            )
        if repeated := int((~differ).sum()):
            self.remarks.append(f"{repeated:,} row(s) repeat an image and its label, and were merged")

    def _find_repeated_images(self, entries: Entries) -> None:
        if not self._again:
            return
        again = np.array([row for row, _ in self._again])
        first = np.frombuffer(self._first_row, np.int64)[np.frombuffer(self._image_of, np.int64)[again]]
        shape = (len(self._image_of), len(entries.label_names))
        said = sp.csr_array((entries.codes.astype(np.int64), (entries.rows, entries.labels)), shape=shape)
        differs = abs(said[again] - said[first]).sum(axis=1) > 0
        for (row, written), one, other in zip(self._again, first.tolist(), differs, strict=True):
            kind = "image(s) listed again" + (" with other labels" if other else "")
            self.problems.add(kind, f"{written} ({self._where(one)} and {self._where(row)})")
