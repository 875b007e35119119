"""Pairs of labels against chance: which occur together more often, or less often, than it would have it.

counts (L,), co-occurrence (L,L) --one test a pair--> p-values --correction for L(L-1)/2 tests--> pairs that stand

Where labels are strewn over the images at random, the number of images that have both of two labels follows the
hypergeometric distribution: Fisher's exact test (Fisher, The Design of Experiments, 1935).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from zoo.counts import LabelCounts
from zoo.lookup import InputError, lookup
from zoo.progress import watched

BLOCK = 1_000_000  # pairs that are tested at a time: what bounds the memory


class Pairs(NamedTuple):
    """P pairs of labels, each once: ``row`` (P,), ``column`` (P,) and on how many images they are ``together`` (P,)."""

    row: np.ndarray
    column: np.ndarray
    together: np.ndarray

    def at(self, index: np.ndarray | slice) -> Pairs:
        """Some of them."""
        return Pairs(self.row[index], self.column[index], self.together[index])


def occurring_pairs(counts: LabelCounts) -> Pairs:
    """The pairs that are on at least one image."""
    pairs = sp.triu(counts.cooccurrence, k=1).tocoo()
    return Pairs(pairs.row, pairs.col, pairs.data)


def probability(counts: LabelCounts) -> np.ndarray:
    """(L,) P(i): of the images in which a label is known, the share that has it; 0 for one that is never known.

    Raises:
        InputError: the counts do not say of how many images they are.
    """
    if counts.num_images < counts.counts.max(initial=0):
        raise InputError(
            f"these counts are of {counts.num_images:,} images, fewer than have one of the labels: what is chance "
            "depends on their number; give LabelCounts its num_images"
        )
    known = counts.num_images if counts.known is None else counts.known
    return counts.counts / np.maximum(known, 1)


def joint_probability(counts: LabelCounts, pairs: Pairs) -> np.ndarray:
    """(P,) P(i, j). Where labels are unknown, the mean of P(i) P(j|i) and P(j) P(i|j), which then need not agree."""
    if counts.checked is None:
        return pairs.together / max(counts.num_images, 1)
    single = probability(counts)
    there, back = (
        pairs.together / np.maximum(_checked(counts, *ends), 1)
        for ends in ((pairs.row, pairs.column), (pairs.column, pairs.row))
    )
    return (single[pairs.row] * there + single[pairs.column] * back) / 2


def correlation(counts: LabelCounts, pairs: Pairs) -> np.ndarray:
    """(P,) the phi coefficient in [-1, 1]: the correlation of two labels over the images (Yule, 1912).

    Of two labels one of which is on every image or on none, 0.
    """
    single = probability(counts)
    first, second = single[pairs.row], single[pairs.column]
    spread = np.sqrt(first * (1 - first) * second * (1 - second))
    covariance = joint_probability(counts, pairs) - first * second
    phi = np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > 0)
    return phi.clip(-1, 1)  # unknown labels can make estimates that do not fit together


def pairs_beyond_chance(
    counts: LabelCounts, *, alpha: float, correction: str, below: bool = False, frequent: int = 0
) -> tuple[Pairs, np.ndarray]:
    """The pairs that are together more often than chance allows and, if asked for, those that are less often.

    Everything known, a pair's p-value is a tail of the hypergeometric distribution. Where labels are unknown it is one
    of the binomial distribution, over the images that have the one label and in which the other is known; both ways
    must be beyond chance, on the same side, and the larger p-value counts.

    Args:
        counts: of the annotations.
        alpha: what the correction keeps: the share of false pairs among those found, or the chance of a single one.
        correction: ``bh`` or ``bonferroni``; see :data:`CORRECTIONS`. The tests are as many as there are pairs of
            labels, also those that never occur.
        below: also pairs that are together less often. Then p-values are two-sided: twice the smaller tail.
        frequent: of the pairs that never occur, only those between this many of the most frequent labels are looked
            at: there are almost L^2/2 of them, and for rare labels absence says nothing.

    Returns:
        The pairs, and their sign (P,): 1 above chance, -1 below.

    Raises:
        InputError: an option out of its range, or counts without the number of images.
    """
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha must lie between 0 and 0.5, not {alpha}")
    correct = lookup("correction", correction, CORRECTIONS)
    num_labels = len(counts.label_names)
    num_tests = max(num_labels * (num_labels - 1) // 2, 1)
    sides = 1 + below
    single = probability(counts)
    pairs = occurring_pairs(counts)
    if below:
        absent = _absent_pairs(counts, frequent)
        pairs = Pairs(*map(np.concatenate, zip(pairs, absent, strict=True)))
    found: list[tuple[Pairs, np.ndarray, np.ndarray]] = []
    for start in watched(range(0, len(pairs.row), BLOCK), "testing pairs of labels"):
        block = pairs.at(slice(start, start + BLOCK))
        sign = _side(counts, single, block)
        asked = (sign != 0) if below else (sign > 0)
        block, sign = block.at(asked), sign[asked]
        p = sides * _tail(counts, single, block, sign)
        hopeful = p <= alpha  # no correction keeps more
        found.append((block.at(hopeful), sign[hopeful], p[hopeful]))
    if not found:
        return pairs, np.empty(0, dtype=int)
    p = np.concatenate([values for *_, values in found])
    kept = p <= correct(p, num_tests, alpha)
    sign = np.concatenate([signs for _, signs, _ in found])
    return Pairs(*map(np.concatenate, zip(*(block for block, *_ in found), strict=True))).at(kept), sign[kept]


def _benjamini_hochberg(p: np.ndarray, num_tests: int, alpha: float) -> float:
    ordered = np.sort(p)
    under = ordered <= alpha * np.arange(1, len(p) + 1) / num_tests
    return ordered[under].max(initial=-1.0)


def _bonferroni(p: np.ndarray, num_tests: int, alpha: float) -> float:
    return alpha / num_tests


# Name -> the largest p-value that stands, given those of the likeliest tests and the number of all tests.
# bh holds the share of false pairs among those found (Benjamini & Hochberg, J. R. Statist. Soc. B 1995,
# https://doi.org/10.1111/j.2517-6161.1995.tb02031.x), bonferroni the probability that there is any.
CORRECTIONS: dict[str, Callable[[np.ndarray, int, float], float]] = {
    "bh": _benjamini_hochberg,
    "bonferroni": _bonferroni,
}


def _checked(counts: LabelCounts, given: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(P,) images that have the one label and in which the other is known; 0 where that was not counted."""
    assert counts.checked is not None
    return np.asarray(counts.checked[given, label]).ravel() if len(given) else np.empty(0, dtype=np.int64)


