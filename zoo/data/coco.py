"""MS-COCO 2014 and 2017 in their official layout: 80 labels, from the objects in each image.

    annotations/instances_train2014.json, instances_val2014.json    images, categories and annotations of objects
    train2014/COCO_train2014_000000000009.jpg, val2014/...          the images

A label is positive where any object has it, also a crowd (``iscrowd``), as in the label lists of ML-GCN and of every
paper since; what is not annotated counts as absent. Captions, boxes and masks are not used.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, https://arxiv.org/abs/1405.0312; the format:
https://cocodataset.org/#format-data
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.annotations import POSITIVE, Annotations
from zoo.data.dataset import ImageDataset
from zoo.data.layout import dataset_root, require_files, require_images
from zoo.data.listed import PROGRESS_BYTES, read_json, split_sizes
from zoo.data.parsed import Parsed, parse_once
from zoo.data.paths import ImagePaths
from zoo.data.problems import Problems
from zoo.data.splits import stratified_split
from zoo.lookup import lookup

# The official ids have gaps: 11 of the 91 categories that were planned came to nothing.
COCO_CATEGORIES: Mapping[int, str] = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip
LABEL_ORDERS = {
    "alphabetical": tuple(sorted(COCO_CATEGORIES.values())),
    "category_id": tuple(COCO_CATEGORIES.values()),
}
UNLABELLED = {"excluded": False, "included": True}
# All that is read of images, categories and annotations; the rest, masks above all, is most of half a gigabyte.
KEPT = {"images", "categories", "annotations", "id", "file_name", "name", "image_id", "category_id"}


def coco_label_names(order: str = "alphabetical") -> tuple[str, ...]:
    """The 80 labels, ``alphabetical`` as in ML-GCN's checkpoints, or by ``category_id`` as in most others.

    Raises:
        InputError: another order.
    """
    return lookup("order of COCO's labels", order, LABEL_ORDERS)


def coco2014(
    *,
    root: str | Path | None = None,
    check_images: bool = True,
    unlabelled: str = "excluded",
    label_order: str = "alphabetical",
    val_fraction: float = 0.1,
    seed: int = 0,
) -> ImageDataset:
    """MS-COCO 2014: 82,783 images to train on, 40,504 to test on, of which 82,081 and 40,137 have a label.

    Papers test on the official val, which is the test split here. So that a model can be chosen without it, val
    is carved out of the official train. Two protocols are in use, and they differ in what they test on: without
    the images that have none of the 80 labels (ML-GCN, ASL) or with them (Q2L, SSGRL).

    Args:
        root: the folder with ``annotations``, ``train2014`` and ``val2014``; ``$ZOO_DATASETS/coco`` or
            ``datasets/coco`` by default.
        check_images: whether every image must be there; a label graph is counted without.
        unlabelled: images that have none of the labels, in every split: ``excluded``, or ``included``, as
            negative for each label.
        label_order: :func:`coco_label_names`.
        val_fraction: the share of train that becomes val. With 0 there is no val, and the counts of the training
            split are those of the shipped ``coco2014``.
        seed: of that split, by iterative stratification.

    Raises:
        InputError: files are missing or malformed, with line and column; images listed again, annotations of
            images or labels that are not there, with counts; images are missing; an option has no such value.
    """
    return _coco("2014", root, check_images, unlabelled, label_order, val_fraction, seed)


def coco2017(
    *,
    root: str | Path | None = None,
    check_images: bool = True,
    unlabelled: str = "excluded",
    label_order: str = "alphabetical",
    val_fraction: float = 0.1,
    seed: int = 0,
) -> ImageDataset:
    """MS-COCO 2017: the same photos split anew, 118,287 to train on and 5,000 (its official val) to test on.

    Args:
        root: the folder with ``annotations``, ``train2017`` and ``val2017``; ``$ZOO_DATASETS/coco`` or
            ``datasets/coco`` by default.
        check_images: whether every image must be there; a label graph is counted without.
        unlabelled: images that have none of the labels: ``excluded`` or ``included``.
        label_order: :func:`coco_label_names`.
        val_fraction: the share of train that becomes val; with 0 there is no val.
        seed: of that split, by iterative stratification.

    Raises:
        InputError: as for :func:`coco2014`.
    """
    return _coco("2017", root, check_images, unlabelled, label_order, val_fraction, seed)


def _coco(
    year: str,
    root: str | Path | None,
    check_images: bool,
    unlabelled: str,
    label_order: str,
    val_fraction: float,
    seed: int,
) -> ImageDataset:
    name, folder = f"coco{year}", dataset_root(root, "coco")
    label_names = coco_label_names(label_order)
    included = lookup("treatment of unlabelled images", unlabelled, UNLABELLED)
    files = {f"annotations/instances_{part}{year}.json": f"{part}{year}" for part in ("train", "val")}
    source = f"annotations_trainval{year}.zip of https://cocodataset.org/#download"
    require_files(name, folder, list(files), source)
    parts = {folder / file: part for file, part in files.items()}
    parsed = parse_once(parts, lambda: _parse(parts), "coco")

    splits, annotations, images = (
        parsed.splits,
        parsed.annotations,
        ImagePaths.packed(folder, *parsed.names.pack()),
    )
    labelled = np.diff(annotations.stored.indptr) > 0
    (kept,) = np.nonzero(labelled | included)
    without = " and ".join(
        f"{(~labelled[splits == split]).sum():,} of {(splits == split).sum():,} images of the official {part}{year}"
        for split, part in (("train", "train"), ("test", "val"))
    )
    columns = [parsed.label_names.index(label) for label in label_names]
    splits, annotations, images = splits[kept], annotations.rows(kept).columns(columns), images.take(kept)
    train = splits == "train"
    carved = ""
    if val_fraction != 0:
        splits[train] = stratified_split(
            annotations.rows(train).targets(), None, (1 - val_fraction, val_fraction, 0.0), seed
        )
        carved = f", less the {val_fraction:.0%} carved out as val (iterative stratification, seed {seed})"
    if check_images:
        require_images(name, images)
    return ImageDataset(
        name=name,
        images=images,
        annotations=annotations,
        label_names=list(label_names),
        splits=splits,
        protocol=(
            f"test is the official val{year}, train is train{year}{carved}; {len(images):,} images "
            f"({split_sizes(splits)}), those without any of the labels {unlabelled}; label order {label_order}; "
            "crowds count as positive"
        ),
        licence="annotations CC BY 4.0, https://cocodataset.org/#termsofuse; each photo from Flickr under its own",
        remarks=(f"{without} have none of the labels, and are {unlabelled}",),
    )


def _parse(parts: Mapping[Path, str]) -> Parsed:
    """All images of both files, in the files' order, with the labels by category id."""
    names: list[str] = []
    splits: list[str] = []
    rows: list[int] = []
    columns: list[int] = []
    column = {category: i for i, category in enumerate(COCO_CATEGORIES)}
    row: dict[int, int] = {}  # by image id, which is one numbering for train and val
    problems = Problems()
    for file, part in parts.items():
        tables = _tables(file, problems)
        if not all(tables):
            continue
        images, categories, annotations = tables
        _check_categories(file, categories, problems)
        taken = set()
        for number, entry in enumerate(images, start=1):
            image, photo = entry.get("id"), entry.get("file_name")
            where = f"image {number} of {file.name}"
            if not (isinstance(image, int) and isinstance(photo, str) and photo):
                problems.add("images without a number 'id' and a text 'file_name'", where)
            elif image in row or photo in taken:
                problems.add("images listed again", f"{photo!r}, id {image} ({where})")
            else:
                row[image] = len(names)
                taken.add(photo)
                names.append(f"{part}/{photo}")
                splits.append("train" if part.startswith("train") else "test")
        own = len(names) - len(taken)  # rows from here on are this file's
        for number, entry in enumerate(annotations, start=1):
            image, category = entry.get("image_id"), entry.get("category_id")
            if not (isinstance(image, int) and row.get(image, -1) >= own):
                example = f"image_id {image!r} (annotation {number} of {file.name})"
                problems.add("annotations of images that their file does not list", example)
            elif not (isinstance(category, int) and category in column):
                example = f"category_id {category!r} (annotation {number} of {file.name})"
                problems.add("annotations of categories that COCO has not", example)
            else:
                rows.append(row[image])
                columns.append(column[category])
    problems.raise_any(" and ".join(map(str, parts)))
    shape = len(names), len(column)
    entries = Annotations.from_entries(np.array(rows), np.array(columns), POSITIVE, shape)
    return Parsed(ImagePaths("", names), entries, [*COCO_CATEGORIES.values()], np.array(splits))


