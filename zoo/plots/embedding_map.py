"""A map of the label embeddings in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from zoo.lookup import InputError
from zoo.plots.layout import spread
from zoo.plots.names import measure_names, write_names
from zoo.plots.page import DOT, MARKERS, PALETTE, add_canvas, fit, load, new_figure, same_length

EXACT = 200  # Labels that the exact method takes; for more it needs many seconds.


def plot_embeddings(
    vectors: Float[np.ndarray | Tensor, "L E"],
    label_names: Sequence[str],
    path: str | Path,
    *,
    groups: Sequence[str] | None = None,
    title: str | None = None,
) -> Path:
    """Draws label embeddings in two dimensions: near labels have similar vectors.

    t-SNE of the cosine distances (van der Maaten and Hinton 2008, https://jmlr.org/papers/v9/vandermaaten08a.html)
    with perplexity min(30, (L - 1) / 3), from the principal components; of fewer than six labels, which have no
    neighbourhoods to speak of, the principal components themselves.

    Args:
        vectors: one row a label.
        label_names: L names.
        path: the file to write.
        groups: the name of every label's group, drawn as its colour.
        title: in place of one that names the method.

    Raises:
        InputError: lengths differ, there is no label, a vector is not finite, or scikit-learn is missing.
    """
    rows = np.asarray(vectors, dtype=float)
    same_length("vectors", rows, len(label_names), "labels")
    if not len(rows) or not np.isfinite(rows).all():
        raise InputError("embeddings to draw must be finite, and at least one")
    if groups is not None:
        same_length("groups", groups, len(label_names), "labels")
    members = [""] * len(rows) if groups is None else list(groups)
    # Markers go on where the colours are used up.
    styles = {
        group: (PALETTE[k % len(PALETTE)], MARKERS[k // len(PALETTE) % len(MARKERS)])
        for k, group in enumerate(dict.fromkeys(members))
    }
    projected, method = _project(rows)

    with new_figure(path) as figure:
        names, sizes = measure_names(figure, label_names)
        # Names cover a fifth of the page at most: so there is room to place them.
        width = max(
            float(np.clip(0.7 * np.sqrt(len(names)) + 3, 6, 13)), (5 * sizes.prod(1).sum() / 0.7) ** 0.5
        )
        body = 0.7 * width
        legend = [] if groups is None else [(group, *style) for group, style in styles.items()]
        title = title or f"Label embeddings, {method}"
        axes = add_canvas(figure, width, body, title, legend=legend)
        box = (0.5, 0.3, width - 1.0, body - 0.6)
        radii = np.full(len(names), DOT)
        # Of labels with nearly the same vector no dot may hide another.
        points = spread(fit(projected, box), np.full((len(names), 2), 2.2 * DOT), box)
        for point, group in zip(points, members, strict=True):
            colour, marker = styles[group]
            axes.scatter(*point, s=(144 * DOT) ** 2, color=colour, marker=marker, linewidths=0)
        write_names(axes, names, points, radii, sizes)
    return Path(path)


def _project(vectors: Float[np.ndarray, "L E"]) -> tuple[Float[np.ndarray, "L 2"], str]:
    """The labels in the plane, and in words how they came there."""
    if len(vectors) < 6:
        centred = vectors - vectors.mean(0)
        directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
        plane = np.zeros((len(vectors), 2))
        # Singular vectors have no sign of their own: their largest entry is taken as positive.
        for k, direction in enumerate(directions):
            plane[:, k] = centred @ direction * np.sign(direction[np.abs(direction).argmax()])
        return plane, "principal components"
    spread = min(vectors.shape) > 1 and vectors.std(0).max() > 0
    tsne = load("sklearn.manifold").TSNE(
        perplexity=min(30.0, (len(vectors) - 1) / 3),
        metric="cosine",
        init="pca" if spread else "random",
        method="exact" if len(vectors) <= EXACT else "barnes_hut",
        random_state=0,
    )
    with load("threadpoolctl").threadpool_limits(1):  # Sums in threads have no fixed order.
        return tsne.fit_transform(vectors).astype(float), "t-SNE of cosine distances"
