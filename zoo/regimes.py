"""Regimes: what a comparison takes away from the training split, to see which model misses it least.

Structure that is known beforehand, such as a label graph, should matter most where photos or labels are few. Validation
and test split stay whole, and a label graph may still be counted from all annotations (``graph.annotations=all``).

Add yours: ``REGIMES["mine"] = function``. It takes the training split and a random generator, and its options by
keyword, each with its default, and returns what it leaves, a :class:`Left`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zoo.annotations import Annotations
from zoo.arguments import option_names, parse_options, split_options
from zoo.data import ImageDataset
from zoo.lookup import InputError, lookup, unknown


@dataclass(frozen=True)
class Left:
    """What a regime leaves of a training split.

    Attributes:
        annotations: what is known of the images that stay.
        rows: their indices; all by default.
        labels: indices of those that the regime is about: models are tested on them alone. All by default.
    """

    annotations: Annotations
    rows: np.ndarray | None = None
    labels: np.ndarray | None = None


@dataclass(frozen=True)
class Drawn:
    """What there is to train on, and which labels to test, once a regime is drawn.

    Attributes:
        rows: indices of the images that stay, in the training split.
        data: these images, with what is known of them.
        labels: indices of the labels that are tested.
    """

    rows: np.ndarray
    data: ImageDataset
    labels: np.ndarray


def everything(train: ImageDataset, generator: np.random.Generator) -> Left:
    """Nothing is taken away."""
    return Left(train.annotations)


def photos(
    train: ImageDataset, generator: np.random.Generator, *, count: int = 100, share: float | None = None
) -> Left:
    """So many photos stay, drawn at random: ``photos:count=100``, or ``photos:share=0.1`` of them."""
    if share is not None:
        count = max(round(_checked(share) * len(train)), 1)
    if not 1 <= count <= len(train):
        raise InputError(f"photos:count={count}: {train.name} has 1 to {len(train):,} photos to train on")
    rows = np.sort(generator.permutation(len(train))[:count])
    return Left(train.annotations.rows(rows), rows)


def rare(
    train: ImageDataset,
    generator: np.random.Generator,
    *,
    positives: int = 2,
    share: float = 0.5,
    common: int = 20,
) -> Left:
    """A share of the labels keep so many positives, ``rare:positives=2``, and models are tested on these labels.

    Drawn from the labels with at least ``common`` positives. Their other positives become unknown; where none is kept,
    everything is: nobody has ever asked for such a label.
    """
    targets = train.targets.copy()
    if not 0 <= positives < common:
        raise InputError(f"rare:positives={positives} must lie between 0 and common={common}")
    candidates = np.flatnonzero((targets == 1).sum(0) >= common)
    labels = np.sort(generator.permutation(candidates)[: round(_checked(share) * len(candidates))])
    if not len(labels):
        raise InputError(
            f"{train.name}: {len(candidates)} labels have {common} positives to train on, of which a share of {share} "
            "is none"
        )
    for label in labels:
        present = np.flatnonzero(targets[:, label] == 1)
        hidden = generator.permutation(present)[positives:] if positives else np.arange(len(train))
        targets[hidden, label] = -1
    return Left(Annotations.from_array(targets), labels=labels)


def noise(train: ImageDataset, generator: np.random.Generator, *, share: float = 0.2) -> Left:
    """A share of each label's positives change places with as many of its negatives, so that no label grows rarer."""
    targets = train.targets.copy()
    for column in targets.T:
        present, absent = np.flatnonzero(column == 1), np.flatnonzero(column == 0)
        swapped = min(round(_checked(share) * len(present)), len(absent))
        column[generator.permutation(present)[:swapped]] = 0
        column[generator.permutation(absent)[:swapped]] = 1
    return Left(Annotations.from_array(targets))


def missing(train: ImageDataset, generator: np.random.Generator, *, share: float = 0.5) -> Left:
    """A share of the positives are annotated as absent: people tag what they think of."""
    targets = train.targets.copy()
    dropped = (generator.random(targets.shape) < _checked(share)) & (targets == 1)
    targets[dropped] = 0
    return Left(Annotations.from_array(targets))


def unknown_entries(train: ImageDataset, generator: np.random.Generator, *, share: float = 0.5) -> Left:
    """A share of all entries is unknown: nobody was asked."""
    targets = train.targets.copy()
    targets[generator.random(targets.shape) < _checked(share)] = -1
    return Left(Annotations.from_array(targets))


REGIMES: dict[str, Callable[..., Left]] = {
    "all": everything,
    "photos": photos,
    "rare": rare,
    "noise": noise,
    "missing": missing,
    "unknown": unknown_entries,
}


def parse_regime(text: str) -> tuple[str, dict[str, Any]]:
    """Reads ``photos:count=100``: a name of :data:`REGIMES`, and its options.

    Raises:
        InputError: no such regime or option, with the nearest names, or a value of another type.
    """
    name, given = split_options(text)
    function = lookup("regime", name, REGIMES)
    for key in given:
        if key not in option_names(function):
            raise unknown(f"option of regime {name!r}", key, option_names(function))
    return name, parse_options(f"regime {name!r}", function, given, skip={2})


def draw(regime: str, train: ImageDataset, seed: int) -> Drawn:
    """What a regime leaves of a training split.

    Args:
        regime: as :func:`parse_regime` reads it.
        train: the training split.
        seed: of what is taken away; one seed takes the same from every model.

    Raises:
        InputError: the regime is none, or does not fit the data, or leaves no positive of any label.
    """
    name, options = parse_regime(regime)
    left = REGIMES[name](train, np.random.default_rng(seed), **options)
    if not left.annotations.positives().any():
        raise InputError(f"{train.name}: regime {regime!r} leaves no label of any photo")
    rows = np.arange(len(train)) if left.rows is None else left.rows
    labels = np.arange(len(train.label_names)) if left.labels is None else left.labels
    if name == "all":
        return Drawn(rows, train, labels)
    images = train if left.rows is None else train.take(rows)
    return Drawn(rows, replace(images, annotations=left.annotations), labels)


def _checked(share: float) -> float:
    if not 0 < share <= 1:
        raise InputError(f"the share of a regime must lie in (0, 1], not {share}")
    return share
