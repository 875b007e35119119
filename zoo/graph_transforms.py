"""Transforms of PyTorch Geometric on label graphs.

label graph --GDC, ToUndirected, AddSelfLoops, ...--> label graph, checked

Transforms leave graphs that are none of ours: with weights under another name, parallel edges, self-loops missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import Compose
from torch_geometric.utils import coalesce

from zoo.graph import check_graph
from zoo.lookup import InputError

WEIGHTS = ("edge_weight", "edge_attr")  # AddSelfLoops writes the one, GDC the other


def transform_graph(graph: Data, transform: Callable[[Data], Data]) -> Data:
    """The label graph that a transform makes of another one, which stays as it is.

    Weights go in as ``edge_weight`` and as ``edge_attr``, and come from the one that the transform wrote. Parallel
    edges become one with the sum of their weights, which is what a convolution would hear; AddSelfLoops therefore adds
    to the self-loops that are there. A self-loop that the transform removed comes back with weight 0, or with weight 1
    where the label would hear nothing at all. GDC normalises by itself: give it a graph of ``normalization="none"``.

    Args:
        graph: a label graph.
        transform: of :mod:`torch_geometric.transforms`, or any function of a ``Data`` with ``x``, ``edge_index``,
            ``edge_weight`` and ``edge_attr`` (M,). Negative weights are more than most transforms can take.

    Returns:
        A graph whose recipe has ``transform`` and, as ``transformed``, the recipe of the graph that it was made of.

    Raises:
        InputError: the transform changes which labels there are, or their order, adds what a label graph has no place
            for, or leaves edges without a finite weight each.
    """
    graph = check_graph(graph)
    steps = transform.transforms if isinstance(transform, Compose) else [transform]
    edge_index, edge_weight, x = graph.edge_index, graph.edge_weight, graph.x
    for step in steps:
        edge_index, edge_weight, x = _step(step, edge_index, edge_weight, x, list(graph.label_names))
    num_labels = len(graph.label_names)
    loops = torch.arange(num_labels, device=edge_index.device)
    missing = loops[~torch.isin(loops, edge_index[0, edge_index[0] == edge_index[1]])]
    edge_index, edge_weight = coalesce(
        torch.cat([edge_index, missing.repeat(2, 1)], dim=1),
        torch.cat([edge_weight, (~torch.isin(missing, edge_index[1])).to(edge_weight)]),
        num_nodes=num_labels,
    )
    kept = {
        key: graph.recipe[key] for key in ("embeddings", "num_images", "added_labels") if key in graph.recipe
    }
    return check_graph(
        Data(
            x=x,
            edge_index=edge_index,
            edge_weight=edge_weight,
            label_names=list(graph.label_names),
            recipe={"transform": _describe(transform), "transformed": graph.recipe, **kept},
            num_nodes=num_labels,
        )
    )


def _step(
    transform: Callable[[Data], Data],
    edge_index: Tensor,
    edge_weight: Tensor,
    x: Tensor | None,
    names: list[str],
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Edges, weights and vectors that one transform makes of these."""
    label = torch.arange(len(names), device=edge_index.device)
    given = Data(
        x=None if x is None else x.clone(),
        edge_index=edge_index.clone(),
        edge_weight=edge_weight.clone(),
        edge_attr=edge_weight.clone(),
        label=label.clone(),
        num_nodes=len(names),
    )
    made, called = transform(given), _describe(transform)
    if not isinstance(made, Data):
        raise InputError(f"{called} makes no Data of a label graph, but {type(made).__name__}")
    order = made.get("label", label)
    if made.num_nodes != len(names) or not torch.equal(order, label):
        lost = [names[i] for i in label[~torch.isin(label, order)].tolist()]
        what = f"removes {', '.join(map(repr, lost[:5]))}{', ...' if len(lost) > 5 else ''}" if lost else ""
        raise InputError(
            f"{called} {what or 'changes the labels or their order'}: a label graph keeps its {len(names)} labels"
        )
    if more := set(made.keys()) - {"x", "edge_index", "label", "num_nodes", *WEIGHTS}:
        raise InputError(f"{called} adds {', '.join(sorted(more))}, for which a label graph has no place")
    written = [
        made[key] for key in WEIGHTS if made.get(key) is not None and not torch.equal(made[key], edge_weight)
    ]
    weights = written[0] if written else edge_weight
    if any(not torch.equal(weights, other) for other in written[1:]):
        raise InputError(f"{called} writes edge_weight and edge_attr, and not the same")
    if weights.shape != made.edge_index.shape[1:]:
        raise InputError(
            f"{called} leaves {made.edge_index.size(1)} edges with weights {tuple(weights.shape)}, not one each"
        )
    return made.edge_index, weights.to(edge_weight), made.get("x")


def _describe(transform: Any) -> str:
    """A transform and its options: PyG's own repr leaves them out."""
    if isinstance(transform, Compose):
        return " then ".join(map(_describe, transform.transforms))
    if hasattr(transform, "__name__"):
        return transform.__name__  # a function's repr is another one in every run
    options = ", ".join(f"{key}={value!r}" for key, value in vars(transform).items())
    return f"{type(transform).__name__}({options})"
