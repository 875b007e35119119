"""Your own images: a CSV file, or one for each split, beside them."""

from __future__ import annotations

import csv
import os
import warnings
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int8

from zoo.annotations import Annotations
from zoo.data.dataset import ImageDataset, shorten
from zoo.data.paths import ImagePaths
from zoo.data.splits import SPLITS, complete_splits
from zoo.lookup import InputError, unknown

# pandas writes "1.0" where a column has gaps.
CELLS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1, "": -1}
SPLIT_NAMES = {name: name for name in SPLITS} | {"valid": "val", "validation": "val", "": ""}
SEPARATORS = "|;,"


def csv_folder(
    path: str | Path,
    *,
    images: str = "image",
    separator: str | None = None,
    seed: int = 0,
    allow_empty_labels: bool = False,
    check_images: bool = True,
) -> ImageDataset:
    """Reads a data set from CSV files: UTF-8, commas, a header, one image a line.

    Two layouts, told apart by a column ``labels``::

        image,dog,cat,split,group        image,labels
        a.jpg,1,0,train,monday           a.jpg,dog
        b.jpg,0,,test,tuesday            b.jpg,dog;cat

    On the left every other column is a label: 1 positive, 0 negative, -1 or an empty cell unknown. On the
    right what is not listed is negative, and labels are sorted by name. Both may have the columns ``split``
    (train, val, test; also valid, validation) and ``group`` (images that must stay in one split; an empty
    cell is a group of its own). Splits that are missing are made by
    :func:`zoo.data.splits.complete_splits`.

    Args:
        path: a CSV file; a folder with ``labels.csv``, or with ``train.csv``, ``val.csv`` and ``test.csv`` or
            some of them; or such files by a pattern, ``lists/{split}_2014.csv``.
        images: the column that holds the image paths, which are relative to the CSV's folder.
        separator: what stands between the names in ``labels``. By default the first of ``|``, ``;`` and ``,``
            that occurs in the column.
        seed: for splits that are made.
        allow_empty_labels: keep labels that no image has. Nothing can be learnt or measured about them.
        check_images: whether every image must be there; a label graph is counted without.

    Raises:
        InputError: with every problem of the files at once, by line, column and value.
    """
    files = _find_files(Path(path))
    table = _Table(images, check_images)
    for file, split in files:
        table.read(file, split)
    table.raise_problems(path)

    label_names, targets = table.targets(separator)
    positives = (targets == 1).sum(0)
    if not allow_empty_labels and (empty := np.flatnonzero(positives == 0)).size:
        names = shorten([label_names[i] for i in empty])
        raise InputError(
            f"{path}: no image is positive for {names}. Such a label can be neither learnt nor measured: "
            "take it out, or keep it with allow_empty_labels=True"
        )
    given = np.array(table.splits)
    groups = None
    if any(table.groups):
        groups = np.array([group or image for group, image in zip(table.groups, table.images, strict=True)])
    try:
        splits = complete_splits(given, targets, groups, seed)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    lost = np.flatnonzero((positives > 0) & ((targets[splits == "train"] == 1).sum(0) == 0))
    if lost.size:
        names = shorten([label_names[i] for i in lost])
        warnings.warn(f"{path}: no image of train is positive for {names}", stacklevel=2)

    made = ", ".join(split for split in SPLITS if split in splits and split not in given)
    file, split = files[0]
    return ImageDataset(
        name=file.parent.resolve().name if split or file.name == "labels.csv" else file.stem,
        images=ImagePaths.of(table.images),
        annotations=Annotations.from_array(targets),
        label_names=label_names,
        splits=splits,
        groups=groups,
        protocol=f"{made} made by iterative stratification, seed {seed}" if made else "its own splits",
    )


def _find_files(path: Path) -> list[tuple[Path, str]]:
    """The CSV files, each with the split of all its rows, or "" where the rows say for themselves."""
    if path.is_file():
        return [(path, "")]
    if (path / "labels.csv").is_file():
        return [(path / "labels.csv", "")]
    pattern = str(path / "{split}.csv" if path.is_dir() else path)
    if "{split}" in pattern:
        named = [
            (Path(pattern.replace("{split}", word)), split) for word, split in SPLIT_NAMES.items() if word
        ]
        files = [(file, split) for file, split in named if file.is_file()]
        if not files:
            lacking = "neither labels.csv nor train.csv" if path.is_dir() else "no train, val or test file"
            raise InputError(f"{path}: found {lacking}")
        for split, count in Counter(split for _, split in files).items():
            if count > 1:
                raise InputError(f"{path}: more than one file for split {split!r}")
        return files
    if not path.parent.is_dir():
        raise InputError(f"{path}: no such CSV file or folder, nor a folder {path.parent}")
    siblings = [near.name for near in path.parent.iterdir() if near.suffix == ".csv" or near.is_dir()]
    raise InputError(f"{path}: {unknown('CSV file or folder', path.name, siblings)}")


