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

import itertools

import numpy as np
import scipy.sparse as sp

from zoo.counts import LabelCounts

# Labels whose pairs are candidates even if they never occur together, which tells something too.
FREQUENT = 1024


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
    num_labels, known = len(counts.label_names), _known_images(counts)
    frequency = counts.counts / known
    # Both ways of P(i, j) agree but where labels are unknown.
    joint = sp.csr_array(counts.p_column_given_row().multiply(frequency[:, None]))
    joint = sp.csr_array((joint + joint.T) / 2)
    # Two labels that are each known in a share c of the images are known together in c^2 of them.
    ridge = pseudo_images * max(counts.num_images, 1) / known**2
    sources, targets, weights = [], [], []
    for label, heard in enumerate(_strongest(joint, counts, known, neighbors)):
        if not len(heard):
            continue
        around = np.concatenate([[label], heard])
        covariance = joint[around][:, around].toarray() - np.outer(frequency[around], frequency[around])
        np.fill_diagonal(covariance, frequency[around] * (1 - frequency[around]))
        if counts.checked is not None:  # then each pair has images of its own, and they need not fit together
            values, vectors = np.linalg.eigh(covariance)
            covariance = vectors * values.clip(min=0) @ vectors.T
        covariance += np.diag(ridge[around])
        slopes = np.linalg.solve(covariance[1:, 1:], covariance[1:, 0])
        unexplained = covariance[0, 0] - slopes @ covariance[1:, 0]
        sources.append(heard)
        targets.append(np.full(len(heard), label))
        weights.append(slopes / unexplained)
    loops = np.arange(num_labels)
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


def _strongest(
    joint: sp.csr_array, counts: LabelCounts, known: np.ndarray, neighbors: int
) -> list[np.ndarray]:
    """For each label the labels whose co-occurrence with it is farthest from chance, in standard deviations."""
    num_labels = len(known)
    frequency = (counts.counts + 0.5) / (known + 1)
    pairs = joint.tocoo()
    frequent = np.argsort(-frequency, kind="stable")[:FREQUENT]
    rows = np.concatenate([pairs.row, np.repeat(frequent, len(frequent))])
    columns = np.concatenate([pairs.col, np.tile(frequent, len(frequent))])
    pair, first = np.unique(rows.astype(np.int64) * num_labels + columns, return_index=True)
    together = np.concatenate([pairs.data, np.zeros(len(frequent) ** 2)])[first]
    rows, columns = np.divmod(pair, num_labels)
    by_chance = frequency[rows] * frequency[columns]
    images = known[rows] * known[columns] / max(counts.num_images, 1)
    spread = np.sqrt(by_chance * (1 - frequency[rows]) * (1 - frequency[columns]) / images)
    surprise = np.where(rows == columns, -np.inf, np.abs(together - by_chance) / spread)
    order = np.lexsort((-surprise, rows))
    rows, columns, surprise = rows[order], columns[order], surprise[order]
    starts = np.searchsorted(rows, np.arange(num_labels + 1))
    chosen = []
    for start, end in itertools.pairwise(starts):
        end = min(end, start + neighbors)
        chosen.append(np.sort(columns[start:end][np.isfinite(surprise[start:end])]))
    return chosen
