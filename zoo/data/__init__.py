"""Data sets: a table of sources, each of which returns an :class:`ImageDataset`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from zoo.annotations import Annotations
from zoo.arguments import parse_options, split_options
from zoo.data import openmoji
from zoo.data.dataset import Difficult, ImageDataset, cache_dir
from zoo.data.folder import csv_folder
from zoo.data.images import read_image, to_rgb
from zoo.data.paths import ImagePaths
from zoo.data.splits import SPLITS, complete_splits, stratified_split
from zoo.lookup import InputError, unknown

__all__ = [
    "DATASETS",
    "SPLITS",
    "Annotations",
    "Difficult",
    "ImageDataset",
    "ImagePaths",
    "cache_dir",
    "complete_splits",
    "csv_folder",
    "open_dataset",
    "read_image",
    "stratified_split",
    "to_rgb",
]

DATASETS: dict[str, Callable[..., ImageDataset]] = {
    "csv": csv_folder,
    "openmoji": openmoji.openmoji,
}


def open_dataset(source: str | Path, *, check_images: bool = True) -> ImageDataset:
    """Opens a data set by name or path.

    Args:
        source: the name of a data set in :data:`DATASETS`, with options after colons
            (``voc2007:root=/data/VOCdevkit:difficult_loss=ignored``), or the path to a file of annotations or to
            a folder (:func:`zoo.data.folder.csv_folder`). A name goes before a path: ``./openmoji`` is the folder.
        check_images: whether every image must be there. A label graph is counted from annotations alone.

    Raises:
        InputError: it is neither, or an option is unknown or of another type.
    """
    names = [name for name in DATASETS if name != "csv"]  # which is opened by its path
    name = str(source).partition(":")[0]
    if name in names:
        return _open_by_name(name, str(source), check_images)
    path = Path(source)
    # What looks like a path is one, also where it does not exist: csv_folder knows the files near it.
    if path.exists() or path.suffix or len(path.parts) > 1:
        return csv_folder(path, check_images=check_images)
    raise InputError(f"{unknown('data set', source, names)}; nor is there a CSV file or folder {str(path)!r}")


def _open_by_name(name: str, spec: str, check_images: bool) -> ImageDataset:
    function = DATASETS[name]
    _, given = split_options(spec)
    known = set(inspect.signature(function).parameters)
    for option in given:
        if option not in known:
            raise unknown(f"option of data set {name!r}", option, known)
    options = parse_options(f"data set {name!r}", function, given, skip=set())
    # What a data set draws or downloads itself is there.
    return function(
        **options, **({"check_images": check_images} if "check_images" in known - given.keys() else {})
    )