class _Table:
    """The rows of all files and what is wrong with them, gathered so that one run shows every problem."""

    def __init__(self, image_column: str, check_images: bool) -> None:
        self.image_column, self.check_images = image_column, check_images
        self.label_columns: list[str] | None = None  # in the first file's order; [] where `labels` lists them
        self.cells = array("b")
        self.lists: list[str] = []
        self.images: list[str] = []
        self.splits: list[str] = []
        self.groups: list[str] = []
        self.seen: dict[str, str] = {}  # image: file and line
        self.examples: dict[str, list[str]] = {}  # kind of problem: the first three
        self.problems: Counter[str] = Counter()

    def _problem(self, kind: str, example: str) -> None:
        self.problems[kind] += 1
        if self.problems[kind] <= 3:
            self.examples.setdefault(kind, []).append(example)

    def raise_problems(self, path: str | Path) -> None:
        """Raises one error for all problems, with a line for each kind."""
        lines = [
            f"{count:,} {kind}: {'; '.join(self.examples[kind])}{'; ...' if count > 3 else ''}"
            for kind, count in self.problems.items()
        ]
        if not lines and not self.images:
            lines = ["it has a header, but no images"]
        if lines:
            raise InputError("\n  ".join([f"{path} cannot be used:", *lines]))

    def read(self, file: Path, split: str) -> None:
        """Appends the rows of a file; with ``split`` all of them belong to it."""
        try:
            with open(file, newline="", encoding="utf-8-sig") as stream:  # Excel starts its files with a BOM
                reader = csv.reader(stream)
                header = [name.strip() for name in next(reader, [])]
                self._check_header(file, split, header)
                self._read_rows(file, split, header, ((reader.line_num, row) for row in reader if row))
        except UnicodeDecodeError as error:
            raise InputError(f"{file} is not UTF-8 ({error.reason}): save it as CSV UTF-8") from None
        except csv.Error as error:
            raise InputError(f"{file} line {reader.line_num}: {error}") from None

    def _check_header(self, file: Path, split: str, header: list[str]) -> None:
        """Sets the label columns by the first file, and holds the others to them."""
        if not header:
            raise InputError(f"{file} is empty; its first line must name the columns")
        twice = [name for name, count in Counter(header).items() if count > 1]
        if twice:
            raise InputError(f"{file}: more than one column named {', '.join(map(repr, twice))}")
        if self.image_column not in header:
            raise InputError(f"{file}: {unknown('column', self.image_column, header)} (read with commas)")
        if "" in header:
            raise InputError(
                f"{file}: column {header.index('') + 1} has no name (an index column? leave it out)"
            )
        if split and "split" in header:
            raise InputError(f"{file}: a column 'split' in the file of split {split!r}; leave it out")
        columns = [name for name in header if name not in (self.image_column, "split", "group")]
        if not columns:
            raise InputError(
                f"{file} has no labels: expected a column for each label, or one column 'labels'"
            )
        if "labels" in columns:
            columns.remove("labels")
            if columns:
                raise InputError(f"{file}: the column 'labels' lists them all; take out {shorten(columns)}")
        if self.label_columns is None:
            self.label_columns = columns
        elif odd := sorted(set(columns) ^ set(self.label_columns)):
            raise InputError(f"{file}: label columns that are not in all of the files: {shorten(odd)}")

    def _read_rows(
        self, file: Path, split: str, header: list[str], rows: Iterator[tuple[int, list[str]]]
    ) -> None:
        at = {name: i for i, name in enumerate(header)}
        label_at = {name: at[name] for name in self.label_columns or ()}
        folder = str(file.parent)
        for line, row in rows:
            where = f"{file.name} line {line}"
            if len(row) != len(header):
                self._problem(f"row(s) without the header's {len(header)} columns", f"{where} has {len(row)}")
                continue
            written = row[at[self.image_column]].strip()
            # A Path would cost ten times as much, which a million rows show.
            image = os.path.normpath(os.path.join(folder, written))
            if not written:
                self._problem("row(s) without an image", where)
            elif image in self.seen:
                self._problem("image(s) listed again", f"{written} ({self.seen[image]} and {where})")
            elif self.check_images and not os.path.isfile(image):
                kind = f"image(s) not found, by paths relative to the CSV's folder {file.parent.absolute()}"
                self._problem(kind, f"{written} ({where})")
            self.seen.setdefault(image, where)
            self.images.append(image)
            if label_at:
                self._append_cells(row, label_at, where)
            else:
                self.lists.append(row[at["labels"]])
            word = split or (row[at["split"]].strip().lower() if "split" in at else "")
            if word not in SPLIT_NAMES:
                self._problem("split(s) other than train, val and test", f"{word!r} ({where})")
            self.splits.append(SPLIT_NAMES.get(word, ""))
            self.groups.append(row[at["group"]].strip() if "group" in at else "")

    def _append_cells(self, row: list[str], label_at: dict[str, int], where: str) -> None:
        try:
            self.cells.extend([CELLS[row[i]] for i in label_at.values()])
        except KeyError:  # The slow way, which forgives blanks and knows the column.
            for name, i in label_at.items():
                if row[i].strip() not in CELLS:
                    kind = "cell(s) of label columns that are not 1, 0, -1 or empty"
                    self._problem(kind, f"{row[i]!r} ({where}, column {name!r})")
                self.cells.append(CELLS.get(row[i].strip(), -1))

    def targets(self, separator: str | None) -> tuple[list[str], Int8[np.ndarray, "N L"]]:
        """Label names and targets (N, L)."""
        if self.label_columns:
            cells = np.array(self.cells, dtype=np.int8)
            return self.label_columns, cells.reshape(len(self.images), len(self.label_columns))
        if separator is None:
            separator = next((s for s in SEPARATORS if any(s in cell for cell in self.lists)), SEPARATORS[0])
        listed = [[name for part in cell.split(separator) if (name := part.strip())] for cell in self.lists]
        column = {name: i for i, name in enumerate(sorted({name for names in listed for name in names}))}
        if not column:
            raise InputError("the column 'labels' is empty in every row")
        targets = np.zeros((len(listed), len(column)), dtype=np.int8)
        for i, names in enumerate(listed):
            targets[i, [column[name] for name in names]] = 1
        return list(column), targets
