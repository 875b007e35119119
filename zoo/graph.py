"""The label graph: co-occurrence counts -> conditional probabilities -> PyG ``Data``.

    counts (L,), co-occurrence (L,L) --a kind of edges--> pairs --p, normalization--> edge_index (2,M), edge_weight (M,)
    label names (L) -----------------embeddings------------------------------------> x (L,E), or from the edges (asge)

The construction is that of ML-GCN (Chen et al., CVPR 2019, https://arxiv.org/abs/1904.03582, section 3.3); the other
kinds of edges (:mod:`zoo.edges`) choose or weigh the pairs in another way.
Everything is sparse: nothing of size (L, L) is ever dense.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from zoo.counts import LabelCounts, Targets, check_names, count_labels
from zoo.edges import Edges, make_edges
from zoo.embeddings import label_embeddings
from zoo.knowledge import Knowledge, add_knowledge
from zoo.lookup import InputError, lookup


def label_graph(
    targets: Targets | LabelCounts,
    label_names: Sequence[str] | None = None,
    *,
    edges: str = "conditional",
    threshold: float = 0.1,
    p: float = 0.2,
    normalization: str = "mlgcn",
    knowledge: Knowledge | None = None,
    embeddings: str | Path | Tensor | np.ndarray = "glove",
    unknown_words: str = "error",
) -> Data:
    """Builds the label graph of a set of annotations.

    With P(j|i) from :func:`zoo.counts.count_labels`, ``B = P(j|i) >= threshold`` keeps what is no chance (against
    over-fitting), ``A = p/(1-p) * B / (column sums of B) + I`` gives a label's neighbours the share p of its
    features (against over-smoothing; Eq. 7 and 8 of https://arxiv.org/abs/1904.03582, with the authors'
    correction that the sums run over columns), and the normalization scales the result. The edge
    ``i -> j`` carries the weight with which label j receives from label i.

    That is ``edges="conditional"``. Other kinds put other pairs, or weights, in the place of B, and the rest is the
    same: ``topk``, ``significant``, ``ppmi``, and ``signed``, whose weights have either sign, so that every sum here is
    one of absolute values. ``couplings`` are final as :func:`zoo.couplings.coupling_edges` makes them.

    Args:
        targets: annotations, or counts of them; see :func:`zoo.counts.count_labels`.
        label_names: the L labels, in the order of the targets' columns.
        edges: a kind and its options, ``topk:k=5``; see :data:`zoo.edges.EDGES`.
        threshold: tau in [0, 1], on P(j|i), for ``conditional`` alone. 0 keeps every pair that occurs at least once.
            The paper's value is 0.4, which isolates most labels of VOC and COCO.
        p: the share of a label's features that comes from its neighbours, in [0, 1), in the paper's sense
            (the reference code writes p/(1-p) = 0.25 for the paper's 0.2). 0 leaves no neighbours. Not for couplings.
        normalization: ``mlgcn``, ``sym``, ``row`` or ``none``; see :data:`NORMALIZATIONS`. Not for couplings.
        knowledge: edges to add to the counted ones, or to put in their place: a CSV or TSV file with the columns
            source, target and, if wanted, weight, or such tuples. They join before p and normalization; the weight 1 is
            that of a counted edge, the mean one where they differ. See :func:`zoo.knowledge.add_knowledge`.
        embeddings: label vectors: ``glove``, ``onehot``, ``random``, ``asge`` (from the edges of this graph), a
            vector file, or an (L, E) tensor.
        unknown_words: what happens to a label none of whose words has a vector; see
            :func:`zoo.embeddings.label_embeddings`.

    Returns:
        ``Data`` with ``x`` (L, E), ``edge_index`` (2, M) sorted and with every self-loop, ``edge_weight``
        (M,), ``label_names`` and ``recipe``, which says how it was made.

    Raises:
        InputError: an option out of its range, or whatever counting, edges, knowledge and label vectors refuse.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold must lie in [0, 1], not {threshold}: it is compared with P(j|i)")
    if not 0 <= p < 1:
        raise InputError(
            f"p must lie in [0, 1), not {p}: the neighbours' weight is p / (1 - p), which p = 1 divides by zero"
        )
    lookup("normalization", normalization, NORMALIZATIONS)
    counts = count_labels(targets, label_names)
    num_labels = len(counts.label_names)
    (source, target, weight), recipe = make_edges(counts, edges, threshold=threshold)
    final = (source == target).any()  # a kind that gives self-loops has final weights
    if knowledge is not None:
        if final:
            raise InputError(
                f"{recipe['edges']} edges have final weights: known edges cannot be added to them"
            )
        source, target, weight, recipe["knowledge"] = add_knowledge(
            (source, target, weight), knowledge, counts.label_names
        )
    if not final:
        source, target, weight = _reweighted(source, target, weight, num_labels, p)
        weight = NORMALIZATIONS[normalization](source, target, weight, num_labels)
        recipe |= {"p": p, "normalization": normalization}
    order = np.lexsort((target, source))
    edge_index = torch.from_numpy(np.stack([source, target])[:, order].astype(np.int64))
    edge_weight = torch.from_numpy(weight[order].astype(np.float32))
    vectors = label_embeddings(
        counts.label_names, embeddings, unknown_words=unknown_words, edges=(edge_index, edge_weight)
    )
    graph = Data(
        x=vectors.vectors,
        edge_index=edge_index,
        edge_weight=edge_weight,
        label_names=list(counts.label_names),
        recipe={
            **recipe,
            "embeddings": vectors.source,
            **({"words": words} if (words := vectors.read_as()) else {}),
            "num_images": counts.num_images,
        },
    )
    return check_graph(graph)


def _reweighted(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray, num_labels: int, p: float
) -> Edges:
    """A label itself has weight 1, and those that it hears share p/(1-p)."""
    if p == 0:
        source, target, weight = source[:0], target[:0], weight[:0]
    sums = np.bincount(target, np.abs(weight), num_labels)
    # As in the reference code, whose weights are 1, for equal digits.
    tiny = 1e-6 * np.abs(weight).sum() / max(len(weight), 1)
    loops = np.arange(num_labels)
    return (
        np.concatenate([source, loops]),
        np.concatenate([target, loops]),
        np.concatenate([p / (1 - p) * weight / (sums[target] + tiny), np.ones(num_labels)]),
    )


def _mlgcn(source: np.ndarray, target: np.ndarray, weight: np.ndarray, num_labels: int) -> np.ndarray:
    """D A^T D with D = (row sums of A)^-1/2, the row of label i being what it *sends*."""
    scale = np.bincount(source, np.abs(weight), num_labels) ** -0.5
    return scale[source] * weight * scale[target]


def _sym(source: np.ndarray, target: np.ndarray, weight: np.ndarray, num_labels: int) -> np.ndarray:
    """D^-1/2 A D^-1/2 with D what a label *receives*: GCNConv's own (https://arxiv.org/abs/1609.02907)."""
    scale = np.bincount(target, np.abs(weight), num_labels) ** -0.5
    return scale[source] * weight * scale[target]


def _row(source: np.ndarray, target: np.ndarray, weight: np.ndarray, num_labels: int) -> np.ndarray:
    """What a label receives sums to one: an average over itself and its neighbours."""
    return weight / np.bincount(target, np.abs(weight), num_labels)[target]


def _none(source: np.ndarray, target: np.ndarray, weight: np.ndarray, num_labels: int) -> np.ndarray:
    """A as it is."""
    return weight


# Sums are of absolute weights, with which the degrees of signed graphs are defined (Kunegis et al., SDM 2010,
# https://doi.org/10.1137/1.9781611972801.49); where no weight is negative, that changes nothing.
NORMALIZATIONS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]] = {
    "mlgcn": _mlgcn,
    "sym": _sym,
    "row": _row,
    "none": _none,
}


