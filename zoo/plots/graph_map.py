"""A drawing of the label graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real
from torch import Tensor
from torch_geometric.data import Data

from zoo.lookup import InputError
from zoo.plots.names import measure_names, write_names
from zoo.plots.page import DOT, PALETTE, Axes, add_canvas, fit, load, new_figure, same_length

Box = tuple[float, float, float, float]  # Left, bottom, width, height.

EDGES_PER_LABEL = 12  # With more, all is grey.
BEND = 0.13  # Of the arrows, so that there and back are two.
UNLINKED = BETWEEN = "#999999"  # Labels without a neighbour; edges between communities.


def plot_label_graph(
    graph: Data,
    path: str | Path,
    *,
    counts: Real[np.ndarray | Tensor, " L"] | None = None,
    max_labels: int = 120,
) -> Path:
    """Draws a label graph: who receives from whom, how much, and which labels keep together.

    An arrow from j to i means that label i receives from label j; its width is the edge weight, dashed if
    negative. Colours are Louvain communities (Blondel et al. 2008, https://arxiv.org/abs/0803.0476), connected
    components are laid out by Kamada and Kawai's springs, and labels without a neighbour stand in rows below.
    Self-loops are not drawn.

    Args:
        graph: ``edge_index`` (2, M), ``edge_weight`` (M,), ``label_names``.
        path: the file to write.
        counts: positives of every label; they give the sizes of the dots.
        max_labels: of a larger graph only the labels with the largest sums of absolute weights are drawn. Of the
            edges, the strongest are: up to twelve times as many as labels. The title says so.

    Raises:
        InputError: the counts do not fit the labels, ``max_labels`` is below 1, or the suffix of the path is no
            known format.
    """
    total = len(graph.label_names)
    if counts is not None:
        same_length("counts", counts, total, "labels")
    if max_labels < 1:
        raise InputError(f"max_labels must be 1 or more, got {max_labels}")
    labels, ends, weights = _strongest_labels(graph, max_labels)
    drawn = min(len(weights), EDGES_PER_LABEL * len(labels))
    title = f"the {len(labels)} most linked of " if len(labels) < total else ""
    title += f"{total} labels" if total > 1 else "1 label"
    title += (
        f", {len(weights):,} edges"
        if drawn == len(weights)
        else f", {drawn:,} strongest of {len(weights):,} edges"
    )
    note = "Arrows point to the label that receives. Width: edge weight. Colour: community."
    note += "" if counts is None else " Size: positives."

    ends, weights = ends[:drawn], weights[:drawn]
    network = _network(len(labels), ends, weights)
    community = _communities(network)
    linked, unlinked = (np.flatnonzero(which) for which in (community >= 0, community < 0))
    radii = np.full(len(labels), DOT)
    if counts is not None:
        shares = np.asarray(counts, dtype=float)[labels]
        radii = 0.04 + 0.15 * np.sqrt(shares / max(shares.max(initial=0), 1))

    with new_figure(path) as figure:
        names, sizes = measure_names(figure, [graph.label_names[label] for label in labels])
        # Names cover a fifth of their part of the page at most: so there is room to place them.
        width = max(
            float(np.clip(np.sqrt(len(linked)) + 2.5, 7, 13)), (5 * sizes[linked].prod(1).sum() / 0.7) ** 0.5
        )
        above = 0.7 * width if len(linked) else 0.0
        column, row = (
            0.5 + float(sizes[:, 0].max(initial=0)),
            0.12 + float(sizes[unlinked, 1].max(initial=0.2)),
        )
        columns = max(1, int((width - 0.3) / column))
        below = row * -(-len(unlinked) // columns) + 0.2
        axes = add_canvas(figure, width, above + below, f"Label graph: {title}", note)

        points = np.zeros((len(labels), 2))
        _lay_out(network, (0.3, below + 0.2, width - 0.6, above - 0.4), points)
        for k, label in enumerate(unlinked):
            points[label] = 0.3 + k % columns * column, below - (0.5 + k // columns) * row
        colours = [PALETTE[k % len(PALETTE)] if k >= 0 else UNLINKED for k in community]
        # The strongest come first, and are drawn last.
        for (j, i), weight in zip(ends[::-1], weights[::-1], strict=True):
            relative = abs(weight) / abs(weights[0])
            style = {
                "color": colours[j] if community[j] == community[i] else BETWEEN,
                "alpha": 0.25 + 0.5 * relative,
                "linewidth": 0.5 + 2.5 * relative,
                "linestyle": "--" if weight < 0 else "-",
            }
            _draw_arrow(axes, points[[j, i]], radii[[j, i]], style)
        circle = load("matplotlib.patches").Circle
        for point, radius, colour in zip(points, radii, colours, strict=True):
            axes.add_artist(
                circle(point, radius, facecolor=colour, edgecolor="white", linewidth=0.8, zorder=3)
            )
        write_names(axes, names, points, radii, sizes, _points_along(points[ends]))
    return Path(path)


def _strongest_labels(
    graph: Data, max_labels: int
) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, "M 2"], Float[np.ndarray, " M"]]:
    """The K labels to draw, and the edges between them, strongest first: source and target among the K, weights."""
    total = len(graph.label_names)
    ends = np.asarray(graph.edge_index).T
    weights = np.asarray(graph.edge_weight, dtype=float)
    carries = (ends[:, 0] != ends[:, 1]) & (weights != 0)
    ends, weights = ends[carries], weights[carries]
    strength = np.bincount(ends.ravel(), np.abs(weights).repeat(2), minlength=total)
    labels = np.sort(np.argsort(-strength, kind="stable")[:max_labels])
    among = np.full(total, -1)
    among[labels] = np.arange(len(labels))
    inside = (among[ends] >= 0).all(1)
    ends, weights = among[ends[inside]], weights[inside]
    order = np.argsort(-np.abs(weights), kind="stable")
    return labels, ends[order], weights[order]


def _network(num_labels: int, ends: Int[np.ndarray, "M 2"], weights: Float[np.ndarray, " M"]) -> Any:
    """An undirected networkx graph with a ``share`` and a ``length`` to every edge."""
    network = load("networkx").Graph()
    network.add_nodes_from(range(num_labels))
    strength = np.bincount(ends.ravel(), np.abs(weights).repeat(2), minlength=num_labels)
    # A share of all that both ends have: by their plain weights, the edges of a hub such as "person" would pull
    # everything into one ball.
    shares = np.abs(weights) / np.sqrt(strength[ends].prod(1))
    for (j, i), share in zip(ends.tolist(), shares.tolist(), strict=True):
        share += network.get_edge_data(j, i, {"share": 0.0})["share"]
        network.add_edge(j, i, share=share, length=share**-0.5)
    return network


def _communities(network: Any) -> Int[np.ndarray, " K"]:
    """The number of every label's community, the largest being 0; -1 for labels without a neighbour."""
    community = np.full(len(network), -1)
    if not network.size():
        return community
    algorithms = load("networkx").community
    # Louvain's method stops at a local optimum, which depends on its order.
    tries = [algorithms.louvain_communities(network, weight="share", seed=seed) for seed in range(10)]
    best = max(tries, key=lambda found: algorithms.modularity(network, found, weight="share"))
    found = [members for members in best if any(network.degree(label) for label in members)]
    for k, members in enumerate(sorted(found, key=lambda members: (-len(members), min(members)))):
        community[list(members)] = k
    return community


def _lay_out(network: Any, box: Box, points: Float[np.ndarray, "K 2"]) -> None:
    """Fills in the points of linked labels: every component of the network in a part of the box."""
    nx = load("networkx")
    components = [sorted(component) for component in nx.connected_components(network) if len(component) > 1]
    components.sort(key=lambda component: (-len(component), component))
    for component, part in zip(components, _divide([len(c) + 4.0 for c in components], box), strict=True):
        ordered = nx.Graph()  # The nodes of a subgraph come in the order of a set.
        ordered.add_nodes_from(component)
        ordered.add_edges_from(network.subgraph(component).edges(data=True))
        layout = nx.kamada_kawai_layout(ordered, weight="length")
        # Not to the very edge, and a few labels not far apart.
        left, bottom, width, height = part
        w, h = min(0.86 * width, 0.9 * len(component)), min(0.92 * height, 0.9 * len(component))
        inner = (left + (width - w) / 2, bottom + (height - h) / 2, w, h)
        points[component] = fit(np.array([layout[label] for label in component]), inner)


def _divide(areas: Sequence[float], box: Box) -> list[Box]:
    """Cuts a box in two, the longer side across, and so on, into boxes with these shares of its area."""
    if len(areas) < 2:
        return [box] * len(areas)
    sums = np.cumsum(areas)
    cut = 1 + int(np.argmin(np.abs(sums[:-1] / sums[-1] - 0.5)))
    share = float(sums[cut - 1] / sums[-1])
    left, bottom, width, height = box
    if width > height:
        first = (left, bottom, width * share, height)
        second = (left + width * share, bottom, width * (1 - share), height)
    else:
        first = (left, bottom + height * (1 - share), width, height * share)
        second = (left, bottom, width, height * (1 - share))
    return _divide(areas[:cut], first) + _divide(areas[cut:], second)


def _draw_arrow(
    axes: Axes, ends: Float[np.ndarray, "2 2"], radii: Float[np.ndarray, 2], style: dict[str, Any]
) -> None:
    arrow = load("matplotlib.patches").FancyArrowPatch(
        *ends,
        arrowstyle="-|>,head_length=3.4,head_width=1.5",
        mutation_scale=1.3,
        connectionstyle=f"arc3,rad={BEND}",
        shrinkA=72 * radii[0],
        shrinkB=72 * radii[1] + 0.5,
        zorder=1,
        **style,
    )
    axes.add_artist(arrow)


def _points_along(ends: Float[np.ndarray, "M 2 2"]) -> Float[np.ndarray, "P 2"]:
    """Points along the bent arrows, about a tenth of an inch apart."""
    points = [np.zeros((0, 2))]
    for start, end in ends:
        across = (end - start)[::-1] * [1, -1]
        control = (start + end) / 2 + BEND * across  # An arc3 is a quadratic Bézier curve.
        t = np.linspace(0, 1, 2 + int(10 * np.linalg.norm(end - start)))[:, None]
        points.append((1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end)
    return np.concatenate(points)
