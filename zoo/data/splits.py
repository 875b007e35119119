"""Train, validation and test splits that keep every label's share, and keep groups in one piece."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int, Int8, Shaped

from zoo.lookup import InputError, unknown

SPLITS = ("train", "val", "test")


def stratified_split(
    targets: Int8[np.ndarray, "N L"],
    groups: Shaped[np.ndarray, " N"] | None = None,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
) -> Shaped[np.ndarray, " N"]:
    """Splits so that each label has the same share of positives everywhere.

    Iterative stratification (Sechidis et al., ECML PKDD 2011, https://doi.org/10.1007/978-3-642-23808-6_10)
    over units: the groups, or the images where there are none. A group is positive for a label if any of its
    images is; unknown counts as not positive. The algorithm leaves the rarest labels to chance, so these are
    mended: a label with as many positive units as there are splits gets one in each, wherever one can be
    moved without taking another label's last. A label's only positive goes to the largest split; where no
    label has more, the others stay empty.

    Args:
        targets: 1 positive, 0 negative, -1 unknown.
        groups: images with equal values stay together.
        fractions: the shares of train, val and test, which sum to 1. A share of 0 leaves that split empty.
        seed: the same seed gives the same splits.

    Returns:
        ``"train"``, ``"val"`` or ``"test"`` for each image.

    Raises:
        InputError: shares that do not sum to 1, or iterative-stratification is not installed.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise InputError(f"fractions={fractions}: expected three shares (train, val, test) that sum to 1")
    try:
        from iterstrat.ml_stratifiers import IterativeStratification
    except ImportError:
        raise InputError(
            "splits need iterative-stratification: pip install 'label-graph-zoo[train]'"
        ) from None

    unit_of = np.arange(len(targets)) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = np.zeros((len(np.unique(unit_of)), targets.shape[1]), dtype=bool)
    rows, labels = np.nonzero(targets == 1)
    units[unit_of[rows], labels] = True
    wanted = [s for s, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0]

    # The algorithm visits the units in order, so that neighbours in a sorted list would share a fate.
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(units))
    split = np.empty(len(units), dtype=int)
    # A share of 0 must not take part: its demand is never negative, and so it would win late draws.
    split[order] = IterativeStratification(units[order], np.array([f for f in fractions if f > 0]), rng)
    _mend(units, split, len(wanted))
    return np.array(wanted)[split][unit_of]


def _mend(units: Bool[np.ndarray, "U L"], split: Int[np.ndarray, " U"], num_splits: int) -> None:
    """Gives each label that has ``num_splits`` positive units one in every split, rarest first, in place."""
    counts = np.stack([units[split == s].sum(0) for s in range(num_splits)])
    totals = units.sum(0)
    for label in np.argsort(totals, kind="stable"):
        for empty in np.flatnonzero(counts[:, label] == 0) if totals[label] >= num_splits else ():
            # May go: a unit that is no label's last where it is. Best goes: one from plenty, with few labels.
            positive = np.flatnonzero(units[:, label])
            spare = [u for u in positive if (counts[split[u]][units[u]] > 1).all()]
            if spare:
                unit = min(spare, key=lambda u: (-counts[split[u], label], units[u].sum(), u))
                counts[split[unit]] -= units[unit]
                counts[empty] += units[unit]
                split[unit] = empty


def complete_splits(
    splits: Shaped[np.ndarray, " N"],
    targets: Int8[np.ndarray, "N L"],
    groups: Shaped[np.ndarray, " N"] | None = None,
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
) -> Shaped[np.ndarray, " N"]:
    """Fills in what a data set's own splits leave open.

    An image without a split counts as train. A split that no image is in is carved out of train by
    :func:`stratified_split`, at its share of what train and it would have had: of an own train and test set,
    ``val`` takes .2 / (.6 + .2) of train; where no image has a split, all three arise.

    Args:
        splits: ``"train"``, ``"val"``, ``"test"``, or ``""`` for an image that has none.
        targets: 1 positive, 0 negative, -1 unknown.
        groups: images with equal values stay together.
        seed: the same seed gives the same splits.
        fractions: the shares of train, val and test.

    Raises:
        InputError: an unknown split name, no image left for train, or a group that lies in two splits.
    """
    splits = np.where(splits == "", "train", splits)
    for name in np.unique(splits):
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
    train = splits == "train"
    if not train.any():
        raise InputError(f"no image is in train: every one of {len(splits)} is in val or test")
    if groups is not None:
        names, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
        torn = np.unique(inverse[splits != splits[first][inverse]])
        if torn.size:
            shown = ", ".join(
                f"{names[g]!s} ({', '.join(np.unique(splits[inverse == g]))})" for g in torn[:3]
            )
            raise InputError(
                f"{torn.size} group(s) lie in more than one split: {shown}. "
                "Images of a group must stay together: correct the splits, or leave the groups out"
            )
    shares = np.array([f * (s == "train" or s not in splits) for s, f in zip(SPLITS, fractions, strict=True)])
    if (shares > 0).sum() > 1:
        part = stratified_split(
            targets[train],
            None if groups is None else groups[train],
            tuple((shares / shares.sum()).tolist()),
            seed,
        )
        splits = splits.astype("<U5")
        splits[train] = part
    return splits
