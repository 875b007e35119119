"""Label graphs with more labels than they had.

    label graph (L) + names, vectors, edges into them (K) --> label graph (L+K), the first L labels as they were

A new label hears others, and is heard by none of those that were there: what these are computed from stays the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import coalesce

from zoo.counts import check_names
from zoo.embeddings import label_embeddings
from zoo.graph import NORMALIZATIONS, check_graph
from zoo.lookup import InputError, lookup

Edges: TypeAlias = Iterable[tuple[str, str, float]]  # source, target, weight
Vectors: TypeAlias = str | Path | Tensor | np.ndarray


def extended_graph(
    graph: Data,
    names: Sequence[str],
    edges: Edges = (),
    *,
    embeddings: Vectors = "glove",
    unknown_words: str = "error",
) -> Data:
    """The graph with new labels at its end; its own labels keep their vectors and all that they hear, to the bit.

    Args:
        graph: what its recipe says of edges and vectors decides how the new ones are made.
        names: of the K new labels.
        edges: what the new labels hear: (source, target, weight), the target a new label, the source any other.
            Where the recipe has a normalization, weights are shares of what a label hears, and scaled as
            :func:`zoo.graph.label_graph` does it; only the labels that were there keep the scale that they have,
            whatever they send to the new ones. Couplings, and the weights of a graph without a recipe, are taken as
            they are.
        embeddings: the vectors of the new labels, made as the graph's own were (a graph that has none needs none): as
            for :func:`zoo.graph.label_graph`, or an array (K, E).
        unknown_words: as for :func:`zoo.graph.label_graph`.

    Returns:
        A graph whose recipe lists the new labels under ``added_labels``. Self-loops of couplings, which are log-odds,
        are the mean of the others.

    Raises:
        InputError: names or edges that do not fit, vectors made in another way or of another length.
    """
    known, names = list(graph.label_names), _new_names(names, graph.label_names)
    edge_index, edge_weight = _incoming(graph, names, edges)
    x = graph.x
    if x is not None:
        x = torch.cat([x, _vectors(graph, names, embeddings, unknown_words).to(x)])
    return _graph(
        x,
        torch.cat([graph.edge_index, edge_index.to(graph.edge_index)], dim=1),
        torch.cat([graph.edge_weight, edge_weight.to(graph.edge_weight)]),
        known + names,
        {**graph.recipe, "added_labels": [*graph.recipe.get("added_labels", ()), *names]},
    )


def reordered_graph(graph: Data, first: Sequence[str]) -> Data:
    """The same graph with these labels first, and the others behind them in the order that they have.

    Raises:
        InputError: one of the first labels is not in the graph, or there are no others.
    """
    graph = check_graph(graph)
    column = {name: i for i, name in enumerate(graph.label_names)}
    if missing := [name for name in first if name not in column]:
        raise InputError(
            f"the label graph lacks {len(missing)} of the model's {len(first)} labels: "
            f"{', '.join(map(repr, missing[:5]))}{', ...' if len(missing) > 5 else ''}"
        )
    order = [column[name] for name in dict.fromkeys([*first, *column])]
    if len(order) == len(first):
        raise InputError("the label graph has no label that the model does not have")
    place = graph.edge_index.new_tensor(order).argsort()
    names = [graph.label_names[i] for i in order]
    x = None if graph.x is None else graph.x[order]
    return _graph(x, place[graph.edge_index], graph.edge_weight, names, dict(graph.recipe))


def _graph(
    x: Tensor | None, edge_index: Tensor, edge_weight: Tensor, names: list[str], recipe: dict[str, Any]
) -> Data:
    edge_index, edge_weight = coalesce(edge_index, edge_weight, num_nodes=len(names))
    return check_graph(
        Data(
            x=x,
            edge_index=edge_index,
            edge_weight=edge_weight,
            label_names=names,
            recipe=recipe,
            num_nodes=len(names),
        )
    )


def _new_names(names: Sequence[str], known: Sequence[str]) -> list[str]:
    names = names if isinstance(names, str) else list(names)
    if not names:
        raise InputError("names is empty: there is no label to add")
    checked = check_names(names, len(names))
    if there := [name for name in checked if name in known]:
        raise InputError(f"the model has these labels already: {', '.join(map(repr, there))}")
    return checked


def _incoming(graph: Data, names: list[str], edges: Edges) -> tuple[Tensor, Tensor]:
    """All that the new labels hear, self-loops included: edge_index (2, M) and edge_weight (M,)."""
    start, num_labels = len(graph.label_names), len(graph.label_names) + len(names)
    source, target, weight = _read_edges(edges, [*graph.label_names, *names], start)
    loops = graph.edge_weight[graph.edge_index[0] == graph.edge_index[1]].double().numpy(force=True)
    normalization = graph.recipe.get("normalization")
    if normalization is not None:
        lookup("normalization", normalization, NORMALIZATIONS)
        if (weight <= 0).any():
            raise InputError(f"edges of this label graph weigh more than 0, not {weight.min():g}")
        p = graph.recipe.get("p", 0.2)  # the paper's, where a published checkpoint does not say
        weight = p / (1 - p) * weight / np.bincount(target, weight, num_labels)[target]
    own = np.arange(start, num_labels)
    loop = loops.mean() if graph.recipe.get("edges") == "couplings" else 1.0
    source, target = np.concatenate([source, own]), np.concatenate([target, own])
    weight = np.concatenate([weight, np.full(len(own), loop)])
    if normalization in ("mlgcn", "sym"):
        # The self-loop of a label that was there was 1, and has been scaled twice by what is wanted here.
        sums = np.bincount(source if normalization == "mlgcn" else target, weight, num_labels)
        scale = np.concatenate([loops**0.5, sums[start:] ** -0.5])
        weight = scale[source] * weight * scale[target]
    elif normalization == "row":
        weight = weight / np.bincount(target, weight, num_labels)[target]
    return torch.from_numpy(np.stack([source, target])), torch.from_numpy(weight)


def _read_edges(edges: Edges, labels: list[str], start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sources, targets and weights of edges into the labels from ``start`` on."""
    column = {name: i for i, name in enumerate(labels)}
    weights: dict[tuple[int, int], float] = {}
    for edge in edges:
        try:
            source, target, weight = edge
            number = float(weight)
        except (TypeError, ValueError):
            raise InputError(f"an edge is (label, new label, weight), not {edge!r}") from None
        pair = lookup("label", source, column), lookup("label", target, column)
        if pair[1] < start:
            raise InputError(
                f"the edge {source!r} -> {target!r} leads to a label that is there already: new labels hear, and are "
                "not heard. A whole label graph in the place of names may have such edges"
            )
        if pair[0] == pair[1] or pair in weights or not math.isfinite(number):
            raise InputError(f"edges lead from one label to another, once, by a finite weight; not {edge!r}")
        weights[pair] = number
    ends = np.array([*weights], dtype=np.int64).reshape(-1, 2)
    return ends[:, 0], ends[:, 1], np.array([*weights.values()], dtype=np.float64)


