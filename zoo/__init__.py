"""A model zoo for multi-label image recognition in which the labels form a graph.

Nothing is imported before it is asked for, so that ``import zoo`` and ``zoo --help`` answer at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zoo._version import __version__

if TYPE_CHECKING:
    from zoo.comparison import compare
    from zoo.conv_check import check_conv
    from zoo.convs import list_convs
    from zoo.counts import count_labels, label_pairs
    from zoo.data import open_dataset
    from zoo.graph import label_graph
    from zoo.graph_files import load_graph, save_graph
    from zoo.graph_transforms import transform_graph
    from zoo.heads import list_heads
    from zoo.label_spaces import label_counts, label_space, list_label_spaces
    from zoo.lookup import InputError
    from zoo.model import MultiLabelClassifier, build, list_models
    from zoo.published_weights import load_published
    from zoo.saved_model import load

_HOME = {
    "InputError": "lookup",
    "MultiLabelClassifier": "model",
    "build": "model",
    "check_conv": "conv_check",
    "compare": "comparison",
    "count_labels": "counts",
    "label_counts": "label_spaces",
    "label_graph": "graph",
    "label_pairs": "counts",
    "label_space": "label_spaces",
    "list_convs": "convs",
    "list_heads": "heads",
    "list_label_spaces": "label_spaces",
    "list_models": "model",
    "load": "saved_model",
    "load_graph": "graph_files",
    "load_published": "published_weights",
    "open_dataset": "data",
    "save_graph": "graph_files",
    "transform_graph": "graph_transforms",
}

__all__ = [
    "InputError",
    "MultiLabelClassifier",
    "__version__",
    "build",
    "check_conv",
    "compare",
    "count_labels",
    "label_counts",
    "label_graph",
    "label_pairs",
    "label_space",
    "list_convs",
    "list_heads",
    "list_label_spaces",
    "list_models",
    "load",
    "load_graph",
    "load_published",
    "open_dataset",
    "save_graph",
    "transform_graph",
]


def __getattr__(name: str) -> Any:
    # `zoo.heads` after a bare `import zoo` works too: the rooms are part of the outside.
    if name in _HOME:
        return getattr(importlib.import_module(f"zoo.{_HOME[name]}"), name)
    if name in {
        "convs",
        "data",
        "embeddings",
        "graph",
        "heads",
        "label_spaces",
        "losses",
        "metrics",
        "model",
    }:
        return importlib.import_module(f"zoo.{name}")
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
