"""Images in the JSON format of LearnOpenCV's tutorials, of NUS-WIDE or your own: names of labels for each image.

{"samples": [{"image_name": "a.jpg", "image_labels": ["sky", "tree"]}, ...], "labels": ["sky", "sea", "tree"]}
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from zoo.annotations import POSITIVE, Annotations
from zoo.data.dataset import ImageDataset, shorten
from zoo.data.layout import require_files, require_images
from zoo.data.listed import fill_splits, list_once, read_json, remark_counts, split_sizes
from zoo.data.parsed import Parsed, parse_once
from zoo.data.paths import ImagePaths
from zoo.data.problems import Problems
from zoo.lookup import InputError


def samples_json(
    *,
    root: str | Path = ".",
    train: str = "train.json",
    val: str | None = None,
    test: str | None = "test.json",
    images: str = "images",
    seed: int = 0,
    check_images: bool = True,
) -> ImageDataset:
    """Your own images in the tutorial's format: a JSON file for each split, and a folder of images.

    Args:
        root: the folder of the files.
        train: a file in the format of :func:`read_samples_json`, below the root.
        val: likewise; where it is null, val is carved out of train.
        test: likewise.
        images: the folder below the root that image names are relative to; the root itself, where it is not there.
        seed: of splits that are made.
        check_images: whether every image must be there.

    Raises:
        InputError: a file is missing or malformed, or images are missing.
    """
    folder = Path(root).expanduser()
    files = {split: file for split, file in (("train", train), ("val", val), ("test", test)) if file}
    require_files("samples_json", folder, list(files.values()), "your own annotations")
    paths = {split: folder / file for split, file in files.items()}
    title = ", ".join(path.name for path in paths.values())
    return open_samples(folder.resolve().name, paths, folder / images, title, seed, check_images)


def open_samples(
    name: str,
    files: Mapping[str, Path],
    photos: Path,
    title: str,
    seed: int,
    check_images: bool,
    licence: str = "",
) -> ImageDataset:
    """One data set of a file for each split.

    Args:
        name: of the data set.
        files: split to file; "train" is there.
        photos: the folder that image names are relative to; the one around it, where it is not there.
        title: what these images are, for the protocol.
        seed: of splits that are made.
        check_images: whether every image must be there.
        licence: of the images.

    Raises:
        InputError: a file is malformed, the files list different labels, or images are missing.
    """
    parts = {split: read_samples_json(path, split) for split, path in files.items()}
    first = parts["train"]
    stored, names, remarks = [], [], []
    for split, part in parts.items():
        if odd := sorted(set(part.label_names) ^ set(first.label_names)):
            raise InputError(
                f"{files[split]}: its labels are not those of {files['train']}; only one of them has "
                f"{shorten(odd, 3)}. Both must list the same labels, also those that none of its images has"
            )
        columns = [part.label_names.index(label) for label in first.label_names]
        stored.append(part.annotations.columns(columns).stored)
        names += [part.names.name(i) for i in range(len(part.names))]
        remarks += [f"{files[split].name}: {remark}" for remark in part.remarks]
    annotations = Annotations(sp.csr_array(sp.vstack(stored)))
    splits = np.concatenate([part.splits for part in parts.values()])
    keep, left_out = list_once(names, splits, annotations)
    annotations = annotations.rows(keep)
    splits = fill_splits(splits[keep], annotations, seed)
    made = [split for split in ("val", "test") if split not in files]
    taken = (
        f"; {' and '.join(made)} taken from train by iterative stratification, seed {seed}" if made else ""
    )
    images = ImagePaths(photos if photos.is_dir() else photos.parent, [names[row] for row in keep])
    if check_images:
        require_images(name, images)
    return ImageDataset(
        name=name,
        images=images,
        annotations=annotations,
        label_names=first.label_names,
        splits=splits,
        protocol=f"{title}: {split_sizes(splits)}{taken}; labels in the order of {files['train'].name}",
        licence=licence,
        remarks=(*remarks, *left_out),
    )


def read_samples_json(path: str | Path, split: str = "") -> Parsed:
    r"""Reads a JSON file of images, each with the names of its labels; every other label is negative.

    Windows' ``\`` in image names counts as ``/``. An image may be listed twice; the caller decides what then.

    Args:
        path: the file.
        split: of all its images: "train", "val", "test" or "".

    Raises:
        InputError: it is no JSON, with line and column, or not in this format, with all problems at once.
    """
    path = Path(path)
    return parse_once([path], lambda: _parse_samples(path, split), f"samples {split}")


def _parse_samples(path: Path, split: str) -> Parsed:
    content = read_json(path)
    form = 'expected {"samples": [{"image_name": "...", "image_labels": ["...", ...]}, ...], "labels": [...]}'
    if not isinstance(content, dict) or not all(
        isinstance(content.get(k), list) for k in ("samples", "labels")
    ):
        raise InputError(f"{path}: {form}")
    label_names, samples = content["labels"], content["samples"]
    problems = Problems()
    column: dict[str, int] = {}
    for i, label in enumerate(label_names):
        if not isinstance(label, str) or not label.strip():
            problems.add("label(s) that are no text", f"{label!r} (labels[{i}])")
        elif label in column:
            problems.add("label(s) listed again", f"{label!r} (labels[{i}])")
        else:
            column[label] = i
    names: list[str] = []
    rows: list[int] = []
    columns: list[int] = []
    unlabelled = repeated = 0
    for i, sample in enumerate(samples):
        name = sample.get("image_name") if isinstance(sample, dict) else None
        own = sample.get("image_labels") if isinstance(sample, dict) else None
        if not isinstance(name, str) or not name or not isinstance(own, list):
            problems.add("sample(s) without image_name and image_labels", f"samples[{i}]")
            continue
        for label in own:
            if not isinstance(label, str) or label not in column:
                near = difflib.get_close_matches(str(label), column, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                problems.add("unknown label(s)", f"{label!r} (samples[{i}], {name}{hint})")
        if problems.counts:
            continue  # only to find the others
        found = {column[label] for label in own}
        unlabelled += not own
        repeated += len(own) - len(found)
        rows += [len(names)] * len(found)
        columns += sorted(found)
        names.append(name.replace("\\", "/"))
    problems.raise_any(path)
    if not names:
        raise InputError(f"{path} has no samples")
    remarks = remark_counts(
        {
            "images have none of the labels and count as negative for all": unlabelled,
            "labels that an image has twice count once": repeated,
        }
    )
    shape = (len(names), len(label_names))
    annotations = Annotations.from_entries(np.array(rows, int), np.array(columns, int), POSITIVE, shape)
    return Parsed(ImagePaths("", names), annotations, label_names, np.full(len(names), split), remarks)
