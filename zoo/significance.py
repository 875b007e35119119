"""Is one model better than another? Paired differences in mAP under the bootstrap, corrected for many comparisons.

    scores of both (S seeds x N x L), images or groups of images drawn anew --> (R,) differences in mAP
                                                                            --> interval, p, Holm's p

What the interval is about: other photos *and* other seeds. One over seeds alone calls anything significant that this
test split happens to favour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Shaped
from torch import Tensor

from zoo.lookup import InputError
from zoo.progress import watched

RESAMPLES = 1000
CHUNK = 2**24  # counts weighed at once, which single precision holds exactly: bounds the memory


@dataclass(frozen=True)
class Gain:
    """A difference in mAP.

    Attributes:
        mean: over the seeds, on the images as they are.
        low: end of the 95 % interval.
        high: likewise.
        p: two-sided, of no difference.
        holm: the same, corrected for as many comparisons as were made at once.
    """

    mean: float
    low: float
    high: float
    p: float
    holm: float

    @property
    def significant(self) -> bool:
        """At 5 % over the whole family of comparisons."""
        return self.holm < 0.05


def paired_gains(
    models: Sequence[Sequence[Tensor]],
    baseline: Sequence[Tensor],
    targets: Sequence[Tensor],
    *,
    groups: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Gain]:
    """Gains in mAP of several models over one baseline.

    Each resample draws the test images with replacement, whole groups where images come in groups (Field & Welsh, JRSS
    B 2007, https://doi.org/10.1111/j.1467-9868.2007.00593.x), and the seeds; the same images and seeds for every model,
    so that what makes an image hard, or a seed lucky, falls out of the difference. Intervals are percentiles (Efron,
    Annals of Statistics 1979, https://doi.org/10.1214/aos/1176344552), p is twice the smaller tail and Holm's
    correction (Scandinavian Journal of Statistics 1979, https://www.jstor.org/stable/4615733) is over these models.

    Args:
        models: for each model the test scores (N, L) of each of its S seeds.
        baseline: likewise, of the same seeds.
        targets: (N, L) of {1, 0, -1} for each seed, since seeds may be asked for other labels.
        groups: (N,) values; images with equal ones are drawn together.
        resamples: R.
        seed: of the draws.

    Raises:
        InputError: models with other numbers of seeds than the baseline.
    """
    if any(len(scores) != len(baseline) for scores in [*models, targets]):
        raise InputError("paired comparisons need the same seeds of every model")
    generator = np.random.default_rng(seed)
    num_images = len(targets[0])
    if groups is None:
        member, num_groups = np.arange(num_images), num_images
    else:
        _, member = np.unique(groups, return_inverse=True)
        num_groups = int(member.max()) + 1
    # How often each image and each seed is drawn, instead of the draws themselves: then nothing is sorted again. The
    # first column counts every image once.
    parts = [np.ones((num_images, 1), dtype=np.float32)]
    at_once = max(1, CHUNK // num_images)
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = generator.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=size)
        parts.append(np.ascontiguousarray(drawn.T[member], dtype=np.float32))
    seeds = generator.multinomial(len(baseline), np.full(len(baseline), 1 / len(baseline)), size=resamples)
    share = seeds / len(baseline)

    def resampled(scores: Sequence[Tensor]) -> Float[np.ndarray, "R1 S"]:
        pairs = zip(scores, targets, strict=True)
        return np.stack(
            [np.concatenate([weighted_mean_ap(*pair, part) for part in parts]) for pair in pairs], axis=1
        )

    reference = resampled(baseline)
    found: list[Gain] = []
    for scores in watched(models, "bootstrap"):
        difference = resampled(scores) - reference
        spread = (difference[1:] * share).sum(1)
        low, high = (float(end) for end in np.quantile(spread, (0.025, 0.975)))
        tail = int(min((spread <= 0).sum(), (spread >= 0).sum()))
        p = min(2 * (tail + 1) / (resamples + 1), 1.0)
        found.append(Gain(float(difference[0].mean()), low, high, p, p))
    corrected = holm([gain.p for gain in found])
    return [replace(gain, holm=value) for gain, value in zip(found, corrected, strict=True)]


def weighted_mean_ap(
    scores: Float[Tensor, "N L"], targets: Shaped[Tensor, "N L"], times: Float[np.ndarray, "N R"]
) -> Float[np.ndarray, " R"]:
    """mAP with each image counted so many times, for R ways to count them; where all count once, the mAP.

    As :func:`zoo.metrics.average_precision`: tied scores are one threshold, unknown entries are left out, and so is a
    label of which no positive is counted. Precision is only asked for at the positives, so that between two of them no
    more is needed than a sum, which a product with a sparse matrix takes for all R at once.
    """
    total, number = np.zeros(times.shape[1]), np.zeros(times.shape[1])
    for scores_of_label, targets_of_label in zip(scores.T.numpy(), targets.T.numpy(), strict=True):
        known = np.flatnonzero(targets_of_label >= 0)
        order = known[np.argsort(-scores_of_label[known], kind="stable")]
        values, present = -scores_of_label[order], targets_of_label[order] == 1
        # A threshold lies at each score of a positive: all images up to the last place with that score are above it.
        ends, positives = np.unique(
            np.searchsorted(values, values[present], side="right"), return_counts=True
        )
        above = np.cumsum(_sums(order, ends, times), axis=0)
        right = _sums(order[present], np.cumsum(positives), times)
        counted = right.sum(0)
        weighed = (right * np.cumsum(right, axis=0) / np.maximum(above, 1)).sum(0, dtype=np.float64)
        total += np.where(counted > 0, weighed / np.maximum(counted, 1), 0)
        number += counted > 0
    return total / number


def _sums(
    images: Shaped[np.ndarray, " M"], ends: Shaped[np.ndarray, " T"], times: Float[np.ndarray, "N R"]
) -> Float[np.ndarray, "T R"]:
    """How often the images of each stretch are counted: those up to the first end, then up to the second, ..."""
    starts = np.concatenate([[0], ends])
    size = (len(ends), len(times))
    return sp.csr_array((np.ones(starts[-1], dtype=times.dtype), images[: starts[-1]], starts), size) @ times


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction: each p times the number of those that are no smaller, and no less than one before it."""
    corrected, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min((len(p) - rank) * p[i], 1.0))
        corrected[i] = largest
    return corrected
