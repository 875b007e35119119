"""Regimes: what a comparison takes away from the training split, to see which model misses it least.

Structure that is known beforehand, such as a label graph, should matter most where photos or labels are few. Validation
and test split stay whole, and a label graph may still be counted from all annotations (``graph.annotations=all``).

Add yours: ``REGIMES["mine"] = function``. It takes the training split and a random generator, and its options by
keyword, each with its default, and returns the indices of the images that stay, and what is known of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from zoo.annotations import Annotations
from zoo.arguments import option_names, parse_options, split_options
from zoo.data import ImageDataset
from zoo.lookup import InputError, lookup, unknown


def everything(train: ImageDataset, generator: np.random.Generator) -> tuple[np.ndarray, Annotations]:
    """Nothing is taken away."""
    return np.arange(len(train)), train.annotations


def photos(
    train: ImageDataset, generator: np.random.Generator, *, count: int = 100, share: float | None = None
) -> tuple[np.ndarray, Annotations]:
    """So many photos stay, drawn at random: ``photos:count=100``, or ``photos:share=0.1`` of them."""
    if share is not None:
        count = max(round(_checked(share) * len(train)), 1)
    if not 1 <= count <= len(train):
        raise InputError(f"photos:count={count}: {train.name} has 1 to {len(train):,} photos to train on")
    rows = np.sort(generator.permutation(len(train))[:count])
    return rows, train.annotations.rows(rows)


def noise(
    train: ImageDataset, generator: np.random.Generator, *, share: float = 0.2
) -> tuple[np.ndarray, Annotations]:
    """A share of each label's positives change places with as many of its negatives, so that no label grows rarer."""
    targets = train.targets.copy()
    for column in targets.T:
        present, absent = np.flatnonzero(column == 1), np.flatnonzero(column == 0)
        swapped = min(round(_checked(share) * len(present)), len(absent))
        column[generator.permutation(present)[:swapped]] = 0
        column[generator.permutation(absent)[:swapped]] = 1
    return np.arange(len(train)), Annotations.from_array(targets)


def missing(
    train: ImageDataset, generator: np.random.Generator, *, share: float = 0.5
) -> tuple[np.ndarray, Annotations]:
    """A share of the positives are annotated as absent: people tag what they think of."""
    targets = train.targets.copy()
    dropped = (generator.random(targets.shape) < _checked(share)) & (targets == 1)
    targets[dropped] = 0
    return np.arange(len(train)), Annotations.from_array(targets)


def unknown_entries(
    train: ImageDataset, generator: np.random.Generator, *, share: float = 0.5
) -> tuple[np.ndarray, Annotations]:
    """A share of all entries is unknown: nobody was asked."""
    targets = train.targets.copy()
    targets[generator.random(targets.shape) < _checked(share)] = -1
    return np.arange(len(train)), Annotations.from_array(targets)


REGIMES: dict[str, Callable[..., tuple[np.ndarray, Annotations]]] = {
    "all": everything,
    "photos": photos,
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


def draw(regime: str, train: ImageDataset, seed: int) -> tuple[np.ndarray, ImageDataset]:
    """What a regime leaves of a training split.

    Args:
        regime: as :func:`parse_regime` reads it.
        train: the training split.
        seed: of what is taken away; one seed takes the same from every model.

    Returns:
        The indices of the images that stay, and the data set of these images with what is known of them.

    Raises:
        InputError: the regime is none, or does not fit the data, or leaves no positive of any label.
    """
    name, options = parse_regime(regime)
    rows, annotations = REGIMES[name](train, np.random.default_rng(seed), **options)
    left = train.take(rows) if len(rows) < len(train) else train
    if name != "all":
        left = replace(left, annotations=annotations)
    if not annotations.positives().any():
        raise InputError(f"{train.name}: regime {regime!r} leaves no label of any photo")
    return rows, left


def _checked(share: float) -> float:
    if not 0 < share <= 1:
        raise InputError(f"the share of a regime must lie in (0, 1], not {share}")
    return share
