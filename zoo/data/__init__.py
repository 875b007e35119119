"""Data sets: a table of sources, each of which returns an :class:`ImageDataset`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zoo.data import openmoji
from zoo.data.dataset import ImageDataset, cache_dir
from zoo.data.folder import csv_folder
from zoo.data.images import read_image, to_rgb
from zoo.data.splits import SPLITS, complete_splits, stratified_split
from zoo.lookup import InputError, unknown

__all__ = [
    "DATASETS",
    "SPLITS",
    "ImageDataset",
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


def open_dataset(source: str | Path) -> ImageDataset:
    """Opens a data set with its defaults.

    Args:
        source: the name of a data set in :data:`DATASETS`, or the path to a CSV file or folder
            (:func:`zoo.data.folder.csv_folder`). A name goes before a path: ``./openmoji`` is the folder.

    Raises:
        InputError: it is neither.
    """
    names = [name for name in DATASETS if name != "csv"]  # which is opened by its path
    if source in names:
        return DATASETS[str(source)]()
    path = Path(source)
    # What looks like a path is one, also where it does not exist: csv_folder knows the files near it.
    if path.exists() or path.suffix or len(path.parts) > 1:
        return csv_folder(path)
    raise InputError(f"{unknown('data set', source, names)}; nor is there a CSV file or folder {str(path)!r}")
