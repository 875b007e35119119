"""Data sets of Hugging Face's ``datasets``: a column of images, and one that lists the labels of each.

Dataset or DatasetDict --images that it holds itself: into the cache, once--> ImageDataset
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.annotations import POSITIVE, Annotations
from zoo.data.completed import complete_dataset
from zoo.data.dataset import ImageDataset, cache_dir, shorten
from zoo.data.label_table import SPLIT_NAMES
from zoo.data.paths import ImagePaths
from zoo.data.problems import Problems
from zoo.lookup import InputError, lookup, unknown

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

INDEX = "images.json"  # of a folder of written images
LISTS = "List(ClassLabel) or List(Value('string'))"
NEEDED = "Hugging Face data sets need: pip install 'label-graph-zoo[hf]'"


def huggingface(
    *,
    path: str,
    config: str | None = None,
    image: str = "image",
    labels: str | None = None,
    group: str | None = None,
    seed: int = 0,
    allow_empty_labels: bool = False,
    check_images: bool = True,
) -> ImageDataset:
    """Opens a data set of Hugging Face: a folder that ``save_to_disk`` wrote, or whatever ``load_dataset`` takes.

    Args:
        path: that folder, or a name on the Hub, or a folder with a data set's files.
        config: which configuration, where the Hub's data set has more than one.
        image: see :func:`from_huggingface`, as for all that follow.
        labels: likewise.
        group: likewise.
        seed: likewise.
        allow_empty_labels: likewise.
        check_images: likewise.

    Raises:
        InputError: ``datasets`` is not installed, there is no such data set, or the Hub cannot be reached.
    """
    try:
        import datasets
    except ImportError:
        raise InputError(NEEDED) from None
    folder = Path(path).expanduser()
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            dataset = datasets.load_from_disk(str(folder))
        else:
            dataset = datasets.load_dataset(str(folder) if folder.is_dir() else path, config)
    except (OSError, ValueError, RuntimeError) as error:  # what datasets and the Hub's client raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"hf: {path} is no folder that save_to_disk wrote, and load_dataset cannot open it: {reason}. "
            "Without a network, save the data set elsewhere with save_to_disk and give its folder"
        ) from None
    return from_huggingface(
        dataset,
        image=image,
        labels=labels,
        group=group,
        name=folder.name,
        seed=seed,
        allow_empty_labels=allow_empty_labels,
        check_images=check_images,
    )


def from_huggingface(
    dataset: Dataset | DatasetDict,
    *,
    image: str = "image",
    labels: str | None = None,
    group: str | None = None,
    name: str = "huggingface",
    seed: int = 0,
    allow_empty_labels: bool = False,
    check_images: bool = True,
) -> ImageDataset:
    """Makes an :class:`ImageDataset` of a data set of Hugging Face.

    Images in files stay where they are. Those that the data set holds itself are written once, as they are, into
    the cache, in a folder named by its fingerprint. What is not listed is negative. Labels keep the order of their
    ``ClassLabel``; those that are text are sorted by name.

    Args:
        dataset: one, or a dict of them by split (train, validation or val, test); missing splits are made by
            :func:`zoo.data.splits.complete_splits`.
        image: the column of images (``datasets.Image``), or of paths as text.
        labels: the column of label lists: ``List(ClassLabel)`` or ``List(Value("string"))``. By default the
            only one of that type.
        group: a column of what must stay in one split.
        name: of the data set, for reports.
        seed: for splits that are made.
        allow_empty_labels: keep labels that no image has.
        check_images: whether images must be there, and are written; a label graph is counted without.

    Raises:
        InputError: ``datasets`` is not installed, no such column or more than one, a split of another name, or
            rows without an image or with labels that are none, all at once.
    """
    try:
        from datasets import DatasetDict
    except ImportError:
        raise InputError(NEEDED) from None
    parts = dict(dataset) if isinstance(dataset, DatasetDict) else {"": dataset}
    splits = {key: lookup("split", key, SPLIT_NAMES) for key in parts}
    if twice := [split for split in set(splits.values()) if list(splits.values()).count(split) > 1]:
        raise InputError(f"{name}: more than one part is split {twice[0]!r}: {', '.join(splits)}")
    first = next(iter(parts.values()))
    labels = labels or _find_labels(name, first)
    for column in (image, labels, *([group] if group else [])):
        for part in parts.values():
            if column not in part.column_names:
                raise InputError(f"{name}: {unknown('column', column, part.column_names)}")
    feature = first.features[labels]
    if not _lists_labels(feature):
        raise InputError(f"{name}: column {labels!r} is {feature}; expected a list of labels, {LISTS}")
    problems = Problems()
    paths: list[str] = []
    lists: list[list[Any]] = []
    for key, part in parts.items():
        where = f"{key} row" if key else "row"
        for row, names in enumerate(_values(part, labels)):
            lists.append(names or [])
            if any(label is None or label in ("", -1) for label in lists[-1]):
                problems.add("label list(s) with something that is no label", f"{names} ({where} {row + 1})")
        paths += _image_files(part, image, check_images, where, problems)
    problems.raise_any(name)
    label_names, annotations = _annotations(feature.feature, lists)
    groups = None
    if group:
        given = (value for part in parts.values() for value in _values(part, group))
        groups = np.array(
            [path if value in (None, "") else str(value) for path, value in zip(paths, given, strict=True)]
        )
    return complete_dataset(
        name,
        name,
        ImagePaths("", paths),
        annotations,
        label_names,
        np.repeat(np.array(list(splits.values()), dtype="<U5"), [len(part) for part in parts.values()]),
        groups,
        seed=seed,
        allow_empty_labels=allow_empty_labels,
    )


def _find_labels(name: str, dataset: Dataset) -> str:
    found = [column for column, feature in dataset.features.items() if _lists_labels(feature)]
    if len(found) != 1:
        what = f"more than one column lists labels: {shorten(found)}" if found else "no column lists labels"
        columns = shorten(dataset.column_names)
        raise InputError(f"{name}: {what} ({LISTS}). Name it with labels=...; there are {columns}")
    return found[0]


def _lists_labels(feature: Any) -> bool:
    from datasets import ClassLabel, Value

    inner = getattr(feature, "feature", None)
    return isinstance(inner, ClassLabel) or (isinstance(inner, Value) and inner.dtype.endswith("string"))


def _values(dataset: Dataset, column: str, batch_size: int = 4096) -> Iterator[Any]:
    """One column's values, without what the others hold."""
    for batch in dataset.select_columns([column]).with_format(None).iter(batch_size):
        yield from batch[column]


