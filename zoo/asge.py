"""Label vectors fitted to the label graph, so that labels which occur together lie close together.

    edge_index (2,M), edge_weight (M,) --> similarities A (L,L) --cos(e_i, e_j) = A_ij--> e (L,E)

Adjacency-based Similarity Graph Embedding: You et al., "Cross-Modality Attention with Semantic Graph Embedding for
Multi-Label Classification", AAAI 2020, https://arxiv.org/abs/1912.07872. The authors published no code.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoo.lookup import InputError

MOST_LABELS = 1000  # Pairs of labels are dense here: 1,000 labels take half a minute.
MOMENTUM = 0.9


def asge(
    edge_index: Int[Tensor, "2 M"],
    edge_weight: Float[Tensor, " M"],
    num_labels: int,
    *,
    dim: int = 300,
    seed: int = 0,
    relaxation: float = 0.0,
    strongest: float = 0.5,
    steps: int = 200,
) -> Float[Tensor, "L E"]:
    """Unit vectors e that minimise ``sum_ij sigma_ij (cos(e_i, e_j) - A_ij)^2`` over the pairs of labels.

    That the cosines follow the label graph is the paper's. The relaxation, sigma_ij = 0 for a pair whose similarity
    *and* cosine lie below a threshold and else 1, is our reading of it, and off unless asked for: 300 dimensions fit
    the 80 labels of COCO without. Ours are A_ij, the mean weight of the edges ``i -> j`` and ``j -> i``, scaled so
    that it does not matter how the weights were normalised; the 300 dimensions, as GloVe has; and the descent, with
    momentum, on the vectors themselves, from random directions.

    Args:
        edge_index: the edges of a label graph; self-loops say nothing here.
        edge_weight: their weights. Labels without a neighbour end at right angles to all others; where no label has
            one there is nothing to fit, and the random directions stay as they are.
        num_labels: L, 1,000 at most.
        dim: E.
        seed: of the directions to start from. The same graph and seed give the same vectors.
        relaxation: the threshold on similarity and cosine; 0 relaxes nothing.
        strongest: similarity of the most strongly linked pair. At 1 its labels would get the same vector.
        steps: of the descent.

    Returns:
        float32 vectors (L, dim) of length 1, on the CPU.

    Raises:
        InputError: too many labels, or an option out of its range.
    """
    if num_labels > MOST_LABELS:
        raise InputError(
            f"asge compares all pairs of labels, {MOST_LABELS:,} labels at most, not {num_labels:,}: "
            "use other label vectors, such as embeddings='glove'"
        )
    if dim < 2 or seed < 0 or steps < 1:
        raise InputError(
            f"asge needs 2 dimensions, a seed of 0 and 1 step or more, not {dim}, {seed} and {steps}"
        )
    if not 0 < strongest <= 1 or not 0 <= relaxation <= 1:
        raise InputError(
            f"strongest must lie in (0, 1] and relaxation in [0, 1], not {strongest} and {relaxation}: "
            "they are cosines"
        )
    similarity = _similarity(edge_index.numpy(force=True), edge_weight.numpy(force=True), num_labels)
    similarity *= strongest / (np.abs(similarity).max() or 1.0)
    relaxed = similarity < relaxation

    vectors = _unit(np.random.default_rng(seed).standard_normal((num_labels, dim)))
    velocity = np.zeros_like(vectors)
    for _ in range(steps if similarity.any() else 0):
        cosines = vectors @ vectors.T
        error = cosines - similarity
        error[relaxed & (cosines < relaxation)] = 0
        np.fill_diagonal(error, 0)
        gradient = error @ vectors
        gradient -= (gradient * vectors).sum(1, keepdims=True) * vectors  # what remains turns a vector
        # No step overshoots that is short enough for the steepest direction, and the row sums bound how steep it is.
        velocity = MOMENTUM * velocity - gradient / np.abs(cosines).sum(1).max()
        vectors = _unit(vectors + velocity)
    return torch.from_numpy(vectors.astype(np.float32))


def _similarity(edge_index: np.ndarray, edge_weight: np.ndarray, num_labels: int) -> np.ndarray:
    """(L, L), symmetric, zero where no edge is and on the diagonal."""
    weights = np.zeros((num_labels, num_labels))
    weights[tuple(edge_index)] = edge_weight
    np.fill_diagonal(weights, 0)
    return (weights + weights.T) / 2


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
