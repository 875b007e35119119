"""Label vectors from the label graph's spectrum: labels that a random walk over the graph confuses lie together.

    edge_index (2,M), edge_weight (M,) --> normalised adjacency S (L,L) --eigenvectors--> u_k lambda_k (L,E)

Diffusion maps: Coifman & Lafon, Applied and Computational Harmonic Analysis 2006,
https://doi.org/10.1016/j.acha.2006.04.006.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

DENSE = 2000  # labels up to which all eigenvectors are computed; beyond, a few of them by Lanczos' method


def spectral(
    edge_index: Int[Tensor, "2 M"], edge_weight: Float[Tensor, " M"], num_labels: int, *, dim: int = 300
) -> Float[Tensor, "L E"]:
    """Unit vectors: rows of the eigenvectors of ``S = D^-1/2 W D^-1/2`` with the largest eigenvalues, times those.

    W is the mean of the absolute weights of ``i -> j`` and ``j -> i``, self-loops included, so that a label
    without a neighbour has an eigenvector of its own.

    Args:
        edge_index: the edges of a label graph, every self-loop among them.
        edge_weight: their weights.
        num_labels: L.
        dim: E; in a graph of fewer labels there are only as many.

    Returns:
        float32 (L, min(dim, L)), on the CPU. The same graph gives the same vectors.
    """
    source, target = edge_index.numpy(force=True)
    weights = np.abs(edge_weight.numpy(force=True).astype(np.float64))
    weights[source == target] = np.maximum(weights[source == target], 1e-6)
    directed = sp.csr_array((weights, (source, target)), shape=(num_labels, num_labels))
    adjacency = sp.csr_array((directed + directed.T) / 2)
    scale = np.asarray(adjacency.sum(1)).ravel() ** -0.5
    adjacency = sp.csr_array(adjacency.multiply(scale[:, None]).multiply(scale))
    size = min(dim, num_labels)
    if num_labels <= max(DENSE, size + 1):
        values, vectors = np.linalg.eigh(adjacency.toarray())
    else:
        from scipy.sparse.linalg import eigsh  # it takes a fifth of a second to import

        values, vectors = eigsh(adjacency, k=size, which="LA", v0=np.ones(num_labels))
    largest = np.argsort(-values, kind="stable")[:size]
    values, vectors = values[largest].clip(min=0), vectors[:, largest]
    # An eigenvector has no sign of its own: its largest entry is taken as positive.
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(size)])
    rows = vectors * values
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return torch.from_numpy(rows.astype(np.float32))