def unlinked_labels(label_names: Sequence[str], x: Tensor | None = None) -> Data:
    """A label space without edges: every label keeps to itself. What heads without a graph are built on."""
    loops = torch.arange(len(label_names))
    return check_graph(
        Data(
            x=x,
            edge_index=torch.stack([loops, loops]),
            edge_weight=torch.ones(len(label_names)),
            label_names=list(label_names),
            recipe={},
            num_nodes=len(label_names),
        )
    )


def check_graph(graph: Data) -> Data:
    """The contract of a label graph, checked. Every producer and every loader calls it.

    Returns:
        The same graph, with a ``recipe`` if it had none.

    Raises:
        InputError: names the attribute that breaks the contract, and how.
    """

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise InputError(f"not a label graph: {what}")

    for attribute in ("label_names", "edge_index", "edge_weight"):
        require(graph.get(attribute) is not None, f"it has no {attribute!r}")
    for attribute in ("edge_index", "edge_weight", "x"):
        value = graph.get(attribute)
        require(
            value is None or isinstance(value, Tensor), f"{attribute} must be a tensor, not {type(value)}"
        )
    num_labels = len(graph.label_names)
    check_names(graph.label_names, num_labels)
    edge_index, edge_weight, x = graph.edge_index, graph.edge_weight, graph.get("x")
    require(
        edge_index.dim() == 2 and edge_index.size(0) == 2 and edge_index.dtype == torch.long,
        f"edge_index must be an int64 tensor (2, M), not {edge_index.dtype} {tuple(edge_index.shape)}",
    )
    require(
        edge_weight.shape == edge_index.shape[1:] and edge_weight.is_floating_point(),
        f"edge_weight must be a float tensor (M,) with M = {edge_index.size(1)}, not {tuple(edge_weight.shape)}",
    )
    require(bool(edge_weight.isfinite().all()), "edge_weight holds values that are not finite")
    if edge_index.numel():
        in_range = edge_index.min() >= 0 and edge_index.max() < num_labels
        require(bool(in_range), f"edge_index must lie in 0..{num_labels - 1}")
    position = edge_index[0] * num_labels + edge_index[1]
    ascending = bool((position[1:] > position[:-1]).all())
    require(ascending, "its edges must be sorted and without duplicates (torch_geometric.utils.coalesce)")
    loops = int((edge_index[0] == edge_index[1]).sum())
    require(loops == num_labels, f"every label needs its self-loop; {num_labels - loops} are missing")
    if x is not None:
        require(
            x.dim() == 2 and x.size(0) == num_labels and x.is_floating_point() and bool(x.isfinite().all()),
            f"x must be a finite float tensor ({num_labels}, E), not {tuple(x.shape)}",
        )
    if graph.get("recipe") is None:
        graph.recipe = {}
    require(isinstance(graph.recipe, dict), f"recipe must be a dict, not {graph.recipe!r}")
    return graph
