"""The label graph as a page to explore: one HTML file, its script and data inside, that needs no network."""

from __future__ import annotations

import html
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch_geometric.data import Data

from zoo.counts import LabelCounts
from zoo.lookup import InputError, unknown
from zoo.plots.communities import find_communities, network_of, strongest_edges, strongest_labels
from zoo.plots.graph_map import dot_radii
from zoo.plots.layout import Sheet, arrange

SUFFIXES = (".html",)


def plot_label_graph_page(
    graph: Data,
    path: str | Path,
    *,
    counts: LabelCounts | None = None,
    title: str = "Label graph",
    max_labels: int = 3000,
    edges_per_label: int = 12,
) -> Path:
    """Writes a label graph as an interactive page: pan, zoom, search, a threshold, and every label's neighbours.

    Labels stand where :func:`zoo.plots.plot_label_graph` puts them, coloured by community. The page is one file, which
    any browser opens from the disk.

    Args:
        graph: ``edge_index`` (2, M), ``edge_weight`` (M,), ``label_names``.
        path: the .html file to write.
        counts: of the graph's labels; they give the sizes of the dots, and P(target | source) and the number of images
            with both labels to every edge.
        title: of the page.
        max_labels: of a larger graph only the labels with the most edges are shown.
        edges_per_label: an edge is shown if it is among so many of the strongest that a label sends or receives.

    Raises:
        InputError: the counts are of other labels, ``max_labels`` or ``edges_per_label`` is below 1, or the path does
            not end in .html.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise unknown("page format", path.suffix.lower(), SUFFIXES)
    for option, value in (("max_labels", max_labels), ("edges_per_label", edges_per_label)):
        if value < 1:
            raise InputError(f"{option} must be 1 or more, got {value}")
    if counts is not None and list(counts.label_names) != list(graph.label_names):
        raise InputError("the counts are of other labels than the graph's, or in another order")
    page = resources.files("zoo.plots").joinpath("graph_page.html").read_text(encoding="utf-8")
    page = page.replace("{{title}}", html.escape(title))
    # The data go in last: a label may be named "{{title}}".
    page = page.replace("{{data}}", _script_json(_page_data(graph, counts, max_labels, edges_per_label)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _script_json(data: dict[str, Any]) -> str:
    """JSON that a script element may hold: no tag can begin in it, whatever labels are called."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # All but ASCII is escaped.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _page_data(
    graph: Data, counts: LabelCounts | None, max_labels: int, edges_per_label: int
) -> dict[str, Any]:
    """What the page shows: columns of labels and of edges, these strongest first."""
    labels, ends, weights = strongest_labels(graph, max_labels)
    network = network_of(len(labels), ends, weights)
    community = find_communities(network)
    shown = strongest_edges(len(labels), ends, edges_per_label)
    names = [graph.label_names[label] for label in labels]
    # About as wide as in print; a browser measures its own font.
    sizes = np.array([[0.08 * min(len(name), 25) + 0.05, 0.18] for name in names])
    images = None if counts is None else counts.counts[labels]
    radii = dot_radii(len(labels), None if images is None else images.astype(float))
    sheet = arrange(network, community, sizes, radii)
    source, target = labels[ends[shown]].T
    return {
        "num_labels": len(graph.label_names),
        "num_edges": len(weights),
        "num_images": None if counts is None else counts.num_images,
        "width": round(sheet.width, 2),
        "height": round(sheet.height, 2),
        "boxes": _boxes(sheet),
        "labels": {
            "name": names,
            "x": sheet.points[:, 0].round(3).tolist(),
            "y": (sheet.height - sheet.points[:, 1]).round(3).tolist(),  # Down the screen.
            "community": community.tolist(),
            "radius": radii.round(3).tolist(),
            "images": None if images is None else images.tolist(),
        },
        "edges": {
            "source": ends[shown, 0].tolist(),
            "target": ends[shown, 1].tolist(),
            "weight": [float(f"{weight:.4g}") for weight in weights[shown]],
            **({} if counts is None else _of_counts(counts, source, target)),
        },
    }


def _boxes(sheet: Sheet) -> list[list[float | int]]:
    """Left, top, width, height and community, downward."""
    return [
        [round(left, 2), round(sheet.height - bottom - height, 2), round(width, 2), round(height, 2), number]
        for (left, bottom, width, height), number in sheet.boxes
    ]


def _of_counts(
    counts: LabelCounts, source: Int[np.ndarray, " D"], target: Int[np.ndarray, " D"]
) -> dict[str, list[Any]]:
    """P(target | source) of every edge, and the number of images that have both; 0 where they never met."""
    probability: Float[np.ndarray, " D"]
    if not len(source):
        return {"probability": [], "images": []}
    probability = np.asarray(counts.p_column_given_row()[source, target]).ravel()
    images = np.asarray(counts.cooccurrence[source, target]).ravel()
    return {"probability": probability.round(4).tolist(), "images": images.tolist()}
