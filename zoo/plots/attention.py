"""Where a model looks for each label: its attention over the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from zoo.data.images import read_image, to_rgb
from zoo.lookup import InputError
from zoo.plots.page import (
    INK,
    MARGIN,
    add_canvas,
    line_height,
    load,
    new_figure,
    ruler,
    same_length,
    wrap,
)

SIDE = 2.2  # Of the square that a picture fits in, in inches.
GAP = 0.18
PIXELS = 500  # Of a picture's longer side.
TEXT_SIZE = 9.0
COLOURS = "inferno"  # Ever brighter, so that it reads in grey too.

Colormap = Any  # matplotlib's, which cannot be named at run time without importing it


def plot_attention(
    image: str | Path | Image.Image,
    maps: Float[np.ndarray | Tensor, "L h w"],
    label_names: Sequence[str],
    path: str | Path,
    *,
    scores: Sequence[float] | None = None,
    columns: int = 4,
) -> Path:
    """A picture, and beside it the same picture once a label, lit where the label's attention lies.

    A map is enlarged to the whole picture, and its highest value is brightest, however far its attention spreads.

    Args:
        image: a file, or the picture itself.
        maps: not negative: of one image what the ``attention_maps`` of a head give, such as
            ``head.attention_maps(backbone(images))[0]``, of the labels to show.
        label_names: of these labels.
        path: the file to write.
        scores: of these labels, written beside their names.
        columns: pictures in a row, at most.

    Raises:
        InputError: the lengths differ, there is no map, one is negative or not finite, the image cannot be read, or
            ``columns`` is below 1.
    """
    values = np.asarray(maps.numpy(force=True) if isinstance(maps, Tensor) else maps, dtype=np.float32)
    if not values.size or columns < 1:
        raise InputError(f"attention needs maps and columns; got {len(values)} and {columns}")
    same_length("label_names", label_names, len(values), "maps")
    if scores is not None:
        same_length("scores", scores, len(values), "maps")
    for name, value in zip(label_names, values, strict=True):
        if not np.isfinite(value).all() or value.min() < 0:
            raise InputError(f"the attention map of {name!r} must be finite and not negative")
    picture = to_rgb(image) if isinstance(image, Image.Image) else read_image(image)
    picture.thumbnail((PIXELS, PIXELS), Image.Resampling.LANCZOS)
    width, height = np.array(picture.size) * SIDE / max(picture.size)

    with new_figure(path) as figure:
        measure, colours = ruler(figure, TEXT_SIZE), load("matplotlib").colormaps[COLOURS]
        titles = [name if scores is None else f"{name} {scores[k]:.2f}" for k, name in enumerate(label_names)]
        captions = [wrap(title, width, measure) for title in ("image", *titles)]
        pictures = [np.asarray(picture), *(_lit(picture, value, colours) for value in values)]
        columns = min(columns, len(pictures))
        rows = [
            range(start, min(start + columns, len(pictures))) for start in range(0, len(pictures), columns)
        ]
        step = line_height(TEXT_SIZE)
        above = [0.06 + step * max(len(captions[k]) for k in row) for row in rows]
        page, body = columns * (width + GAP) + 2 * MARGIN - GAP, sum(above) + len(rows) * (height + GAP)
        axes = add_canvas(figure, page, body, "Attention", "Brightest where a label looks most.")
        top = body
        for row, room in zip(rows, above, strict=True):
            floor = top - room - height
            for column, k in enumerate(row):
                left = MARGIN + column * (width + GAP)
                axes.imshow(pictures[k], extent=(left, left + width, floor, floor + height), aspect="auto")
                text = "\n".join(captions[k])
                axes.text(left, floor + height + 0.04, text, size=TEXT_SIZE, color=INK, va="bottom")
            top = floor - GAP
    return Path(path)


def _lit(picture: Image.Image, values: np.ndarray, colours: Colormap) -> np.ndarray:
    """The picture in dim grey under the colours of the map, which hide more of it the higher its values."""
    highest = values.max()
    small = Image.fromarray(values / highest if highest > 0 else values)
    strength = np.asarray(small.resize(picture.size, Image.Resampling.BICUBIC)).clip(0, 1)
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[..., None] / 255
    hidden = 0.6 * strength[..., None]  # What a label looks at must still be seen.
    return (1 - hidden) * 0.7 * grey + hidden * colours(strength)[..., :3]
