"""What the tests of pictures share: names that are hard to draw, and what can be seen of a drawn page."""

from __future__ import annotations

import warnings
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch_geometric.data import Data

LONG = "mlgcn-tf_efficientnet_lite0:conv=GATv2Conv:graph=shuffled:widths=[1024,2048]:" + "x" * 120
ODD_NAMES = [
    "$5 bill$",
    "_underscore",
    "naïve café",
    "Ωμέγα",
    "кот",
    "100 %",
    "a\\b{c}",
    "two\nlines",
    LONG,
    "x",
]


@pytest.fixture(autouse=True)
def _no_warnings():
    """A glyph that no font has, or a layout that does not fit, is a warning of matplotlib's."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module=r"matplotlib|zoo\.plots")
        warnings.filterwarnings("error", message=".*(Glyph|constrained_layout|tight_layout).*")
        yield


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were written, to look at their texts."""
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig

    def remember(self, *args, **kwargs):
        save(self, *args, **kwargs)
        figures.append(self)

    monkeypatch.setattr(Figure, "savefig", remember)
    return figures


def texts(figure):
    """Every visible text of a figure with its extent in pixels."""
    from matplotlib.text import Text

    renderer = figure.canvas.get_renderer()
    found = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in found]


def overlapping(boxes, slack=0.5):
    """Pairs of texts that share more than ``slack`` pixels in both directions."""
    return [
        (a, b)
        for (a, p), (b, q) in combinations(boxes, 2)
        if min(p.x1, q.x1) - max(p.x0, q.x0) > slack and min(p.y1, q.y1) - max(p.y0, q.y0) > slack
    ]


def outside(figure):
    width, height = figure.get_size_inches() * figure.dpi
    return [
        t
        for t, box in texts(figure)
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]


def is_picture(path: Path, smallest: int = 100, largest: int = 6000) -> bool:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert len(set(image.convert("L").get_flattened_data())) > 5  # Not blank.
        return all(smallest < side < largest for side in image.size)


def label_graph(num_labels: int, degree: float, names=None, seed=0) -> Data:
    """Edges by chance, ``degree`` to a label on average, and the self-loops."""
    generator = np.random.default_rng(seed)
    dense = generator.random((num_labels, num_labels))
    dense[generator.random(dense.shape) >= degree / num_labels] = 0
    np.fill_diagonal(dense, 1)
    edges = np.stack(np.nonzero(dense))
    return Data(
        edge_index=torch.from_numpy(edges),
        edge_weight=torch.from_numpy(dense[tuple(edges)]).float(),
        label_names=names or [f"label {k} of many" for k in range(num_labels)],
        num_nodes=num_labels,
    )
