"""Charts of numbers: a comparison of models, AP label by label, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Real
from torch import Tensor

from zoo.lookup import InputError, lookup, unknown
from zoo.plots.page import GREY, MARKERS, PALE, PALETTE, add_panels, new_figure, ruler, same_length, wrap

KINDS = {"baseline": GREY, "graph": PALETTE[0], "control": PALETTE[1]}
SORTS = ("positives", "AP")


def plot_comparison(
    rows: Sequence[Mapping[str, Any]], path: str | Path, *, metric: str = "mAP", title: str | None = None
) -> Path:
    """Models, best on top: mean, 95 % interval and every seed, with a line at the best baseline.

    Args:
        rows: one mapping a model: ``name``; ``mean``; ``half_width`` of its interval (NaN where there is none,
            as with one seed); ``values``, one a seed; ``kind``: baseline, graph or control.
        path: the file to write.
        metric: what the values are.
        title: in place of one that names the metric and the number of seeds.

    Raises:
        InputError: there is no row, a row lacks a key or is of an unknown kind, the suffix is no known format.
    """
    if not rows:
        raise InputError("a comparison needs at least one row")
    for row in rows:
        if missing := {"name", "mean", "half_width", "values", "kind"} - row.keys():
            raise InputError(f"row {row.get('name')!r} of the comparison lacks {', '.join(sorted(missing))}")
        lookup("kind", row["kind"], KINDS)
    # Worst first, since y points up; a mean that is not a number is worse than any.
    rows = sorted(rows, key=lambda row: row["mean"] if np.isfinite(row["mean"]) else -np.inf)
    fewest, most = (extreme(len(row["values"]) for row in rows) for extreme in (min, max))
    number = f"{most}" if fewest == most else f"{fewest} to {most}"
    of_seeds = "one seed" if most == 1 else f"mean of {number} seeds"
    baselines = [row["mean"] for row in rows if row["kind"] == "baseline" and np.isfinite(row["mean"])]
    has_intervals = any(np.isfinite(row["half_width"]) for row in rows)

    with new_figure(path) as figure:
        names = [wrap(str(row["name"]), 56.0, len) for row in rows]
        widest = max(ruler(figure)(line) for lines in names for line in lines)
        (axes,) = add_panels(
            figure,
            6.8 + widest,
            0.7 + len(rows) * max(0.36, *(0.2 * len(lines) for lines in names)),
            title or f"Test {metric}, {of_seeds}" + " with 95 % interval" * has_intervals,
            "Small dots: seeds. " * (most > 1) + "Dashed: the best baseline." * bool(baselines),
            [(kind, colour, "o") for kind, colour in KINDS.items() if kind in {row["kind"] for row in rows}],
        )
        for y, row in enumerate(rows):
            mean, half_width, colour = row["mean"], row["half_width"], KINDS[row["kind"]]
            runs = len(row["values"])
            if runs > 1:
                axes.scatter(row["values"], [y - 0.27] * runs, s=11, color=colour, alpha=0.6, linewidths=0)
            if np.isfinite(half_width):
                ends = [mean - half_width, mean + half_width]
                axes.plot(ends, [y, y], color=colour, linewidth=2.2, solid_capstyle="round")
            axes.scatter([mean], [y], s=46, color=colour, zorder=3)
            value = f"{mean:.3f}" if np.isfinite(mean) else "no value"
            value += f" ± {half_width:.3f}" if np.isfinite(half_width) else ""
            axes.text(1.02, y, value, transform=axes.get_yaxis_transform(), va="center_baseline", color=GREY)
        if baselines:
            axes.axvline(max(baselines), color=GREY, linestyle=(0, (4, 3)), linewidth=1.1, zorder=0.9)
        axes.set_yticks(range(len(rows)), ["\n".join(lines) for lines in names])
        axes.set_ylim(-0.65, len(rows) - 0.5)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.05)
        axes.set_xlabel(f"test {metric}")
    return Path(path)


def plot_per_label(
    label_names: Sequence[str],
    ap_by_model: Mapping[str, Real[np.ndarray | Tensor, " L"]],
    positives: Real[np.ndarray | Tensor, " L"],
    path: str | Path,
    *,
    sort: str = "positives",
) -> Path:
    """Average precision label by label, a dot for each model; the number of positives beside the label's name.

    Args:
        label_names: L names.
        ap_by_model: for each model (six at most) its AP of every label; NaN draws no dot.
        positives: test images of every label.
        path: the file to write.
        sort: ``positives``, or ``AP`` of the first model; the largest is on top.

    Raises:
        InputError: the lengths differ, there is no model or more than six, or ``sort`` is neither of the two.
    """
    if sort not in SORTS:
        raise unknown("order of labels", sort, SORTS)
    if not 1 <= len(ap_by_model) <= len(PALETTE):
        raise InputError(f"{len(ap_by_model)} models in one per-label plot; give 1 to {len(PALETTE)} of them")
    same_length("positives", positives, len(label_names), "labels")
    for name, values in ap_by_model.items():
        same_length(f"AP of {name!r}", values, len(label_names), "labels")
    numbers = np.asarray(positives).astype(np.int64)
    scores = np.array([np.asarray(values, dtype=float) for values in ap_by_model.values()])  # (models, L)
    keys = numbers if sort == "positives" else np.nan_to_num(scores[0], nan=-1.0)
    order = np.argsort(-keys, kind="stable")
    panels = 1 + (len(order) > 60) + (len(order) > 120)
    rows = -(-len(order) // panels)

    with new_figure(path) as figure:
        # Figure spaces are as wide as digits: they make a column of the numbers.
        digits = len(str(numbers.max(initial=0)))
        columns = [str(n).rjust(digits, "\u2007") for n in numbers]
        names = ["\n".join(wrap(n, 40.0, len)) + f"  {c}" for n, c in zip(label_names, columns, strict=True)]
        widest = max((ruler(figure)(line) for name in names for line in name.split("\n")), default=0.0)
        all_axes = add_panels(
            figure,
            panels * (widest + {1: 5.5, 2: 3.6, 3: 2.8}[panels]),
            0.75 + 0.21 * rows,
            "Test AP of each label",
            "Beside each label: its number of positives.",
            [(name, PALETTE[k], MARKERS[k]) for k, name in enumerate(ap_by_model)],
            panels,
            sharex=True,
        )
        for panel, axes in enumerate(all_axes):
            shown = order[panel * rows : (panel + 1) * rows]
            y = np.arange(len(shown))
            for row, label in enumerate(shown):
                present = scores[np.isfinite(scores[:, label]), label]
                if len(present):
                    axes.plot([present.min(), present.max()], [row, row], color=PALE, linewidth=1.5, zorder=1)
            for k, values in enumerate(scores):
                # The first model, drawn last, stays on top.
                axes.scatter(
                    values[shown], y, s=24, color=PALETTE[k], marker=MARKERS[k], zorder=9 - k, linewidths=0
                )
            axes.set_yticks(y, [names[label] for label in shown], fontsize=9)
            axes.set_ylim(rows - 0.4, -0.6)
            axes.set_xlabel("test AP")
    return Path(path)


def plot_curves(history: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Training curves: loss of both splits on the left, validation mAP with its best epoch on the right.

    Args:
        history: one mapping an epoch: ``epoch``, ``train_loss``, ``val_loss``, ``val_mAP``. A value that is
            missing, None or NaN leaves a gap.
        path: the file to write.

    Raises:
        InputError: there is no epoch, or one without its number.
    """
    if not history or any("epoch" not in row for row in history):
        raise InputError("training curves need at least one epoch, and its number under 'epoch' in every row")
    epochs = [row["epoch"] for row in history]
    curves = {
        key: np.array([np.nan if row.get(key) is None else row[key] for row in history], dtype=float)
        for key in ("train_loss", "val_loss", "val_mAP")
    }
    styles = {key: (PALETTE[k], MARKERS[k]) for k, key in enumerate(curves)}
    with new_figure(path) as figure:
        legend = [(key.replace("_", " "), *styles[key]) for key in curves]
        left, right = add_panels(figure, 9.0, 3.4, "Training, epoch by epoch", legend=legend, panels=2)
        for key, values in curves.items():
            axes = right if key == "val_mAP" else left
            colour, marker = styles[key]
            axes.plot(epochs, values, color=colour, marker=marker, markersize=4, linewidth=1.6)
        left.set(xlabel="epoch", ylabel="loss")
        right.set(xlabel="epoch", ylabel="val mAP")
        for axes in (left, right):
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.margins(y=0.12)
        if np.isfinite(curves["val_mAP"]).any():
            best = int(np.nanargmax(curves["val_mAP"]))
            value = curves["val_mAP"][best]
            right.set_title(f"best {value:.3f} at epoch {epochs[best]}", color=GREY)
            right.scatter([epochs[best]], [value], s=90, facecolors="none", edgecolors=GREY, zorder=3)
    return Path(path)


