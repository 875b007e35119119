"""Names beside their dots, over no other name. Sizes and places in inches, y upward."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from zoo.plots.page import INK, Axes, Figure, line_height, load, ruler, wrap

NAME_SIZE = 9.5
MAX_WIDTH = 1.7  # Longer names are broken.
# The places that are tried: in every direction, at every distance between name and dot.
DIRECTIONS = np.linspace(0, 2 * np.pi, 16, endpoint=False)
NEAR = 0.3
GAPS = 0.02 + 0.08 * np.arange(30) ** 1.1


def measure_names(figure: Figure, names: Sequence[str]) -> tuple[list[str], Float[np.ndarray, "L 2"]]:
    """The names, long ones broken into lines, and their widths and heights with a hair of space around them."""
    measure = ruler(figure, NAME_SIZE)
    broken = [wrap(name, MAX_WIDTH, measure) for name in names]
    sizes = [
        (max(map(measure, lines)) + 0.05, len(lines) * line_height(NAME_SIZE) + 0.02) for lines in broken
    ]
    return ["\n".join(lines) for lines in broken], np.array(sizes).reshape(-1, 2)


def write_names(
    axes: Axes,
    names: Sequence[str],
    points: Float[np.ndarray, "L 2"],
    radii: Float[np.ndarray, " L"],
    sizes: Float[np.ndarray, "L 2"],
    lines: Float[np.ndarray, "P 2"] | None = None,
) -> None:
    """Writes names on a canvas (see :func:`place_names`), with a line to the dot where it is not at hand."""
    centres = place_names(points, radii, sizes, (axes.get_xlim()[1], axes.get_ylim()[1]), lines)
    halo = [load("matplotlib.patheffects").withStroke(linewidth=2.2, foreground="white", alpha=0.85)]
    for name, point, radius, size, centre in zip(names, points, radii, sizes, centres, strict=True):
        nearest = np.clip(point, centre - size / 2, centre + size / 2)
        if np.linalg.norm(nearest - point) > radius + 0.12:
            axes.plot(*np.stack([point, nearest]).T, color=INK, linewidth=0.5, alpha=0.6, zorder=2)
        text = axes.text(*centre, name, size=NAME_SIZE, ha="center", va="center", path_effects=halo, zorder=4)
        side = np.sign(centre[0] - point[0]) * (abs(centre[0] - point[0]) > size[0] / 2)
        text.set_multialignment({1.0: "left", 0.0: "center", -1.0: "right"}[float(side)])


def place_names(
    points: Float[np.ndarray, "L 2"],
    radii: Float[np.ndarray, " L"],
    sizes: Float[np.ndarray, "L 2"],
    page: tuple[float, float],
    lines: Float[np.ndarray, "P 2"] | None = None,
) -> Float[np.ndarray, "L 2"]:
    """Finds a place for the name of every dot, near it and over no other name.

    One name after the other, those in a crowd first, takes the cheapest of many places around its dot: each inch
    away costs, what it hides of lines and dots costs more, and a name that it overlaps or the edge of the page
    most. Unlike an iterative repulsion this ends, and names overlap only where every place is taken.

    Args:
        points: centres of the dots.
        radii: of the dots.
        sizes: width and height of every name.
        page: width and height of the page.
        lines: points along the lines that names had better not cover, about a tenth of an inch apart.

    Returns:
        The centres of the names.
    """
    centres = np.zeros_like(points)
    if not len(points):
        return centres
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    crowding = (1 / (0.1 + distances)).sum(1)
    dots = _boxes(points, 2 * radii[:, None].repeat(2, 1))
    placed = np.zeros((0, 4))
    lines = np.zeros((0, 2)) if lines is None else lines[np.argsort(lines[:, 0])]
    circle = np.stack([np.cos(DIRECTIONS), np.sin(DIRECTIONS)], axis=1)
    # To the right is where a reader looks first.
    turned = 0.06 * (1 - np.cos(DIRECTIONS))
    for label in np.argsort(-crowding, kind="stable"):
        point, size, cheapest = points[label], sizes[label], np.inf
        far = size + radii[label] + NEAR
        left, right = np.searchsorted(lines[:, 0], [point[0] - far[0], point[0] + far[0]])
        around = lines[left:right][np.abs(lines[left:right, 1] - point[1]) < far[1]]
        for gap in GAPS:
            if 1.5 * gap >= cheapest:
                break  # No place further off can be cheaper.
            away = size / 2 + radii[label] + gap
            candidates = point + away * circle
            boxes = _boxes(candidates, size)
            outside = (boxes[:, :2].min(1) < 0) | (boxes[:, 2] > page[0]) | (boxes[:, 3] > page[1])
            reach = np.concatenate([point - away - size / 2, point + away + size / 2])
            hidden = (_overlaps(boxes, _within(reach, dots)) > 0).sum(1)
            covered = _overlaps(boxes, _within(reach, placed)).sum(1)
            # In a thicket no place is free of lines, and the nearest is best: hence a most that lines can cost,
            # which places further off cost anyway.
            crossed = np.full(len(circle), 5)
            if gap < NEAR:
                under = np.abs(around[None] - candidates[:, None]) < size / 2
                crossed = under.all(-1).sum(1).clip(max=5)
            cost = 1.5 * gap + turned + 1.0 * hidden + 0.03 * crossed
            cost += 100 * outside + 100 * (covered > 0) + 1000 * covered
            if cost.min() < cheapest:
                centres[label], cheapest = candidates[np.argmin(cost)], cost.min()
        placed = np.concatenate([placed, _boxes(centres[label][None], size)])
    return centres


def _boxes(centres: Float[np.ndarray, "N 2"], sizes: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "N 4"]:
    """Left, bottom, right, top."""
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)


def _within(reach: Float[np.ndarray, 4], boxes: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "K 4"]:
    """Of many boxes the few that meet one."""
    return boxes[(boxes[:, :2] < reach[2:]).all(1) & (boxes[:, 2:] > reach[:2]).all(1)]


def _overlaps(a: Float[np.ndarray, "A 4"], b: Float[np.ndarray, "B 4"]) -> Float[np.ndarray, "A B"]:
    """Areas that the boxes of ``a`` share with those of ``b``."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return (high - low).clip(min=0).prod(-1)
