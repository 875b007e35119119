"""NUS-WIDE by its official lists, and the 27-label subset that LearnOpenCV's tutorials train on.

NUS-WIDE (Chua et al., CIVR 2009, https://doi.org/10.1145/1646396.1646452) is 269,648 photos from Flickr with 81
labels, 161,789 to train and 107,859 to test. Lists and labels come from
https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html::

    Concepts81.txt                                           one label a line, or in ConceptsList/
    ImageList/{Train,Test}Imagelist.txt                      actor\\0001_2124494179.jpg
    Groundtruth/TrainTestLabels/Labels_sky_{Train,Test}.txt  0 or 1 for each line of the list
    Flickr/actor/0001_2124494179.jpg                         or images/actor/..., or all in images/

Published results rest on at least five splits of these photos, so that every result here names its own.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, Shaped

from zoo.annotations import POSITIVE, Annotations
from zoo.data.dataset import ImageDataset
from zoo.data.layout import dataset_root, require_files, require_images
from zoo.data.listed import fill_splits, list_once, read_lines, split_sizes
from zoo.data.parsed import Parsed, parse_once
from zoo.data.paths import ImagePaths
from zoo.data.samples import open_samples
from zoo.lookup import InputError, lookup

LISTS = {"train": "Train", "test": "Test"}  # split: the word in file names
SOURCE = "https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html"
LICENCE = "photos from Flickr under their owners' licences; annotations published for research"


def nuswide(
    *,
    root: str | Path | None = None,
    unlabelled: str = "excluded",
    missing: str = "error",
    seed: int = 0,
    check_images: bool = True,
) -> ImageDataset:
    """NUS-WIDE with its 81 labels and official lists; ``val`` is carved out of train.

    Args:
        root: the folder with the files above; ``nuswide`` in ``$ZOO_DATASETS`` or ``datasets`` by default.
        unlabelled: what becomes of photos without any of the 81 labels, a fifth of them: ``excluded`` leaves
            125,449 and 83,898 photos, as many papers have it; ``included`` keeps them as negative for all labels.
        missing: what becomes of photos that are not there, because Flickr has them no more: ``error``, or
            ``skip``, which leaves them out and says how many.
        seed: of the photos that go from train to val. They are drawn before anything is left out, so that the
            photos that two people both have are in the same splits.
        check_images: whether photos are looked for; without, none is missing.

    Raises:
        InputError: a file is missing or malformed, with its line; photos are missing; no such choice.
    """
    keeps_unlabelled = lookup("choice of unlabelled", unlabelled, {"excluded": False, "included": True})
    skips_missing = lookup("choice of missing", missing, {"error": False, "skip": True})
    folder = dataset_root(root, "nuswide")
    concepts = "ConceptsList/Concepts81.txt"
    if not (folder / concepts).is_file():
        concepts = "Concepts81.txt"
    require_files("nuswide", folder, [concepts, *map(_list_file, LISTS)], SOURCE)
    label_names = read_lines(folder / concepts)
    label_files = [_label_file(label, split) for label in label_names for split in LISTS]
    require_files("nuswide", folder, label_files, SOURCE)
    files = [folder / file for file in (concepts, *map(_list_file, LISTS), *label_files)]
    parsed = parse_once(files, lambda: _parse(folder, label_names, seed), f"nuswide {seed}")

    images, annotations, splits = _photos(folder, parsed.names), parsed.annotations, parsed.splits
    remarks = list(parsed.remarks)
    keep = np.ones(len(images), dtype=bool)
    if not keeps_unlabelled:
        keep = np.diff(annotations.stored.indptr) > 0
        remarks.append(
            f"{(~keep).sum():,} images without any of the labels were left out (unlabelled=excluded)"
        )
    gone = ""
    if check_images and skips_missing:
        lost = keep & ~_present(images)
        keep &= ~lost
        if not keep.any():
            raise InputError(
                f"nuswide: not one of the {lost.sum():,} images is in {images.folder.absolute()}"
            )
        remarks.append(f"{lost.sum():,} images are not there and were left out (missing=skip)")
        gone = f", {lost.sum():,} missing images left out"
    images, splits = images.take(keep), splits[keep]
    if check_images and not skips_missing:
        try:
            require_images("nuswide", images)
        except InputError as error:
            raise InputError(
                f"{error}; what Flickr has no more can be left out: nuswide:missing=skip"
            ) from None
    return ImageDataset(
        name="nuswide",
        images=images,
        annotations=annotations.rows(keep),
        label_names=label_names,
        splits=splits,
        protocol=f"NUS-WIDE, official lists: {split_sizes(splits)}; val taken from train by iterative "
        f"stratification, seed {seed}; labels in the order of Concepts81.txt; images without labels "
        f"{unlabelled}{gone}",
        licence=LICENCE,
        remarks=tuple(remarks),
    )


def _list_file(split: str) -> str:
    return f"ImageList/{LISTS[split]}Imagelist.txt"


def _label_file(label: str, split: str) -> str:
    return f"Groundtruth/TrainTestLabels/Labels_{label}_{LISTS[split]}.txt"


def _parse(folder: Path, label_names: list[str], seed: int) -> Parsed:
    from rich.console import Console
    from rich.progress import track

    names: list[str] = []
    rows, columns, split_of = [], [], []
    console = Console(stderr=True)
    for split in LISTS:
        listed = [line.replace("\\", "/") for line in read_lines(folder / _list_file(split))]
        bar = track(
            label_names,
            f"Reading labels of {split}",
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        for column, label in enumerate(bar):
            positive = _positives(folder / _label_file(label, split), len(listed), _list_file(split))
            rows.append(positive + len(names))
            columns.append(np.full(len(positive), column))
        names += listed
        split_of += [split] * len(listed)
    shape = (len(names), len(label_names))
    annotations = Annotations.from_entries(np.concatenate(rows), np.concatenate(columns), POSITIVE, shape)
    splits = np.array(split_of)
    keep, remarks = list_once(names, splits, annotations)
    names, annotations, splits = [names[row] for row in keep], annotations.rows(keep), splits[keep]
    remarks += tuple(_same_photos(names, splits))
    splits = fill_splits(splits, annotations, seed)
    return Parsed(ImagePaths("", names), annotations, label_names, splits, remarks)


def _positives(path: Path, num_images: int, list_file: str) -> Int[np.ndarray, " P"]:
    """Where a file of zeros and ones, one a line, has ones."""
    lines = path.read_bytes().rstrip().split(b"\n")
    if wrong := {line.strip() for line in set(lines)} - {b"0", b"1"}:
        number, line = next((i, line) for i, line in enumerate(lines, 1) if line.strip() in wrong)
        column = len(line) - len(line.lstrip()) + 1
        raise InputError(
            f"{path} line {number} column {column}: expected 0 or 1, not {line.strip().decode(errors='replace')!r}"
        )
    if len(lines) != num_images:
        raise InputError(f"{path} has {len(lines):,} lines for the {num_images:,} images of {list_file}")
    return np.flatnonzero(np.array([line.strip() == b"1" for line in lines]))


def _same_photos(names: list[str], splits: Shaped[np.ndarray, " N"]) -> Iterator[str]:
    """A remark on photos under several names, by Flickr's number at their end: ``0001_2124494179.jpg``."""
    numbers = [name.rpartition("_")[2] for name in names]
    twice = {number for number, count in Counter(numbers).items() if count > 1}
    if twice:
        seen = Counter(
            number for number, _ in {*zip(numbers, splits.tolist(), strict=True)} if number in twice
        )
        torn = sum(count > 1 for count in seen.values())
        yield (
            f"{len(twice):,} photos are listed under more than one name, by their number at Flickr, {torn:,} of "
            "them in train and in test: all are kept, as in the official lists"
        )


