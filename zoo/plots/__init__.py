"""The pictures: comparisons, per-label AP, training curves, contact sheets, attention; label graphs and embeddings.

Every function takes plain data and a path, writes .png, .svg or .pdf by the path's suffix (the label graph's page:
.html), and returns the path.
The same input gives the same file: nothing depends on the clock, on global random state or on a user's style.
"""

from __future__ import annotations

from zoo.plots.attention import plot_attention
from zoo.plots.charts import plot_comparison, plot_curves, plot_learning, plot_per_label
from zoo.plots.contact_sheet import plot_contact_sheet
from zoo.plots.embedding_map import plot_embeddings
from zoo.plots.graph_map import plot_label_graph
from zoo.plots.graph_page import plot_label_graph_page
from zoo.plots.heat_map import plot_cooccurrence

__all__ = [
    "plot_attention",
    "plot_comparison",
    "plot_contact_sheet",
    "plot_cooccurrence",
    "plot_curves",
    "plot_embeddings",
    "plot_label_graph",
    "plot_label_graph_page",
    "plot_learning",
    "plot_per_label",
]