def _absent_pairs(counts: LabelCounts, frequent: int) -> Pairs:
    """The pairs of frequent labels that are on no image."""
    # By name where labels are equally frequent: so the choice does not depend on the order of labels.
    order = np.lexsort((np.array(counts.label_names), -counts.counts))
    labels = np.sort(order[:frequent])
    never = np.triu(counts.cooccurrence[labels][:, labels].toarray() == 0, k=1)
    row, column = never.nonzero()
    return Pairs(labels[row], labels[column], np.zeros(len(row), dtype=counts.cooccurrence.dtype))


def _side(counts: LabelCounts, single: np.ndarray, pairs: Pairs) -> np.ndarray:
    """(P,) 1 for pairs that are together more often than expected, -1 for those less often, 0 for neither.

    Where labels are unknown, one of the two ways decides: if the other disagrees, its tail is half of all or more.
    """
    row, column, together = pairs
    images = counts.counts[row] if counts.checked is None else _checked(counts, row, column)
    return np.sign(together - images * single[column]).astype(int)


def _tail(counts: LabelCounts, single: np.ndarray, pairs: Pairs, sign: np.ndarray) -> np.ndarray:
    """(P,) the probability of as many images together by chance, or of more (sign 1) or fewer (-1)."""
    row, column, together = pairs
    if counts.checked is None:
        return _hypergeometric(together, counts.counts[row], counts.counts[column], counts.num_images, sign)
    there = _binomial(together, _checked(counts, row, column), single[column], sign)
    return np.maximum(there, _binomial(together, _checked(counts, column, row), single[row], sign))


def _hypergeometric(
    together: np.ndarray, first: np.ndarray, second: np.ndarray, num_images: int, sign: np.ndarray
) -> np.ndarray:
    """One probability, and the rest of the tail by the ratios of its neighbours, which fall on the way out.

    SciPy's tails are the same, but take each pair by itself: a quarter of an hour for fifty million of them.
    """
    from scipy import stats  # a second to import, which whoever builds a model would wait for

    total = np.ones(len(together))
    place, k, term = np.arange(len(together)), together.astype(float), np.ones(len(together))
    a, b, up = first.astype(float), second.astype(float), sign > 0
    while len(place):
        out = (a - k) * (b - k) / ((k + 1) * (num_images - a - b + k + 1))
        back = k * (num_images - a - b + k) / ((a - k + 1) * (b - k + 1))
        term = term * np.where(up, out, back)
        total[place] += term
        k = k + np.where(up, 1, -1)
        on = term > 1e-14 * total[place]
        place, k, term, a, b, up = (values[on] for values in (place, k, term, a, b, up))
    return np.exp(stats.hypergeom.logpmf(together, num_images, first, second)) * total


def _binomial(together: np.ndarray, images: np.ndarray, share: np.ndarray, sign: np.ndarray) -> np.ndarray:
    from scipy import stats

    above, below = stats.binom.sf(together - 1, images, share), stats.binom.cdf(together, images, share)
    return np.where(sign > 0, above, below)