def _annotations(feature: Any, lists: list[list[Any]]) -> tuple[list[str], Annotations]:
    if hasattr(feature, "names"):
        label_names = list(feature.names)
        number_of: Any = range(len(label_names))
    else:
        label_names = sorted({label for labels in lists for label in labels})
        number_of = {label: number for number, label in enumerate(label_names)}
    images = np.repeat(np.arange(len(lists)), [len(labels) for labels in lists])
    labels = np.fromiter((number_of[label] for names in lists for label in names), np.int64, len(images))
    return label_names, Annotations.from_entries(images, labels, POSITIVE, (len(lists), len(label_names)))


def _image_files(
    dataset: Dataset, column: str, check_images: bool, where: str, problems: Problems
) -> list[str]:
    """The path of each row's image; those that the data set holds itself are in the cache, or written into it."""
    from datasets import Image

    folder = cache_dir() / "huggingface" / f"{dataset._fingerprint}-{column}"
    embeds = isinstance(dataset.features[column], Image)
    if embeds and (folder / INDEX).is_file():
        paths = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    elif embeds and check_images:
        paths = _write_images(dataset.cast_column(column, Image(decode=False)), column, folder)
    elif embeds:
        return [str(folder / str(row)) for row in range(len(dataset))]  # where they would be
    else:
        paths = [value or "" for value in _values(dataset, column)]
    for row, path in enumerate(paths if check_images else (), 1):
        if not path:
            problems.add("row(s) without an image", f"{where} {row}")
        elif not (folder / path).is_file():
            problems.add("image(s) not found", f"{path} ({where} {row})")
    return [str(folder / path) if embeds else path for path in paths]


def _write_images(dataset: Dataset, column: str, folder: Path) -> list[str]:
    """Writes what is held as bytes; returns paths relative to the folder, or as they are, or "" for none.

    The folder appears whole or not at all, with an index of these paths: to look at the rows again would mean to
    read every image.
    """
    from rich.console import Console
    from rich.progress import track

    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")  # two runs may write at once
    part.mkdir(parents=True)
    try:
        paths = []
        values = _values(dataset, column, batch_size=64)
        console = Console(stderr=True)
        for row, value in enumerate(
            track(values, "Writing images", len(dataset), console=console, transient=True)
        ):
            written = (value or {}).get("path") or ""
            content = (value or {}).get("bytes")
            if content is None:
                paths.append(os.path.abspath(written) if written else "")
                continue
            paths.append(f"{row}{Path(written).suffix}")
            (part / paths[-1]).write_bytes(content)
        (part / INDEX).write_text(json.dumps(paths), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return paths
