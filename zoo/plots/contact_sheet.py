"""A contact sheet: pictures with what a model says of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.data.images import read_image
from zoo.lookup import InputError
from zoo.plots.page import MARGIN, add_canvas, line_height, new_figure, ruler, same_length, wrap

# The mark of each verdict, and a colour dark enough for small print.
VERDICTS = {"right": ("✓", "#00704F"), "wrong": ("✗", "#B34700"), "missed": ("○", "#0065A0")}
TEXT_SIZE = 8.0
SIDE = 1.6  # Of the square that a picture fits in, in inches.
GAP = 0.18
PIXELS = 400  # Of a picture's longer side.


def plot_contact_sheet(
    images: Sequence[str | Path],
    true: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[tuple[str, float]]],
    path: str | Path,
    *,
    columns: int = 6,
) -> Path:
    """Pictures with their labels below: predicted and right, predicted and wrong, missed.

    Args:
        images: picture files.
        true: the labels of every picture.
        predicted: the labels that a model gives to every picture, with their scores, in the order to show.
        path: the file to write.
        columns: pictures in a row, at most.

    Raises:
        InputError: the lengths differ, there is no picture, one cannot be read, or ``columns`` is below 1.
    """
    if not images or columns < 1:
        raise InputError(f"a contact sheet needs pictures and columns; got {len(images)} and {columns}")
    same_length("true", true, len(images), "images")
    same_length("predicted", predicted, len(images), "images")
    columns = min(columns, len(images))
    with new_figure(path) as figure:
        measure = ruler(figure, TEXT_SIZE)
        captions = [
            [(line, colour) for text, colour in _verdicts(t, p) for line in wrap(text, SIDE, measure)]
            for t, p in zip(true, predicted, strict=True)
        ]
        pictures = [_thumbnail(image) for image in images]
        sizes = [np.array(picture.size) * SIDE / max(picture.size) for picture in pictures]
        rows = [range(start, min(start + columns, len(images))) for start in range(0, len(images), columns)]
        step = line_height(TEXT_SIZE)
        above = [max(sizes[k][1] for k in row) for row in rows]
        below = [0.08 + step * max(len(captions[k]) for k in row) + GAP for row in rows]
        width, body = columns * (SIDE + GAP) + 2 * MARGIN - GAP, sum(above) + sum(below)
        shown = f"{len(images)} images" if len(images) > 1 else "1 image"
        legend = [(f"{mark} {verdict}", colour, "") for verdict, (mark, colour) in VERDICTS.items()]
        axes = add_canvas(figure, width, body, f"{shown} with predicted labels and scores", legend=legend)
        floor = body
        for row, up, down in zip(rows, above, below, strict=True):
            floor -= up  # Pictures stand on their captions.
            for column, k in enumerate(row):
                left = MARGIN + column * (SIDE + GAP)
                extent = (left, left + sizes[k][0], floor, floor + sizes[k][1])
                axes.imshow(np.asarray(pictures[k]), extent=extent, aspect="auto")
                for n, (line, colour) in enumerate(captions[k]):
                    axes.text(left, floor - 0.05 - n * step, line, size=TEXT_SIZE, color=colour, va="top")
            floor -= down
        axes.set(xlim=(0, width), ylim=(0, body))  # imshow has moved them.
    return Path(path)


def _thumbnail(path: str | Path) -> Image.Image:
    image = read_image(path)
    image.thumbnail((PIXELS, PIXELS), Image.Resampling.LANCZOS)
    return image


def _verdicts(true: Sequence[str], predicted: Sequence[tuple[str, float]]) -> list[tuple[str, str]]:
    """(text, colour) of every label of one picture: the predicted ones, then the missed."""
    verdicts = [(name, f" {score:.2f}", "right" if name in true else "wrong") for name, score in predicted]
    found = {name for name, _ in predicted}
    verdicts += [(name, "", "missed") for name in true if name not in found]
    return [(f"{VERDICTS[v][0]} {name}{score}", VERDICTS[v][1]) for name, score, v in verdicts]
