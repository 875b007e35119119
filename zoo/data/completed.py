"""A user's own annotations made a data set: splits that are missing, and what a user should know of the labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np

from zoo.annotations import POSITIVE, Annotations
from zoo.data.dataset import ImageDataset, shorten
from zoo.data.paths import ImagePaths
from zoo.data.splits import SPLITS, complete_splits
from zoo.lookup import InputError

# N * L * L, above which iterative stratification, which visits all images once a label, takes minutes.
STRATIFIED = 10**11


def complete_dataset(
    subject: object,
    name: str,
    images: ImagePaths,
    annotations: Annotations,
    label_names: list[str],
    given: np.ndarray,
    groups: np.ndarray | None,
    *,
    seed: int,
    allow_empty_labels: bool,
    remarks: Iterable[str] = (),
) -> ImageDataset:
    """Completes the splits, looks for labels that nothing can be learnt of, and says what is odd.

    Args:
        subject: what was read, for messages.
        name: of the data set.
        images: N paths.
        annotations: (N, L).
        label_names: L names.
        given: "train", "val", "test" or "" for each image.
        groups: images with equal values must stay in one split.
        seed: for splits that are made.
        allow_empty_labels: keep labels that no image has.
        remarks: what is known already.

    Raises:
        InputError: labels without a positive image, a group in two splits, no images for train.
    """
    positives = annotations.positives()
    if not allow_empty_labels and (empty := np.flatnonzero(positives == 0)).size:
        names = shorten([label_names[i] for i in empty])
        raise InputError(
            f"{subject}: no image is positive for {names}. Such a label can be neither learnt nor measured: "
            "take it out, or keep it with allow_empty_labels=True"
        )
    made = [split for split in SPLITS if split not in given]
    stratify = len(images) * len(label_names) ** 2 <= STRATIFIED
    # Without any labels, the same algorithm deals the images out.
    by = annotations if stratify else annotations.columns([])
    targets = by.targets() if made else np.zeros((len(images), 0), dtype=np.int8)
    try:
        splits = complete_splits(given, targets, groups, seed)
    except InputError as error:
        raise InputError(f"{subject}: {error}") from None
    lost = np.flatnonzero((positives > 0) & (annotations.rows(splits == "train").positives() == 0))
    if lost.size:
        names = shorten([label_names[i] for i in lost])
        warnings.warn(f"{subject}: no image of train is positive for {names}", stacklevel=3)
    made = [split for split in made if split in splits]
    how = "by iterative stratification" if stratify else "at random, as there are too many labels to stratify"
    return ImageDataset(
        name=name,
        images=images,
        annotations=annotations,
        label_names=label_names,
        splits=splits,
        groups=groups,
        protocol=f"{', '.join(made)} made {how}, seed {seed}" if made else "its own splits",
        remarks=(*remarks, *_odd(annotations, label_names)),
    )


def _odd(annotations: Annotations, label_names: list[str]) -> list[str]:
    remarks = []
    if bare := int((np.diff(annotations.where(POSITIVE).indptr) == 0).sum()):
        remarks.append(f"{bare:,} image(s) have no positive label")
    alike: dict[str, list[int]] = {}
    for label, name in enumerate(label_names):
        alike.setdefault("".join(name.casefold().split()), []).append(label)
    pairs = [labels for labels in alike.values() if len(labels) > 1]
    if pairs:
        positives = annotations.positives()
        shown = [
            " and ".join(f"{label_names[i]!r} ({positives[i]:,} images)" for i in same) for same in pairs
        ]
        remarks.append(
            f"{sum(map(len, pairs)):,} labels differ from another one in case or blanks only: {shorten(shown, 3)}"
        )
    return remarks