def _tables(file: Path, problems: Problems) -> list[list[dict[str, Any]]]:
    """Images, categories and annotations of one file."""
    content = _read_instances(file)
    tables = []
    for key in ("images", "categories", "annotations"):
        table = content.get(key) if isinstance(content, dict) else None
        if not (isinstance(table, list) and table and all(isinstance(entry, dict) for entry in table)):
            problems.add(
                "lists of objects that are missing, empty or of something else", f"{key!r} of {file.name}"
            )
            table = []
        tables.append(table)
    return tables


def _check_categories(file: Path, categories: list[dict[str, Any]], problems: Problems) -> None:
    official = {str(category): name for category, name in COCO_CATEGORIES.items()}
    found = {str(entry.get("id")): entry.get("name") for entry in categories}
    for category in sorted(official | found):
        here, there = found.get(category), official.get(category)
        if here != there:
            problems.add(
                "categories that are not COCO's", f"{category} is {here!r} in {file.name}, not {there!r}"
            )


def _read_instances(file: Path) -> Any:
    """What a file holds under the keys of :data:`KEPT`, object by object, so that masks do not pile up."""
    from rich.console import Console
    from rich.progress import Progress

    content = file.read_bytes()
    done, total = itertools.count(1), content.count(b'"image_id"')
    big = len(content) > PROGRESS_BYTES
    del content  # which is read again: as text
    with Progress(console=Console(stderr=True), transient=True, disable=not big) as bar:
        task = bar.add_task(f"Reading {file.name}", total=total)

        def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            kept = {key: value for key, value in pairs if key in KEPT}
            if "image_id" in kept and next(done) % 1000 == 0:
                bar.advance(task, 1000)
            return kept

        return read_json(file, keep)
