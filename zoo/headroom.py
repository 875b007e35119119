"""Headroom: what a model could gain from knowing the other labels, estimated from annotations alone.

    targets (N,L) --couplings of the other half--> label evidence (N,L) -------------+
    targets (N,L) --mu y + noise-----------------> image evidence (N,L) of known mAP +--> mAP with both - mAP

Where the other labels say little of a label, no label graph can help, whatever model reads it. That is worth knowing
before any training, and takes no photos: the image evidence is simulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from scipy import interpolate, special

from zoo.annotations import NEGATIVE, POSITIVE, UNKNOWN, Annotations
from zoo.counts import count_labels
from zoo.couplings import coupling_edges
from zoo.lookup import InputError
from zoo.metrics import average_precision
from zoo.progress import watched

# Labels that are predicted, at random; all are evidence. More would take minutes and change a mean little.
MAX_LABELS = 100
# Standard deviations between the image evidence of positives and negatives that are tried: from chance to certain.
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)


@dataclass(frozen=True)
class Headroom:
    """What the other labels tell of a label.

    Attributes:
        num_images: that were looked at.
        num_labels: that were predicted.
        skipped: labels with too few positives or negatives to be predicted.
        chance: mAP of guessing, the mean share of images that have a label.
        labels_alone: mAP of predicting each label from all others, without the image.
        gains: for each quality of image evidence, as mAP: the mAP with all other labels known as well.
    """

    num_images: int
    num_labels: int
    skipped: int
    chance: float
    labels_alone: float
    gains: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        lines = [
            f"from all other labels alone, {self.num_labels:,} labels of {self.num_images:,} images are predicted "
            f"with mAP {self.labels_alone:.3f},",
            f"by chance with {self.chance:.3f}"
            + (f" ({self.skipped:,} too rare to tell)" if self.skipped else ""),
            "  mAP of the image alone   with all other labels known    gain",
        ]
        lines += [f"  {base:22.2f} {both:30.3f} {both - base:+7.3f}" for base, both in self.gains]
        lines.append(
            "Read the row of the mAP that a plain linear model reaches. Real gains are smaller: the image tells"
        )
        lines.append("much of the same, and the other labels are predicted, not known.")
        return "\n".join(lines)


def estimate_headroom(
    annotations: Annotations,
    *,
    base: Sequence[float] = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95),
    max_images: int = 20_000,
    min_positives: int = 10,
    seed: int = 0,
) -> Headroom:
    """What knowing all other labels of an image would add to a model of a given mAP.

    The image's evidence is a Gaussian, ``mu y + noise`` for each label, with mu from chance to certain; between
    these, gains are interpolated. It is drawn *independently of the other labels given the label*: a real model's
    errors are not, for it sees beach and sea in the same pixels, and knows much of what the other labels could tell.
    And the other labels are known, not predicted. So this is about the most that a label graph could give at this
    mAP, for evidence that adds up pair by pair (couplings) as most heads' does; it is no strict bound.

    Each half of the images is predicted with the couplings (:func:`zoo.couplings.coupling_edges`) of the other half;
    a logistic regression of that other half makes log-odds of them, to which the image adds its own, known exactly.
    An unknown label tells nothing, and is not predicted.

    Args:
        annotations: of the training images; difficult entries are unknown.
        base: qualities of the image's evidence, as mAP. What chance or the annotations do not allow is left out.
        max_images: a random part of this many stands for more.
        min_positives: a label needs as many positives, and negatives, in each half.
        seed: of the halves and the noise.

    Raises:
        InputError: fewer than two labels have enough positives, or a base outside of 0..1.
    """
    if wrong := [value for value in base if not 0 < value < 1]:
        raise InputError(f"the mAP of the image's evidence must lie between 0 and 1, not {wrong[0]}")
    random = np.random.default_rng(seed)
    order = random.permutation(len(annotations))[:max_images]
    halves = [annotations.rows(np.sort(part)).treated("ignored") for part in np.array_split(order, 2)]
    positives = [half.positives() for half in halves]
    fewest = np.minimum(*(np.minimum(p, h.known() - p) for p, h in zip(positives, halves, strict=True)))
    enough = np.flatnonzero(fewest >= min_positives)
    if len(enough) < 2:
        raise InputError(
            f"headroom cannot be told: {len(enough)} of {annotations.shape[1]} labels have {min_positives} "
            f"positives and {min_positives} negatives in each half of {len(order):,} images; it takes two"
        )
    predicted = np.sort(random.permutation(enough)[:MAX_LABELS])

    targets = [half.columns(predicted).targets() for half in halves]
    pairs = watched([halves, halves[::-1]], "couplings")
    evidence = np.concatenate([_label_evidence(half, other, predicted) for half, other in pairs])
    y = np.concatenate(targets)
    log_odds = _log_odds(evidence, y, np.arange(len(y)) < len(targets[0]))
    noise = random.standard_normal(y.shape, dtype=np.float32)
    alone, both = [], []
    for mu in watched(STRENGTHS, "headroom"):
        image = mu * (y == 1) + noise
        alone.append(_mean_ap(image, y))
        # log p(image | y = 1) / p(image | y = 0) is mu (image - mu / 2)
        both.append(_mean_ap(log_odds + mu * (image - mu / 2), y))
    rising = np.unique(np.maximum.accumulate(alone), return_index=True)[
        1
    ]  # 1 may be reached early, and twice
    curve = interpolate.PchipInterpolator(np.array(alone)[rising], np.array(both)[rising])
    gains = tuple((value, float(curve(value))) for value in base if alone[0] < value <= max(alone))
    chance = float(((y == 1).sum(0) / (y >= 0).sum(0)).mean())
    skipped = annotations.shape[1] - len(enough)
    return Headroom(len(y), len(predicted), skipped, chance, both[0], gains)


def _label_evidence(half: Annotations, other: Annotations, predicted: np.ndarray) -> np.ndarray:
    """What the couplings of the other half make of the known labels: (N,L') log-odds above the label's own."""
    num_labels = half.shape[1]
    counts = count_labels(other, [str(i) for i in range(num_labels)])
    source, target, weight = coupling_edges(counts)
    place = np.full(num_labels, -1)
    place[predicted] = np.arange(len(predicted))
    kept = (source != target) & (place[target] >= 0)
    shape = (num_labels, len(predicted))
    couplings = sp.csr_array((weight[kept], (source[kept], place[target[kept]])), shape=shape)
    known = counts.num_images if counts.known is None else np.maximum(counts.known, 1)
    centres = sp.csr_array(sp.diags_array(counts.counts / known) @ couplings)  # what an average image adds
    positive = half.where(POSITIVE).astype(float)
    if half.absent:
        evidence = positive @ couplings - half.where(POSITIVE, NEGATIVE).astype(float) @ centres
        return evidence.toarray().astype(np.float32)
    evidence = positive @ couplings + half.where(UNKNOWN).astype(float) @ centres
    return (evidence.toarray() - centres.sum(axis=0)).astype(np.float32)


def _log_odds(evidence: np.ndarray, targets: np.ndarray, first: np.ndarray) -> np.ndarray:
    """(N,L) log-odds of each label given its evidence, by the logistic regression of the other half."""
    evidence = evidence / (evidence.std(axis=0) + 1e-6)
    log_odds = np.empty_like(evidence)
    for half in (first, ~first):
        intercept, slope = _logistic_regressions(evidence[~half], targets[~half])
        log_odds[half] = intercept + slope * evidence[half]
    return log_odds


def _logistic_regressions(evidence: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(2,L) intercept and slope for each label, by Newton's method with halved steps where a whole one is too long.

    A small ridge keeps the slope finite where the evidence leaves no doubt.
    """
    known, positive = targets >= 0, targets == 1
    ridge = np.array([1e-3, 1.0])

    def loss(weights: np.ndarray) -> np.ndarray:
        logits = weights[0] + weights[1] * evidence
        return ((np.logaddexp(0, logits) - positive * logits) * known).sum(0) + ridge @ weights**2 / 2

    weights = np.zeros((2, evidence.shape[1]))
    now = loss(weights)
    for _ in range(30):
        probability = special.expit(weights[0] + weights[1] * evidence)
        error, curvature = known * (probability - positive), known * probability * (1 - probability)
        gradient = np.stack([error.sum(0), (error * evidence).sum(0)], axis=1) + ridge * weights.T
        moments = [(curvature * evidence**power).sum(0) for power in range(3)]
        hessian = np.stack([moments[:2], moments[1:]]).transpose(2, 0, 1) + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0].T
        for _ in range(10):
            after = loss(weights - step)
            worse = after > now
            if not worse.any():
                break
            step[:, worse] /= 2
        weights, gained, now = weights - step, (now - after).max(), after
        if gained < 0.01:  # of a log-likelihood
            break
    return weights


def _mean_ap(scores: np.ndarray, targets: np.ndarray) -> float:
    ranked = 0.5 + 0.5 * scores / (
        1 + np.abs(scores)
    )  # in the same order, but unlike a sigmoid hardly saturated
    return (
        average_precision(torch.from_numpy(ranked.astype(np.float32)), torch.from_numpy(targets))
        .nanmean()
        .item()
    )
