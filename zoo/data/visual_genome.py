"""Visual Genome with its 500 most frequent objects as labels: SSGRL's lists, or counted from the annotations.

Visual Genome (Krishna et al., IJCV 2017, https://homes.cs.washington.edu/~ranjay/visualgenome/) is 108,077 photos,
in which annotators named objects freely. SSGRL (Chen et al., ICCV 2019, https://arxiv.org/abs/1908.07325) made
98,249 of them train and 10,000 test, with 500 labels::

    train_list_500.txt  test_list_500.txt   2328403.jpg, one a line: https://github.com/HCPLab-SYSU/SSGRL, data/VG
    vg_category_500_labels_index.json       {"2328403.jpg": [0, 17, ...], ...}: the download of its README
    vg500_labels.txt                        optional, yours: the names of labels 0 to 499, one a line
    objects.json  image_data.json           Visual Genome's own, for source=objects alone
    VG_100K/  VG_100K_2/                    the photos, in either
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zoo.annotations import POSITIVE, Annotations
from zoo.data.dataset import ImageDataset, shorten
from zoo.data.layout import dataset_root, require_files, require_images
from zoo.data.listed import (
    fill_splits,
    list_once,
    read_json,
    read_lines,
    remark_counts,
    split_sizes,
    stream_json,
)
from zoo.data.parsed import Parsed, parse_once
from zoo.data.paths import ImagePaths
from zoo.data.problems import Problems
from zoo.lookup import InputError, lookup

LISTS = {"train": "train_list_500.txt", "test": "test_list_500.txt"}
INDEX = "vg_category_500_labels_index.json"
FOLDERS = ("VG_100K", "VG_100K_2")
SSGRL = "https://github.com/HCPLab-SYSU/SSGRL (the lists in data/VG, the index in the download of its README)"
OFFICIAL = "https://homes.cs.washington.edu/~ranjay/visualgenome/"


def vg500(
    *,
    root: str | Path | None = None,
    source: str = "ssgrl",
    num_labels: int = 500,
    label_names: str = "vg500_labels.txt",
    seed: int = 0,
    check_images: bool = True,
) -> ImageDataset:
    """Visual Genome 500.

    Args:
        root: the folder with the files above; ``visual_genome`` in ``$ZOO_DATASETS`` or ``datasets`` by default.
        source: ``ssgrl``, whose lists published results use, with val carved out of train; or ``objects``: labels
            are the object names on most images (ties in alphabetical order), and all splits are made.
        num_labels: so many labels from the first; the first 200 of SSGRL's are known as VG-200.
        label_names: a file below the root with the names of SSGRL's labels, which its own files do not hold.
        seed: of splits that are made.
        check_images: whether every image must be there.

    Raises:
        InputError: a file is missing or malformed, with line and column; images are missing; no such source.
    """
    folder = dataset_root(root, "visual_genome")
    files, parse, comes_from = lookup("source", source, SOURCES)
    if num_labels < 1 or (source == "ssgrl" and num_labels > 500):
        raise InputError(
            f"vg500: num_labels={num_labels}; expected 1 or more, and of source=ssgrl at most 500"
        )
    require_files("vg500", folder, files, comes_from)
    options = f"vg500 {source} {num_labels} {seed}"
    parsed = parse_once([folder / file for file in files], lambda: parse(folder, num_labels, seed), options)
    names, remarks = parsed.label_names, parsed.remarks
    if source == "ssgrl":
        names, remark = _name_labels(folder / label_names, num_labels)
        remarks += remark
        how = "SSGRL's lists (ICCV 2019)", "val taken from train", "the order of SSGRL's index"
    else:
        how = f"the {num_labels} object names on most images of objects.json", "all splits made", "that order"
    images = _photos(folder, parsed.names)
    if check_images:
        require_images("vg500", images)
    return ImageDataset(
        name="vg500",
        images=images,
        annotations=parsed.annotations,
        label_names=names,
        splits=parsed.splits,
        protocol=f"Visual Genome, {how[0]}: {split_sizes(parsed.splits)}; {how[1]} by iterative stratification, "
        f"seed {seed}; {num_labels} labels in {how[2]}; images without labels are negative for all",
        licence="annotations CC BY 4.0; photos from Flickr under their owners' licences",
        remarks=remarks,
    )


def _name_labels(path: Path, num_labels: int) -> tuple[list[str], tuple[str, ...]]:
    if not path.is_file():
        return [f"object {i}" for i in range(num_labels)], (
            f"SSGRL's files number the labels and do not name them, and there is no {path.name}: they are called "
            f"'object 0' to 'object {num_labels - 1}', and word vectors know nothing of them",
        )
    names = read_lines(path)
    if len(names) < num_labels:
        raise InputError(f"{path} names {len(names)} labels; expected {num_labels}, one a line")
    return names[:num_labels], ()


def _parse_ssgrl(folder: Path, num_labels: int, seed: int) -> Parsed:
    problems = Problems()
    labels_of: dict[str, set[int]] = {}
    twice: list[str] = []
    repeated = 0
    unknown: Counter[Any] = Counter()
    index = folder / INDEX
    pairs = read_json(index, list)  # a list of pairs, for a dict forgets what comes twice
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise InputError(f'{index}: expected {{"2328403.jpg": [0, 17, ...], ...}}')
    for name, labels in pairs:
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            problems.add("image(s) whose labels are no list of whole numbers", name)
            continue
        if name in labels_of:
            twice.append(name)
        own = labels_of.setdefault(name, set())
        repeated += len(labels) - len(set(labels))
        unknown.update(label for label in set(labels) if not 0 <= label < num_labels)
        own.update(label for label in labels if 0 <= label < num_labels)
    problems.raise_any(index)

    names: list[str] = []
    split_of: list[str] = []
    unlisted: list[str] = []
    for split, file in LISTS.items():
        listed = [line.replace("\\", "/").rpartition("/")[2] for line in read_lines(folder / file)]
        unlisted += [name for name in listed if name not in labels_of]
        names += [name for name in listed if name in labels_of]
        split_of += [split] * (len(names) - len(split_of))
    if not names:
        raise InputError(f"{index} has none of the images of {' and '.join(LISTS.values())}")
    outside = shorten([str(label) for label in sorted(unknown)], 3)
    remarks = remark_counts(
        {
            f"listed images that {INDEX} lacks were left out: {shorten(unlisted, 3)}": len(unlisted),
            f"images of {INDEX} are in neither list and were left out": len(labels_of.keys() - set(names)),
            f"images are twice in {INDEX}; their labels were joined: {shorten(twice, 3)}": len(twice),
            "labels that an image has twice count once": repeated,
            f"entries with labels outside 0 to {num_labels - 1} were left out: {outside}": unknown.total(),
        }
    )
    rows = np.repeat(np.arange(len(names)), [len(labels_of[name]) for name in names])
    columns = np.array([label for name in names for label in sorted(labels_of[name])], dtype=np.int64)
    return _finish(names, np.array(split_of), rows, columns, list(map(str, range(num_labels))), remarks, seed)


def _parse_objects(folder: Path, num_labels: int, seed: int) -> Parsed:
    """Every name of every object counts, in lower case; an image counts once for a name."""
    problems = Problems()
    row_of: dict[int, int] = {}
    listed_again = 0
    for i, image in enumerate(stream_json(folder / "image_data.json")):
        number = image.get("image_id") if isinstance(image, dict) else None
        if type(number) is not int:
            problems.add("image(s) without image_id", f"item {i}")
        else:
            listed_again += number in row_of
            row_of.setdefault(number, len(row_of))
    problems.raise_any(folder / "image_data.json")

    number_of: dict[str, int] = {}
    rows, found = array("q"), array("q")
    seen: Counter[int] = Counter()
    elsewhere = nameless = 0
    for i, image in enumerate(stream_json(folder / "objects.json")):
        number = image.get("image_id") if isinstance(image, dict) else None
        objects = image.get("objects") if isinstance(image, dict) else None
        if type(number) is not int or not isinstance(objects, list):
            problems.add("image(s) without image_id and objects", f"item {i}")
            continue
        if number not in row_of:
            elsewhere += 1
            continue
        seen[number] += 1
        own = set()
        for thing in objects:
            written = thing.get("names") if isinstance(thing, dict) else None
            if not isinstance(written, list) or not all(isinstance(name, str) for name in written):
                problems.add("object(s) without a list of names", f"image {number}")
                continue
            called = {name for text in written if (name := " ".join(text.lower().split()))}
            nameless += not called
            own |= called
        for name in sorted(own):
            rows.append(row_of[number])
            found.append(number_of.setdefault(name, len(number_of)))
    problems.raise_any(folder / "objects.json")

    names = list(number_of)
    if len(names) < num_labels:
        raise InputError(
            f"{folder / 'objects.json'} names {len(names):,} different objects and so no {num_labels:,} labels: "
            f"vg500:source=objects:num_labels={max(len(names), 1)} or less"
        )
    # An image that is twice in the file counts once for each name.
    pairs = np.unique(np.array(rows, dtype=np.int64) * len(names) + np.array(found, dtype=np.int64))
    row, object_name = np.divmod(pairs, len(names))
    counts = np.bincount(object_name, minlength=len(names))
    order = sorted(range(len(names)), key=lambda i: (-counts[i], names[i]))[:num_labels]
    column = np.full(len(names), -1)
    column[order] = np.arange(num_labels)
    keep = column[object_name] >= 0
    remarks = remark_counts(
        {
            "other object names are no labels": len(names) - num_labels,
            "images of objects.json are not in image_data.json and were left out": elsewhere,
            "images of image_data.json are not in objects.json: no labels": len(row_of) - len(seen),
            "images are in objects.json again; their objects were joined": seen.total() - len(seen),
            "images are in image_data.json again": listed_again,
            "objects without a name were left out": nameless,
        }
    )
    files = [f"{number}.jpg" for number in row_of]
    label_names = [names[i] for i in order]
    no_splits = np.full(len(files), "")
    return _finish(files, no_splits, row[keep], column[object_name][keep], label_names, remarks, seed)


def _finish(
    names: list[str],
    splits: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    label_names: list[str],
    remarks: tuple[str, ...],
    seed: int,
) -> Parsed:
    annotations = Annotations.from_entries(rows, columns, POSITIVE, (len(names), len(label_names)))
    keep, left_out = list_once(names, splits, annotations)
    annotations = annotations.rows(keep)
    if unlabelled := int((np.diff(annotations.stored.indptr) == 0).sum()):
        remarks += (f"{unlabelled:,} images have none of the labels and count as negative for all",)
    splits = fill_splits(splits[keep], annotations, seed)
    images = ImagePaths("", [names[row] for row in keep])
    return Parsed(images, annotations, label_names, splits, remarks + left_out)


def _photos(folder: Path, names: ImagePaths) -> ImagePaths:
    """The images, in whichever of the two folders they are; in the first, where they are in neither."""
    second = folder / FOLDERS[1]
    there = set(os.listdir(second)) if second.is_dir() else set()
    listed = [names.name(i) for i in range(len(names))]
    return ImagePaths(folder, [f"{FOLDERS[name in there]}/{name}" for name in listed])


Parser = Callable[[Path, int, int], Parsed]
SOURCES: dict[str, tuple[list[str], Parser, str]] = {
    "ssgrl": ([*LISTS.values(), INDEX], _parse_ssgrl, SSGRL),
    "objects": (["image_data.json", "objects.json"], _parse_objects, OFFICIAL),
}
"""Source: its files, what parses them, and where they come from."""
