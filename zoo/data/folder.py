"""Your own images: a label file in any everyday format, or one for each split, beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zoo.data.completed import complete_dataset
from zoo.data.dataset import ImageDataset, shorten
from zoo.data.label_table import SPLIT_NAMES, LabelTable
from zoo.data.paths import ImagePaths
from zoo.data.records import FORMATS, Batch, read_records
from zoo.lookup import InputError, unknown

STEMS = ("labels", "metadata")  # the second is that of Hugging Face's ImageFolder
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
LARGE = 2**20  # bytes of a label file that take long enough for a progress bar


def image_folder(
    path: str | Path,
    *,
    images: str = "image",
    labels: str = "labels",
    separator: str | None = None,
    seed: int = 0,
    allow_empty_labels: bool = False,
    check_images: bool = True,
) -> ImageDataset:
    """Reads a data set from label files: CSV, TSV, JSON, JSON Lines or Parquet, by the suffix.

    Three layouts, told apart by their columns::

        image,dog,cat,split,group        image,labels        image,label
        a.jpg,1,0,train,monday           a.jpg,dog           a.jpg,dog
        b.jpg,0,,test,tuesday            b.jpg,dog;cat       b.jpg,dog
                                                             b.jpg,cat

    One column a label: 1 positive, 0 negative, -1 or nothing (an empty cell, null, NaN) unknown. A column
    ``labels`` with lists, of JSON and Parquet or with separators in text: what is not listed is negative, but for
    the labels that a column ``unknown`` lists. One row for each image and label: what has no row is negative; with
    a column ``value`` (1, 0, -1) it is unknown. Listed labels are sorted by name.

    All may have the columns ``split`` (train, val, test; also valid, validation) and ``group`` (images that must
    stay in one split; an empty cell is a group of its own). Splits that are missing are made by
    :func:`zoo.data.splits.complete_splits`. JSON is a list of records, or ``{image: [labels]}``.

    Args:
        path: a label file; a folder with one (``labels.csv``, ``metadata.jsonl``, ...) or with one for each split
            (``train.csv`` or ``train/labels.csv``, and so on); or such files by a pattern,
            ``lists/{split}_2014.csv``.
        images: the column that holds the image paths, which are relative to the file's folder. Where there is
            no ``image``, ``file_name``, ``image_name``, ``filename`` or ``path`` is taken for it.
        labels: the column that lists the labels, in that layout.
        separator: what stands between the names in a text of labels. By default the first of ``|``, ``;`` and
            ``,`` that occurs in the column.
        seed: for splits that are made.
        allow_empty_labels: keep labels that no image has. Nothing can be learnt or measured about them.
        check_images: whether every image must be there; a label graph is counted without.

    Raises:
        InputError: with every problem of the files at once, by line, column and value.
    """
    path = Path(path).expanduser()  # no shell does it after an option's equals sign
    table = LabelTable(images, labels, separator, check_images)
    files = _find_files(path)
    for file, split in files:
        for batch in _with_progress(file, read_records(file, table.problems)):
            table.add(batch, split)
    label_names, annotations = table.finish(path)
    groups = None
    if any(table.groups):
        groups = np.array([group or image for group, image in zip(table.groups, table.images, strict=True)])
    return complete_dataset(
        path,
        _name(path, files[0][0]),
        ImagePaths.of(table.images),
        annotations,
        label_names,
        np.array(table.splits),
        groups,
        seed=seed,
        allow_empty_labels=allow_empty_labels,
        remarks=table.remarks,
    )


def _name(path: Path, file: Path) -> str:
    if path.is_file():
        return path.parent.resolve().name if path.stem in STEMS else path.stem
    folder = path if path.is_dir() else Path(str(path).partition("{split}")[0] + "_").parent
    return folder.resolve().name


def _with_progress(file: Path, batches: Iterator[Batch]) -> Iterator[Batch]:
    if file.stat().st_size < LARGE:
        yield from batches
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"Reading {file.name}", total=1)
        for batch in batches:
            yield batch
            progress.update(bar, completed=batch.done)


def _find_files(path: Path) -> list[tuple[Path, str]]:
    """The label files, each with the split of all its rows, or "" where the rows say for themselves."""
    if path.is_file():
        return [(path, "")]
    for stem in STEMS if path.is_dir() else ():
        found = [file for suffix in FORMATS if (file := path / f"{stem}{suffix}").is_file()]
        if len(found) > 1:
            raise InputError(
                f"{path}: more than one label file: {shorten([f.name for f in found])}; name one"
            )
        if found:
            return [(found[0], "")]
    if path.is_dir() or "{split}" in str(path):
        files = [
            (file, split) for word, split in SPLIT_NAMES.items() if word for file in _split_files(path, word)
        ]
        for split, count in Counter(split for _, split in files).items():
            if count > 1:
                names = shorten([str(file) for file, other in files if other == split])
                raise InputError(f"{path}: more than one file for split {split!r}: {names}")
        if not files:
            raise _no_file(path)
        return files
    if not path.parent.is_dir():
        raise InputError(f"{path}: no such label file or folder, nor a folder {path.parent}")
    siblings = [near.name for near in path.parent.iterdir() if near.suffix in FORMATS or near.is_dir()]
    raise InputError(f"{path}: {unknown('label file or folder', path.name, siblings)}")


def _split_files(path: Path, word: str) -> list[Path]:
    if not path.is_dir():
        files = [Path(str(path).replace("{split}", word))]
    else:
        stems = (path / word, *(path / word / stem for stem in STEMS))
        files = [stem.with_name(stem.name + suffix) for stem in stems for suffix in FORMATS]
    return [file for file in files if file.is_file()]


def _no_file(path: Path) -> InputError:
    if not path.is_dir():
        return InputError(f"{path}: found no train, val or test file")
    message = (
        f"{path}: found neither labels.csv nor train.csv, nor metadata.csv, nor train/labels.csv, nor one "
    )
    message += f"of the suffixes {', '.join(list(FORMATS)[1:])}"
    folders = sorted(child for child in path.iterdir() if child.is_dir())
    with_images = [
        folder.name
        for folder in folders
        if any(file.suffix.lower() in IMAGE_SUFFIXES for file in folder.iterdir())
    ]
    if with_images:
        message += (
            f". Its folders {shorten(with_images, 3)} hold images, but a folder names one label at most, and images "
            f"here may have several: write labels.csv with the columns image,labels and lines such as "
            f"{with_images[0]}/1.jpg,dog|outdoors"
        )
    return InputError(message)
