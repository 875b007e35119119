"""Labels that a trained model never saw: their logits come from a vector and a graph, so no training is needed.

    label graph (L) + K labels --zoo.larger_graphs--> label graph (L+K) --Head.take_graph--> logits (B,L+K)

For heads that generate what they know of a label; the others would have to be trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch_geometric.data import Data

from zoo.heads import Head, heads_that_override, overrides
from zoo.heads.head import label_vectors
from zoo.larger_graphs import Edges, Vectors, extended_graph, reordered_graph
from zoo.lookup import InputError, lookup

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

    if not overrides(type(head), "take_graph"):
        raise InputError(
            f"{type(head).__name__} has parameters for each single label, which only training can give to a new one. "
            f"Heads that generate them: {heads_that_override('take_graph')}"
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
