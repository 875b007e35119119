"""A picture of the co-occurrence of labels: P(column | row) of every pair, communities side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from zoo.counts import LabelCounts
from zoo.lookup import InputError
from zoo.plots.communities import find_communities, network_of
from zoo.plots.page import (
    GREY,
    INK,
    MARGIN,
    Axes,
    add_canvas,
    line_height,
    load,
    new_figure,
    ruler,
    same_length,
)

TEXT_SIZE = 7.5
NAME_WIDTH = 1.9  # Longer names are cut.
BAR, BAR_LENGTH = 0.16, 2.0  # The colour bar, in inches.
TICKS = (0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
COLOURS = "GnBu"  # White is nothing.
THRESHOLD = 0.1  # On P, of the pairs that make communities: what is below it is mostly chance.


def plot_cooccurrence(
    counts: LabelCounts,
    path: str | Path,
    *,
    communities: Int[np.ndarray, " L"] | None = None,
    max_labels: int = 1000,
) -> Path:
    """Draws P(column | row), the share of the images with the row's label that have the column's, of every two labels.

    Labels of a community stand together, the largest community first; within one they come by the sum of what they
    have in common with its other labels, P(column | row) + P(row | column). Colours follow the square root of P, or
    most pairs would be white. Where not every label has room for its name, those with the most images have theirs.

    Args:
        counts: of the labels.
        path: the file to write.
        communities: the number of every label's community, -1 for none, such as those of a label graph
            (:func:`zoo.plots.communities.label_communities`); by default, those of P >= 0.1.
        max_labels: of more labels only those with the most images are shown. The title says so.

    Raises:
        InputError: the communities do not fit the labels, ``max_labels`` is below 1, or the suffix of the path is no
            known format.
    """
    total = len(counts.label_names)
    if communities is not None:
        same_length("communities", communities, total, "labels")
    if max_labels < 1:
        raise InputError(f"max_labels must be 1 or more, got {max_labels}")
    labels = np.sort(np.argsort(-counts.counts, kind="stable")[:max_labels])
    values = counts.p_column_given_row()[labels][:, labels].toarray()
    community = _communities(values) if communities is None else np.asarray(communities)[labels]
    order = community_order(values, community)
    labels, values, community = labels[order], values[order][:, order], community[order]
    np.fill_diagonal(values, np.nan)  # A label with itself is no pair.
    starts = np.flatnonzero(np.r_[True, np.diff(community) != 0])
    title = f"Co-occurrence of the {len(labels):,} most frequent of {total:,} labels"
    title = title if len(labels) < total else f"Co-occurrence of {total:,} label" + "s" * (total > 1)
    note = "Colour: P(column | row), of the images with the row's label the share that has the column's."

    with new_figure(path) as figure:
        measure = ruler(figure, TEXT_SIZE)
        names = [_cut(counts.label_names[label], measure) for label in labels]
        cell = float(np.clip(12 / len(labels), 0.012, 0.3))
        if len(labels) <= 120:
            cell = max(cell, line_height(TEXT_SIZE))  # Room for every name.
        side = cell * len(labels)
        named = _spaced(counts.counts[labels], cell, line_height(TEXT_SIZE))
        room = 0.12 + max(measure(names[k]) for k in named)
        width = max(MARGIN + room + side + 1.0, 5.0)
        body = max(side + room, BAR_LENGTH + 0.4) + MARGIN
        axes = add_canvas(figure, width, body, title, note + " Lines: communities." * (len(starts) > 1))
        left, top = MARGIN + room, body - room
        colours = load("matplotlib").colormaps[COLOURS].with_extremes(bad="#DDDDDD")
        norm = load("matplotlib.colors").PowerNorm(0.5, 0, 1)
        extent = (left, left + side, top - side, top)
        axes.imshow(values, extent=extent, cmap=colours, norm=norm, interpolation="nearest", aspect="auto")
        axes.set(xlim=(0, width), ylim=(0, body))  # Which the picture has set to its own.
        for start in [*starts, len(labels)]:
            at = start * cell
            axes.plot([left, left + side], [top - at] * 2, color=GREY, linewidth=0.6)
            axes.plot([left + at] * 2, [top - side, top], color=GREY, linewidth=0.6)
        for k in named:
            at = (k + 0.5) * cell
            axes.text(left - 0.06, top - at, names[k], size=TEXT_SIZE, ha="right", va="center_baseline")
            axes.text(left + at, top + 0.06, names[k], size=TEXT_SIZE, ha="center", va="bottom", rotation=90)
        _draw_bar(axes, left + side + 0.3, top, colours, norm)
    return Path(path)


def community_order(
    values: Float[np.ndarray, "L L"], community: Int[np.ndarray, " L"]
) -> Int[np.ndarray, " L"]:
    """The labels by community, in the order of their numbers and -1 last; within one by what they share with it."""
    same = community[:, None] == community
    together = np.where(same, values + values.T, 0).sum(1)
    last = np.where(community < 0, community.max(initial=0) + 1, community)
    return np.lexsort((-together.round(9), last))


def _communities(values: Float[np.ndarray, "L L"]) -> Int[np.ndarray, " L"]:
    """The communities of the pairs that are no chance."""
    ends = np.argwhere(values >= THRESHOLD)
    probability = values[tuple(ends.T)]
    order = np.argsort(-probability, kind="stable")
    return find_communities(network_of(len(values), ends[order], probability[order]))


def _cut(name: str, measure: Callable[[str], float]) -> str:
    """The name in one line, its end left out if it is too long."""
    name = " ".join(name.split())
    if measure(name) <= NAME_WIDTH:
        return name
    while measure(name + "...") > NAME_WIDTH:
        name = name[:-1]
    return name.rstrip() + "..."


def _spaced(counts: Int[np.ndarray, " L"], cell: float, height: float) -> list[int]:
    """The labels to name: those with the most images first, no two of them closer than a line's height."""
    named: list[int] = []
    for k in np.argsort(-counts, kind="stable").tolist():
        if all(abs(k - other) * cell >= height - 1e-9 for other in named):
            named.append(k)
    return sorted(named)


def _draw_bar(axes: Axes, left: float, top: float, colours: object, norm: object) -> None:
    """The colour bar: equal steps of colour from 0 at the bottom to 1."""
    steps = np.linspace(1, 0, 256)[:, None] ** 2  # The square of what the norm takes the root of.
    extent = (left, left + BAR, top - BAR_LENGTH, top)
    limits = axes.get_xlim(), axes.get_ylim()
    axes.imshow(steps, extent=extent, cmap=colours, norm=norm, aspect="auto")
    axes.set(xlim=limits[0], ylim=limits[1])
    for value in TICKS:
        at = top - BAR_LENGTH * (1 - value**0.5)
        axes.plot([left + BAR, left + BAR + 0.04], [at, at], color=GREY, linewidth=0.6)
        axes.text(left + BAR + 0.08, at, f"{value:g}", size=TEXT_SIZE, va="center_baseline", color=INK)
