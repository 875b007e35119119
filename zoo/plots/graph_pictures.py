"""All pictures of a label graph and its counts in one folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from torch_geometric.data import Data

from zoo.counts import LabelCounts
from zoo.plots.communities import label_communities, link_strength, name_communities, strongest_labels
from zoo.plots.embedding_map import plot_embeddings
from zoo.plots.graph_map import plot_label_graph
from zoo.plots.graph_page import plot_label_graph_page
from zoo.plots.heat_map import plot_cooccurrence

NAMED = 500  # Labels whose names all find room on a page of two feet.
ON_A_PAGE = 2000  # Labels that are laid out in a few seconds, and that any browser moves about smoothly.
IN_A_HEAT_MAP = 1000  # With more, a label is less than two pixels.


def write_graph_pictures(graph: Data, counts: LabelCounts, folder: str | Path) -> list[str]:
    """Writes ``label_graph.png``, ``label_graph.html``, ``cooccurrence.png`` and ``embeddings.png``.

    Of large graphs each shows the most linked labels, the co-occurrence the most frequent ones. The colours of the
    embeddings, and the order of the co-occurrence, are the communities of the whole graph.

    Args:
        graph: with label vectors, or without: then there is no ``embeddings.png``.
        counts: of the graph's labels.
        folder: where they go.

    Returns:
        For each picture a line that says where it is, and what of the graph it shows.

    Raises:
        InputError: the counts are of other labels, or a library for plots is missing.
    """
    from rich.console import Console
    from rich.progress import track

    folder, total = Path(folder), len(graph.label_names)
    community = label_communities(graph)
    labels, ends, weights = strongest_labels(graph, NAMED)
    groups = name_communities(
        [graph.label_names[label] for label in labels],
        community[labels],
        link_strength(len(labels), ends, weights),
    )

    def draw_embeddings(path: Path) -> Path:
        names = [graph.label_names[label] for label in labels]
        title = f"Label embeddings, t-SNE, of the {len(labels)} most linked of {total:,} labels"
        return plot_embeddings(
            graph.x[labels], names, path, groups=groups, title=title if len(labels) < total else None
        )

    pictures: list[tuple[str, str, int, Callable[[Path], Path]]] = [
        (
            "Label graph",
            "label_graph.png",
            NAMED,
            lambda path: plot_label_graph(graph, path, counts=counts.counts, max_labels=NAMED),
        ),
        (
            "Label graph to explore",
            "label_graph.html",
            ON_A_PAGE,
            lambda path: plot_label_graph_page(graph, path, counts=counts, max_labels=ON_A_PAGE),
        ),
        (
            "Co-occurrence",
            "cooccurrence.png",
            IN_A_HEAT_MAP,
            lambda path: plot_cooccurrence(counts, path, communities=community, max_labels=IN_A_HEAT_MAP),
        ),
    ]
    if graph.get("x") is not None:
        pictures.append(("Label embeddings", "embeddings.png", NAMED, draw_embeddings))
    lines = []
    shown = track(
        pictures,
        "drawing",
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    for what, name, most, draw in shown:
        which = "frequent" if name == "cooccurrence.png" else "linked"
        part = f"   (the {most:,} most {which} of {total:,} labels)" if total > most else ""
        lines.append(f"{what}: {draw(folder / name)}{part}")
    if graph.get("x") is None:
        lines.append("Label embeddings: no picture, the graph has no label vectors")
    return lines
