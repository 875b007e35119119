"""Couplings: how much more likely one label makes another, with all the others held fixed.

    counts (L,), co-occurrence (L,L) --one small regression a label--> edge j -> i with weight J[i,j], of either sign

Co-occurrence counts a chain twice: where `beach` goes with `sea` and `sea` with `boat`, `beach` goes with `boat`.
A pairwise model of all labels, ``log-odds(y_i | the others) = h_i + sum_j J[i,j] y_j``, tells direct from indirect,
and to first order its J is what stands off the diagonal of the negative inverse of the labels' covariance
(Kappen & Rodríguez, Neural Computation 1998, https://doi.org/10.1162/089976698300017386; Roudi et al., 2009,
https://doi.org/10.3389/neuro.10.022.2009). Row by row that inverse is a ridge regression of a label on the others
(Meinshausen & Bühlmann, 2006, https://arxiv.org/abs/math/0608017), and on its strongest neighbours alone the
regression stays small however many labels there are.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp

from zoo.counts import LabelCounts
from zoo.progress import watched

# Labels whose pairs are candidates even if they never occur together, which tells something too.
FREQUENT = 1024
BLOCK = 2**20  # entries of the covariances that are inverted at once
DENSE = 2048  # labels whose (L, L) is a small matter


def coupling_edges(
    counts: LabelCounts, *, neighbors: int = 64, pseudo_images: float = 5.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Couplings as edges.

    Args:
        counts: of the annotations, be they of the training images or of many more.
        neighbors: how many labels a label hears at most: those whose co-occurrence is farthest from chance.
        pseudo_images: ridge, in images: a label's own few positives weigh little against it.

    Returns:
        source (M,), target (M,), weight (M,). A self-loop's weight is the label's own log-odds ``h_i`` when
        nothing is known of the others.
    """
    known = _known_images(counts)
    frequency = counts.counts / known
    joint = counts.p_column_given_row()
    joint.data *= np.repeat(frequency, np.diff(joint.indptr))
    if counts.checked is not None:  # else both ways of P(i, j) agree
        joint = sp.csr_array((joint + joint.T) / 2)
    # Two labels that are each known in a share c of the images are known together in c^2 of them.
    ridge = pseudo_images * max(counts.num_images, 1) / known**2
    sources, targets, weights = [], [], []
    neighborhoods = _neighborhoods(joint, counts, known, neighbors)
    for around in watched(neighborhoods, "couplings of labels"):
        covariance = _submatrices(joint, around) - frequency[around, None] * frequency[around][:, None]
        diagonal = np.arange(around.shape[1])
        covariance[:, diagonal, diagonal] = frequency[around] * (1 - frequency[around])
        if counts.checked is not None:  # then each pair has images of its own, and they need not fit together
            values, vectors = np.linalg.eigh(covariance)
            covariance = vectors * values.clip(min=0)[:, None] @ vectors.transpose(0, 2, 1)
        covariance[:, diagonal, diagonal] += ridge[around]
        slopes = np.linalg.solve(covariance[:, 1:, 1:], covariance[:, 1:, :1])
        unexplained = covariance[:, :1, :1] - covariance[:, :1, 1:] @ slopes
        sources.append(around[:, 1:].ravel())
        targets.append(np.repeat(around[:, 0], around.shape[1] - 1))
        weights.append((slopes / unexplained).ravel())
    loops = np.arange(len(known))
    log_odds = np.log((counts.counts + 0.5) / (known - counts.counts + 0.5))
    return (
        np.concatenate([*sources, loops]),
        np.concatenate([*targets, loops]),
        np.concatenate([*weights, log_odds]),
    )


def _known_images(counts: LabelCounts) -> np.ndarray:
    """In how many images each label is known."""
    known = counts.num_images if counts.known is None else counts.known
    return np.broadcast_to(np.maximum(known, np.maximum(counts.counts, 1)), counts.counts.shape).astype(float)


def _neighborhoods(
    joint: sp.csr_array, counts: LabelCounts, known: np.ndarray, neighbors: int
) -> list[np.ndarray]:
    """Blocks of labels that hear equally many, n: (B, n + 1), each label before those that it hears."""
    heard = _strongest(joint, counts, known, neighbors)
    sizes = np.array([len(labels) for labels in heard])
    blocks = []
    for size in np.unique(sizes[sizes > 0]):
        labels = np.flatnonzero(sizes == size)
        for block in np.array_split(labels, math.ceil(len(labels) * (size + 1) ** 2 / BLOCK)):
            blocks.append(np.column_stack([block, np.stack([heard[label] for label in block])]))
    return blocks


def _strongest(
    joint: sp.csr_array, counts: LabelCounts, known: np.ndarray, neighbors: int
) -> list[np.ndarray]:
    """For each label the labels whose co-occurrence with it is farthest from chance, in standard deviations."""
    frequency = (counts.counts + 0.5) / (known + 1)
    frequent = np.argsort(-frequency, kind="stable")[:FREQUENT]
    is_frequent = np.isin(np.arange(len(known)), frequent)
    chosen = []
    for label in watched(range(len(known)), "neighbours of labels"):
        stored = slice(*joint.indptr[label : label + 2])
        others, together = joint.indices[stored], joint.data[stored]
        if is_frequent[label]:
            row, candidate = np.zeros(len(known)), is_frequent.copy()
            row[others], candidate[others], candidate[label] = together, True, False
            others = np.flatnonzero(candidate)
            together = row[others]
        by_chance = frequency[label] * frequency[others]
        images = known[label] * known[others] / max(counts.num_images, 1)
        spread = np.sqrt(by_chance * (1 - frequency[label]) * (1 - frequency[others]) / images)
        surprise = np.abs(together - by_chance) / spread
        chosen.append(np.sort(others[np.argsort(-surprise, kind="stable")[:neighbors]]))
    return chosen


def _submatrices(matrix: sp.csr_array, around: np.ndarray) -> np.ndarray:
    """(B, n, n) what stands between the labels of each row of ``around`` (B, n).

    Looking up the n^2 entries one by one costs several times as much as going through the n rows.
    """
    if matrix.shape[0] <= DENSE:
        return matrix.toarray()[around[:, :, None], around[:, None]]
    dense = np.zeros((*around.shape, around.shape[1]))
    place = np.full(matrix.shape[1], -1)
    for labels, submatrix in zip(around, dense, strict=True):
        rows = matrix[labels]
        place[labels] = np.arange(len(labels))
        column = place[rows.indices]
        kept = np.flatnonzero(column >= 0)
        submatrix[np.searchsorted(rows.indptr, kept, side="right") - 1, column[kept]] = rows.data[kept]
        place[labels] = -1
    return dense