def _vectors(graph: Data, names: list[str], embeddings: Vectors, unknown_words: str) -> Float[Tensor, "K E"]:
    """Vectors of the new labels, from where the graph's own labels have theirs."""
    start, size = graph.x.shape
    own = f"the model's label vectors, {graph.recipe.get('embeddings', 'of its own')}, have {size} numbers"
    if isinstance(embeddings, Tensor | np.ndarray):
        vectors = label_embeddings(names, embeddings).vectors
        if vectors.size(1) != size:
            raise InputError(f"{own}, those given {vectors.size(1)}")
        return vectors
    way = f"give vectors of that kind as a tensor ({len(names)}, {size})"
    if embeddings == "onehot" or graph.recipe.get("embeddings") == "one-hot":
        raise InputError(
            f"one-hot vectors say nothing of a new label; {own}. Train on vectors that do, such as "
            f"embeddings='glove', or {way}"
        )
    # Those of the known labels too: which GloVe it is depends on all the names, and they show whether it is the same.
    found = label_embeddings([*graph.label_names, *names], embeddings, unknown_words=unknown_words)
    if found.vectors.size(1) != size:
        raise InputError(f"{own}, those of {found.source} {found.vectors.size(1)}: {way}")
    same = torch.isclose(found.vectors[:start], graph.x.float().cpu(), rtol=0.02, atol=0.01).all(1)
    if same.float().mean() < 0.5:
        raise InputError(f"{own}, and {found.source} has others for the same labels: {way}")
    return found.vectors[start:]