def plot_learning(rows: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Learning curves of several runs: training loss on the left, validation mAP on the right.

    Args:
        rows: one mapping an epoch and run: ``entry``, ``seed``, ``epoch``, ``train_loss``, ``val_mAP``. Runs of one
            entry share its colour.
        path: the file to write.

    Raises:
        InputError: there are no rows.
    """
    if not rows:
        raise InputError("learning curves need at least one epoch of one run")
    entries = list(dict.fromkeys(row["entry"] for row in rows))
    styles = {
        entry: (PALETTE[k % len(PALETTE)], MARKERS[k % len(MARKERS)]) for k, entry in enumerate(entries)
    }
    with new_figure(path) as figure:
        legend = [(entry, *styles[entry]) for entry in entries]
        left, right = add_panels(figure, 9.0, 3.6, "Fine-tuning, epoch by epoch", legend=legend, panels=2)
        for entry, seed in dict.fromkeys((row["entry"], row["seed"]) for row in rows):
            run = [row for row in rows if (row["entry"], row["seed"]) == (entry, seed)]
            colour, marker = styles[entry]
            for axes, key in ((left, "train_loss"), (right, "val_mAP")):
                epochs, values = [row["epoch"] for row in run], [row[key] for row in run]
                axes.plot(epochs, values, color=colour, marker=marker, markersize=4, linewidth=1.4, alpha=0.8)
        left.set(xlabel="epoch", ylabel="training loss")
        right.set(xlabel="epoch", ylabel="val mAP")
        for axes in (left, right):
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.margins(y=0.12)
    return Path(path)
