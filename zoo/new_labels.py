"""Labels that a trained model never saw: their logits come from a vector and a graph, so no training is needed.

    label graph (L) + names, vectors, edges into them (K) --> label graph (L+K) --Head.take_graph--> logits (B,L+K)

A new label hears others, and is heard by none of those that were there: what these are computed from stays the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
from zoo.heads import HEADS, Head
from zoo.heads.head import label_vectors
from zoo.lookup import InputError, lookup

Edges: TypeAlias = Iterable[tuple[str, str, float]]  # source, target, weight
Vectors: TypeAlias = str | Path | Tensor | np.ndarray
Frequency: TypeAlias = float | Mapping[str, float]


def add_labels(
    head: Head,
    recipe: dict[str, Any],
    names: Sequence[str] | Data,
    *,
    edges: Edges | None = None,
    embeddings: Vectors = "glove",
    unknown_words: str = "error",
    frequency: Frequency | None = None,
) -> dict[str, Any]:
    """What :meth:`zoo.MultiLabelClassifier.add_labels` does; its arguments are explained there.

    Returns:
        How the larger label graph was made, ``recipe`` being how the head's was.
    """
    check_head(head)
    if isinstance(names, Data):
        if edges is not None:
            raise InputError("the label graph has edges of its own: give names, or leave edges out")
        graph = reordered_graph(names, head.label_names)
    else:
        if edges is not None and not hasattr(head, "edge_index"):
            raise InputError(f"{type(head).__name__} reads no edges, only label vectors: leave edges out")
        own = head.own_graph()
        own.recipe = recipe
        graph = extended_graph(own, names, edges or (), embeddings=embeddings, unknown_words=unknown_words)
    extend_head(head, graph, frequency, keep_logits=not isinstance(names, Data))
    return graph.recipe


def check_head(head: Head) -> None:
    """Whether a head can take labels that it was not trained on.

    Raises:
        InputError: it cannot; the message names those that can.
    """

    def can(entry: Any) -> bool:
        return getattr(getattr(entry, "func", entry), "take_graph", None) is not Head.take_graph

    if not can(type(head)):
        raise InputError(
            f"{type(head).__name__} has parameters for each single label, which only training can give to a new one. "
            f"Heads that generate them: {', '.join(sorted(name for name in HEADS if can(HEADS[name])))}"
        )


def extend_head(head: Head, labels: Data, frequency: Frequency | None, *, keep_logits: bool) -> None:
    """Gives a head that :func:`check_head` lets pass a larger label graph, in place.

    Args:
        head: what is extended.
        labels: its first labels are the head's, in their order.
        frequency: as for :meth:`zoo.MultiLabelClassifier.add_labels`.
        keep_logits: whether the graph lets the head's own labels hear and see what they did before. A head that
            would change their logits all the same then refuses.

    Raises:
        InputError: vectors of another length, a frequency out of its range or without effect.
    """
    start, new = head.num_labels, labels.label_names[head.num_labels :]
    if (x := getattr(head, "x", None)) is not None and label_vectors(labels).size(1) != x.size(1):
        raise InputError(
            f"the model's label vectors have {x.size(1)} numbers, those of the label graph {labels.x.size(1)}"
        )
    couplings = hasattr(head, "edge_index") and labels.recipe.get("edges") == "couplings"
    offset = head.offset
    if frequency is not None and offset is None and not couplings:
        raise InputError(
            "frequency changes nothing here: only the logits of a head that was trained on frozen features, or that "
            "has a graph of couplings, hold the labels' log-odds"
        )
    if couplings:
        loops = (labels.edge_index[0] == labels.edge_index[1]).nonzero().squeeze(1)[start:]
        log_odds = _log_odds(new, frequency, labels.edge_weight[loops])
        labels.edge_weight = labels.edge_weight.index_put((loops,), log_odds)
    elif offset is not None:
        log_odds = _log_odds(new, frequency, offset.mean().expand(len(new)))
    head.take_graph(labels, keep_logits=keep_logits)
    if offset is not None:
        head.offset = torch.cat([offset, log_odds.to(offset)])
    head.label_names, head.num_labels = list(labels.label_names), len(labels.label_names)


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


def _log_odds(
    names: Sequence[str], frequency: Frequency | None, otherwise: Float[Tensor, " K"]
) -> Float[Tensor, " K"]:
    """Log-odds of new labels from the share of images that have them, where it is given."""
    log_odds, column = otherwise.clone(), {name: i for i, name in enumerate(names)}
    if frequency is None:
        return log_odds
    shares = frequency if isinstance(frequency, Mapping) else dict.fromkeys(names, frequency)
    for name, share in shares.items():
        place = lookup("new label", name, column)
        if not 0 < share < 1:
            raise InputError(f"the frequency of {name!r} must lie between 0 and 1, not {share}")
        log_odds[place] = math.log(share / (1 - share))
    return log_odds
