"""Data sets: a table of sources, each of which returns an :class:`ImageDataset`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from zoo.annotations import Annotations
from zoo.arguments import parse_options, split_options
from zoo.data import coco, huggingface, nuswide, openimages, openmoji, visual_genome, voc
from zoo.data.dataset import Difficult, ImageDataset, cache_dir
from zoo.data.folder import image_folder
from zoo.data.images import read_image, to_rgb
from zoo.data.paths import ImagePaths
from zoo.data.samples import samples_json
from zoo.data.scan import Scan, readable, scan_images
from zoo.data.splits import SPLITS, complete_splits, stratified_split
from zoo.lookup import InputError, unknown

__all__ = [
    "DATASETS",
    "SPLITS",
    "Annotations",
    "Difficult",
    "ImageDataset",
    "ImagePaths",
    "Scan",
    "cache_dir",
    "complete_splits",
    "image_folder",
    "open_dataset",
    "read_image",
    "readable",
    "scan_images",
    "stratified_split",
    "to_rgb",
]

DATASETS: dict[str, Callable[..., ImageDataset]] = {
    "coco2014": coco.coco2014,
    "coco2017": coco.coco2017,
    "folder": image_folder,
    "hf": huggingface.huggingface,
    "nuswide": nuswide.nuswide,
    "nuswide27": nuswide.nuswide27,
    "openimages": openimages.openimages,
    "openmoji": openmoji.openmoji,
    "samples_json": samples_json,
    "vg500": visual_genome.vg500,
    "voc2007": voc.voc2007,
    "voc2012": voc.voc2012,
}


def open_dataset(source: str | Path, *, check_images: bool = True) -> ImageDataset:
    """Opens a data set by name or path.

    Args:
        source: the name of a data set in :data:`DATASETS`, with options after colons
            (``voc2007:root=/data/VOCdevkit:difficult_loss=ignored``), or the path to a label file or to a folder
            with one, which is short for ``folder:path=photos/labels.parquet``
            (:func:`zoo.data.folder.image_folder`). A name goes before a path: ``./openmoji`` is the folder.
        check_images: whether every image must be there. A label graph is counted from annotations alone.

    Raises:
        InputError: it is neither, or an option is unknown or of another type.
    """
    name = str(source).partition(":")[0]
    if name in DATASETS:
        return _open_by_name(name, str(source), check_images)
    path = Path(source)
    # What looks like a path is one, also where it does not exist: image_folder knows the files near it.
    if path.exists() or path.suffix or len(path.parts) > 1:
        return image_folder(path, check_images=check_images)
    raise InputError(
        f"{unknown('data set', source, DATASETS)}; nor is there a label file or folder {str(path)!r}"
    )


def _open_by_name(name: str, spec: str, check_images: bool) -> ImageDataset:
    function = DATASETS[name]
    _, given = split_options(spec)
    parameters = inspect.signature(function).parameters
    known = set(parameters)
    for option in given:
        if option not in known:
            raise unknown(f"option of data set {name!r}", option, known)
    for option, parameter in parameters.items():
        if parameter.default is parameter.empty and option not in given:
            raise InputError(f"data set {name!r} needs its option {option!r}: {name}:{option}=...")
    options = parse_options(f"data set {name!r}", function, given, skip=set())
    # What a data set draws or downloads itself is there.
    return function(
        **options, **({"check_images": check_images} if "check_images" in known - given.keys() else {})
    )