def _photos(folder: Path, names: ImagePaths) -> ImagePaths:
    """The images, wherever the photos lie: in subfolders, as they are listed, or all in one folder."""
    photos = folder / ("images" if not (folder / "Flickr").is_dir() else "Flickr")
    listed = [names.name(i) for i in range(len(names))]
    if photos.is_dir() and not any(entry.is_dir() for entry in os.scandir(photos)):
        listed = [name.rpartition("/")[2] for name in listed]
    return ImagePaths(photos, listed)


def _present(images: ImagePaths) -> Bool[np.ndarray, " N"]:
    """Which of the images are there. Every folder is listed once."""
    parts = [images.name(i).rpartition("/") for i in range(len(images))]
    folders = {folder: images.folder / folder for folder, _, _ in parts}
    files = {name: set(os.listdir(path)) if path.is_dir() else set() for name, path in folders.items()}
    return np.array([file in files[folder] for folder, _, file in parts], dtype=bool)


def nuswide27(
    *,
    root: str | Path | None = None,
    train: str = "small_train.json",
    test: str = "small_test.json",
    seed: int = 0,
    check_images: bool = True,
) -> ImageDataset:
    """The NUS-WIDE subset of 5,000 and 1,000 photos with 27 labels that LearnOpenCV's tutorials train on.

    "Graph Convolutional Networks: Model Relations In Data", https://learnopencv.com/?p=15194. Its lists
    are at https://github.com/spmallick/learnopencv, PyTorch-Multi-Label-Image-Classification-Image-Tagging/nus_wide,
    its photos, which go to ``images``, at https://github.com/thuml/HashNet/tree/master/pytorch#datasets. Its
    full ``train.json`` and ``test.json`` have all 81 labels. There is no val; here it is carved out of train.

    Args:
        root: the folder with the lists, or with ``images`` in which they lie (the tutorial puts them there);
            ``nuswide27`` in ``$ZOO_DATASETS`` or ``datasets`` by default.
        train: the list of the training images, in the format of :func:`zoo.data.samples.read_samples_json`.
        test: likewise.
        seed: of the images that go from train to val.
        check_images: whether every image must be there.

    Raises:
        InputError: a file is missing or malformed, or images are missing.
    """
    folder = dataset_root(root, "nuswide27")
    lists = folder / "images" if (folder / "images" / train).is_file() else folder
    source = (
        "https://github.com/spmallick/learnopencv (PyTorch-Multi-Label-Image-Classification-Image-Tagging)"
    )
    require_files("nuswide27", lists, [train, test], source)
    return open_samples(
        "nuswide27",
        {"train": lists / train, "test": lists / test},
        folder / "images",
        "NUS-WIDE subset of LearnOpenCV",
        seed,
        check_images,
        LICENCE,
    )
