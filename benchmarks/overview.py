"""One picture of the whole grid: where a label graph helps, data set by data set, beside its controls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from table import Row

from zoo.plots.page import GREY, PALETTE, Axes, add_panels, new_figure

# Sections of the grid as people call them, from most to least that there is to learn from.
SECTIONS = {
    "overall": "all photos",
    "photos-tenth": "a tenth of the photos",
    "photos-100": "100 photos",
    "rare": "labels with 2 positives",
    "unseen": "labels never seen",
    "known": "half of the labels known",
    "known-100": "half known, 100 photos",
    "known-unseen": "half known, labels never seen",
}
EVERY = "graph.annotations=all"
KINDS = {
    "graph of the training photos": PALETTE[0],
    "graph of all annotations": PALETTE[2],
    "control: shuffled, identity or random vectors": PALETTE[1],
}


def kind_of(row: Row) -> str | None:
    """Which of ``KINDS`` an entry is; None: a baseline."""
    training, every, control = KINDS
    if row["kind"] == "baseline":
        return None
    if row["kind"] == "control":
        return control
    return every if EVERY in row["entry"] else training


def best_of_each_kind(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """Of each kind the entry that is best on validation."""
    best: dict[str, Row] = {}
    for row in rows:
        if (kind := kind_of(row)) is None or not row["gain_over_baseline"]:
            continue
        if kind not in best or float(row["val_mAP"]) > float(best[kind]["val_mAP"]):
            best[kind] = row
    return [(kind, best[kind]) for kind in KINDS if kind in best]


def shown(rows: Sequence[Row]) -> list[Row]:
    """Of the rows of ``accuracy.csv`` those of ``SECTIONS``, which the picture is drawn from."""
    return [row for row in rows if row["section"] in SECTIONS]


def plot_overview(rows: Sequence[Row], path: Path) -> Path:
    """What a label graph adds to the best baseline: a row for each question, a panel for each data set.

    Args:
        rows: of ``accuracy.csv``, as :func:`shown` leaves them.
        path: the picture to write.
    """
    data_sets = list(dict.fromkeys(row["data"] for row in rows))
    sections = [name for name in SECTIONS if any(row["section"] == name for row in rows)]
    with new_figure(path) as figure:
        panels = add_panels(
            figure,
            2.4 + 2.1 * len(data_sets),
            0.9 + 0.52 * len(sections),
            "What a label graph adds to the best model without one",
            "Test mAP beyond that of the better baseline, chosen on validation as is the model of each kind; right of "
            "the dashed line is better. Lines: 95 % intervals over seeds. Filled dots: unlikely to be chance (p < 0.05 "
            "over photos and seeds, corrected for all models of a row). Baselines cannot take known labels; where "
            "nothing was taken away, all annotations are those of the training photos.",
            [(kind, colour, "o") for kind, colour in KINDS.items()],
            panels=len(data_sets),
            sharex=True,
        )
        for axes, data in zip(panels, data_sets, strict=True):
            axes.set_title(data)
            axes.axvline(0, color=GREY, linestyle=(0, (4, 3)), linewidth=1.1, zorder=0.9)
            for y, section in enumerate(reversed(sections)):
                own = [row for row in rows if (row["data"], row["section"]) == (data, section)]
                for kind, row in best_of_each_kind(own):
                    _draw(axes, y + 0.22 - 0.22 * list(KINDS).index(kind), row, KINDS[kind])
            names = [SECTIONS[section] for section in reversed(sections)] if axes is panels[0] else []
            axes.set_yticks(range(len(sections)), names or [""] * len(sections))
            axes.set_ylim(-0.5, len(sections) - 0.5)
            axes.set_xlabel("gain in test mAP")
    return path


def _draw(axes: Axes, y: float, row: Row, colour: str) -> None:
    gain, half_width = float(row["gain_over_baseline"]), float(row["gain_half_width"] or "nan")
    filled = bool(row["gain_holm"]) and float(row["gain_holm"]) < 0.05
    axes.errorbar(
        [gain],
        [y],
        xerr=[half_width],
        color=colour,
        marker="o",
        markersize=5,
        markerfacecolor=colour if filled else "white",
        linewidth=1.6,
    )
