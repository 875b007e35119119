"""A drawing of the label graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Real
from torch import Tensor
from torch_geometric.data import Data

from zoo.lookup import InputError
from zoo.plots.communities import find_communities, network_of, strongest_edges, strongest_labels
from zoo.plots.layout import Box, arrange
from zoo.plots.names import measure_names, write_names
from zoo.plots.page import DOT, PALETTE, Axes, add_canvas, load, new_figure, same_length

EDGES_PER_LABEL = 12  # With more, all is grey; the more labels, the fewer of them, down to three.
BEND = 0.13  # Of the arrows, so that there and back are two.
UNLINKED = BETWEEN = "#999999"  # Labels without a neighbour; edges between communities.


def plot_label_graph(
    graph: Data,
    path: str | Path,
    *,
    counts: Real[np.ndarray | Tensor, " L"] | None = None,
    max_labels: int = 500,
) -> Path:
    """Draws a label graph: who receives from whom, how much, and which labels keep together.

    An arrow from j to i means that label i receives from label j; its width is the edge weight, dashed if
    negative. Colours are Louvain communities; connected components are laid out by Kamada and Kawai's springs, above
    120 labels every community for itself, in a box; labels without a neighbour stand in rows below. The page grows
    with the names, every one of which is written. Self-loops are not drawn.

    Args:
        graph: ``edge_index`` (2, M), ``edge_weight`` (M,), ``label_names``.
        path: the file to write.
        counts: positives of every label; they give the sizes of the dots.
        max_labels: of a larger graph only the labels with the most edges are drawn. Of the edges, those are that are
            among the twelve strongest that a label sends or receives; of many labels fewer, three of 500. The title
            says so.

    Raises:
        InputError: the counts do not fit the labels, ``max_labels`` is below 1, or the suffix of the path is no
            known format.
    """
    total = len(graph.label_names)
    if counts is not None:
        same_length("counts", counts, total, "labels")
    if max_labels < 1:
        raise InputError(f"max_labels must be 1 or more, got {max_labels}")
    labels, ends, weights = strongest_labels(graph, max_labels)
    shown = strongest_edges(len(labels), ends, int(np.clip(1500 / len(labels), 3, EDGES_PER_LABEL)))
    title = f"the {len(labels)} most linked of " if len(labels) < total else ""
    title += f"{total:,} labels" if total > 1 else "1 label"
    title += f", {len(shown):,} strongest of {len(weights):,} edges"
    if len(shown) == len(weights):
        title = title.replace(f"{len(shown):,} strongest of ", "")
    network = network_of(len(labels), ends, weights)
    community = find_communities(network)
    ends, weights = ends[shown], weights[shown]
    radii = dot_radii(len(labels), None if counts is None else np.asarray(counts, dtype=float)[labels])

    with new_figure(path) as figure:
        names, sizes = measure_names(figure, [graph.label_names[label] for label in labels])
        sheet = arrange(network, community, sizes, radii)
        note = "Arrows point to the label that receives. Width: edge weight. Colour: community."
        note += " Boxes: communities." if sheet.boxes else ""
        note += "" if counts is None else " Size: positives."
        axes = add_canvas(figure, sheet.width, sheet.height, f"Label graph: {title}", note)
        colour_of = box_colours(sheet.boxes) if sheet.boxes else {k: k for k in community.tolist()}
        for box, number in sheet.boxes:
            _draw_box(axes, box, _colour(colour_of[number]))
        points = sheet.points
        colours = [_colour(colour_of[number] if number >= 0 else -1) for number in community.tolist()]
        # The strongest come first, and are drawn last.
        for (j, i), weight in zip(ends[::-1], weights[::-1], strict=True):
            relative, inside = abs(weight) / abs(weights[0]), community[j] == community[i]
            style = {
                "color": colours[j] if inside else BETWEEN,
                "alpha": (0.25 if inside or not sheet.boxes else 0.12) + 0.5 * relative,
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


def dot_radii(num_labels: int, counts: Float[np.ndarray, " L"] | None = None) -> Float[np.ndarray, " L"]:
    """Of the dots, in inches: their areas grow with the number of positives, where that is known."""
    if counts is None:
        return np.full(num_labels, DOT)
    return 0.04 + 0.15 * np.sqrt(counts / max(counts.max(initial=0), 1))


def _colour(number: int) -> str:
    return PALETTE[number % len(PALETTE)] if number >= 0 else UNLINKED


def box_colours(boxes: Sequence[tuple[Box, int]]) -> dict[int, int]:
    """A number of a colour for every community, another than those of the boxes that its own touches, if there is."""
    chosen: dict[int, int] = {}
    for (left, bottom, width, height), number in boxes:
        used = [
            chosen[other]
            for (x, y, w, h), other in boxes
            if other in chosen
            and max(left, x) <= min(left + width, x + w) + 0.01
            and max(bottom, y) <= min(bottom + height, y + h) + 0.01
        ]
        # Of the colours that are free the one in use the least, all in all.
        chosen[number] = min(
            range(len(PALETTE)), key=lambda k: (k in used, list(chosen.values()).count(k), k)
        )
    return chosen


def _draw_box(axes: Axes, box: Box, colour: str) -> None:
    left, bottom, width, height = box
    corner, gap = (left + 0.04, bottom + 0.04), 0.08
    rectangle = load("matplotlib.patches").Rectangle
    axes.add_artist(
        rectangle(corner, width - gap, height - gap, facecolor=colour, alpha=0.06, linewidth=0, zorder=0)
    )


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
