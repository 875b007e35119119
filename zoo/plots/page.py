"""The one style of all pictures, and the page they stand on: a title, a legend, and below them the body.

Sizes are in inches throughout, since text has a size of its own and the page grows with what it must hold.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float

from zoo.lookup import InputError, lookup

# Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), which colour-blind readers tell apart, less
# black and yellow: the one is for text, the other is lost on white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, GREY, PALE = "#222222", "#666666", "#D5D5D5"

STYLE = {
    "figure.dpi": 150,
    "savefig.dpi": "figure",
    "svg.hashsalt": "zoo",  # The ids in an SVG are random otherwise.
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # A label's name may hold dollar signs.
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelcolor": GREY,
    "axes.edgecolor": PALE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#EBEBEB",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.borderpad": 0,
    "legend.borderaxespad": 0,
}
# DejaVu Sans ships with matplotlib, so text is as wide on every machine. The others stand in, where they are
# installed, for the scripts that it lacks.
FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "Microsoft YaHei")
# The formats, and the metadata to leave out because it holds the time of day.
FORMATS: dict[str, dict[str, None]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
MARGIN = 0.15
DOT = 0.055  # The radius of a label's dot.
TITLE_SIZE, NOTE_SIZE = 12.0, 9.0

# matplotlib's classes, which cannot be named at run time without importing it.
Figure = Any
Axes = Any


def load(module: str) -> ModuleType:
    """Imports what only the plots need.

    Raises:
        InputError: it is not installed; says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0].replace("sklearn", "scikit-learn")
        raise InputError(f"this plot needs {package}: pip install 'label-graph-zoo[train]'") from None


def same_length(what: str, given: Sized, number: int, of: str) -> None:
    """Raises an InputError unless ``given`` holds one entry for each of ``number`` things."""
    if len(given) != number:
        raise InputError(f"{what} has {len(given)} entries for {number} {of}")


@contextmanager
def new_figure(path: str | Path) -> Iterator[Figure]:
    """A figure in the house style, written to the path when the block ends.

    Raises:
        InputError: the suffix of the path is no format that is written, or matplotlib is missing.
    """
    path = Path(path)
    metadata = lookup("picture format", path.suffix.lower(), FORMATS)
    matplotlib, figures = load("matplotlib"), load("matplotlib.figure")
    agg, fonts = load("matplotlib.backends.backend_agg"), load("matplotlib.font_manager")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # A user's own style sheet must not leak in.
        installed = set(fonts.fontManager.get_font_names())
        matplotlib.rcParams.update(STYLE | {"font.family": [font for font in FONTS if font in installed]})
        figure = figures.Figure()
        agg.FigureCanvasAgg(figure)  # Measures text, whatever the format.
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata=metadata)


def ruler(figure: Figure, size: float = 10) -> Callable[[str], float]:
    """A function that measures the width, in inches, of a line of text in this font size (points)."""
    renderer = figure.canvas.get_renderer()
    font = load("matplotlib.font_manager").FontProperties(size=size)
    return lambda text: renderer.get_text_width_height_descent(text, font, False)[0] / figure.dpi


def line_height(size: float) -> float:
    """Inches from one line of text to the next, in this font size (points)."""
    return size * 1.25 / 72


def wrap(text: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """Breaks a text into lines: after spaces and punctuation, within a word only if it is wider than a line.

    Args:
        text: what to break; nothing of it but spaces at the breaks is lost.
        width: the widest a line may be.
        measure: the width of a string, such as ``len`` or a :func:`ruler`.

    Returns:
        At least one line.
    """
    text = " ".join(text.split())
    if measure(text) <= width:
        return [text]
    lines = [""]
    for word in re.findall(r"[^\s:,/-]*[\s:,/-]*", text):
        for piece in [word] if measure(word.rstrip()) <= width else word:
            if lines[-1] and measure((lines[-1] + piece).rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    return [line.strip() for line in lines if line.strip()]


def add_head(
    figure: Figure,
    width: float,
    body: float,
    title: str,
    note: str = "",
    legend: Sequence[tuple[str, str, str]] = (),
) -> float:
    """Sizes the page to hold a body of (width, body) inches below title, note and legend, and writes these.

    Args:
        figure: the empty figure.
        width: of the page.
        body: the height that the body needs.
        title: broken into lines as needed.
        note: how to read the picture, in small print.
        legend: (text, colour, marker) of each entry; without markers, the texts have the colours.

    Returns:
        The share of the page's height, from the bottom, that is the body's.
    """
    texts = [(title, TITLE_SIZE, INK), (note, NOTE_SIZE, GREY)]
    wrapped = [wrap(text, width - 2 * MARGIN, ruler(figure, size)) if text else [] for text, size, _ in texts]
    heights = [
        len(lines) * line_height(size) + (0.05 if lines else 0)
        for lines, (_, size, _) in zip(wrapped, texts, strict=True)
    ]
    columns, rows = 1, 0
    if legend:
        widest = 0.4 + max(ruler(figure)(text) for text, _, _ in legend)
        columns = max(1, min(len(legend), int((width - 2 * MARGIN) / widest)))
        rows = -(-len(legend) // columns)
    height = body + MARGIN + sum(heights) + 0.22 * rows + 0.1
    figure.set_size_inches(width, height)
    top = height - MARGIN
    for lines, (_, size, colour), taken in zip(wrapped, texts, heights, strict=True):
        figure.text(MARGIN / width, top / height, "\n".join(lines), size=size, color=colour, va="top")
        top -= taken
    if legend:
        line = load("matplotlib.lines").Line2D
        handles = [
            line([], [], color=c, marker=marker, markersize=6, linestyle="") for _, c, marker in legend
        ]
        marked = any(marker for *_, marker in legend)
        figure.legend(
            handles,
            [text for text, _, _ in legend],
            loc="upper left",
            bbox_to_anchor=(MARGIN / width, (top - 0.04) / height),
            ncols=columns,
            handlelength=1 if marked else 0,
            handletextpad=0.4 if marked else 0,
            labelcolor=INK if marked else [colour for _, colour, _ in legend],
            columnspacing=1.2,
            labelspacing=0.3,
        )
    return body / height


def add_panels(
    figure: Figure,
    width: float,
    body: float,
    title: str,
    note: str = "",
    legend: Sequence[tuple[str, str, str]] = (),
    panels: int = 1,
    sharex: bool = False,
) -> list[Axes]:
    """A page of axes side by side, with room made for whatever stands around them (see :func:`add_head`)."""
    share = add_head(figure, width, body, title, note, legend)
    figure.set_layout_engine("constrained", rect=(0, 0, 1, share), w_pad=0.08, h_pad=0.06)
    return list(figure.subplots(1, panels, squeeze=False, sharex=sharex)[0])


def add_canvas(
    figure: Figure,
    width: float,
    body: float,
    title: str,
    note: str = "",
    legend: Sequence[tuple[str, str, str]] = (),
) -> Axes:
    """A page whose body is one sheet without axes, its coordinates in inches, y upward (see :func:`add_head`)."""
    axes = figure.add_axes((0, 0, 1, add_head(figure, width, body, title, note, legend)))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(0, body))
    return axes


def fit(points: Float[np.ndarray, "N 2"], box: tuple[float, float, float, float]) -> Float[np.ndarray, "N 2"]:
    """Stretches points to fill a box (left, bottom, width, height); where they do not differ they are centred."""
    low, extent = points.min(0), np.ptp(points, axis=0)
    relative = np.where(extent > 1e-9, (points - low) / np.maximum(extent, 1e-9), 0.5)
    return np.array(box[:2]) + relative * np.array(box[2:])
