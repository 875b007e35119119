"""Published data sets where their users put them: the folder, the files that must be there, the images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from zoo.data.dataset import shorten
from zoo.data.paths import ImagePaths
from zoo.lookup import InputError


def dataset_root(root: str | Path | None, folder: str) -> Path:
    """Where a published data set lies: ``root``, or ``folder`` in ``$ZOO_DATASETS`` or ``datasets``."""
    return Path(root or Path(os.environ.get("ZOO_DATASETS") or "datasets") / folder).expanduser()


def require_files(name: str, root: Path, files: Sequence[str], source: str) -> None:
    """Raises an InputError unless all of the files lie below the root.

    Args:
        name: of the data set.
        root: its folder.
        files: paths below it, in the official layout.
        source: where they come from, in words, with a URL.
    """
    missing = [file for file in files if not (root / file).is_file()]
    if missing:
        what = "has no" if root.is_dir() else "does not exist; it must hold"
        raise InputError(
            f"{name}: {root.absolute()} {what} {shorten(missing, 3)}. It comes from {source}. "
            f"Say where it lies: {name}:root=/path/to/it, or the environment variable ZOO_DATASETS"
        )


def require_images(name: str, images: ImagePaths) -> None:
    """Raises an InputError that counts the images that are not there. Every folder is listed once."""
    listed: dict[str, set[str]] = {}
    missing: list[str] = []
    for i in range(len(images)):
        folder, _, file = images.name(i).rpartition("/")
        if folder not in listed:
            path = images.folder / folder
            listed[folder] = set(os.listdir(path)) if path.is_dir() else set()
        if file not in listed[folder]:
            missing.append(images.name(i))
    if missing:
        raise InputError(
            f"{name}: {len(missing):,} of {len(images):,} images are not in {images.folder.absolute()}: "
            f"{shorten(missing, 3)}. A label graph is counted without images (zoo graph, or check_images=false)"
        )
