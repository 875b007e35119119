"""Classifiers generated from a label graph that is learned too: the given graph, refined from the label vectors.

    label vectors x (L,E) --Linear--> queries (L,W) \\__ dot product at each edge, / edges of the label --+
                          --Linear--> keys    (L,W) /                                                   v
    the given graph's weights (M,), 0 at an edge it does not have ------------------------------------> + --> weights
    x --conv, LeakyReLU 0.2, conv over the refined edges--> classifiers (L,D) . features (B,D) --> logits (B,L)

A-GCN: Li, Peng, Qiao & Peng, "Learning Label Correlations for Multi-Label Image Recognition with Graph Networks",
Pattern Recognition Letters 138, 2020, https://arxiv.org/abs/1909.13005; the size of the maps, the divisor and the
weight of the penalty are those of https://github.com/queenie88/A-GCN.

Decided here. The paper refines the identity, then normalises the sum symmetrically, which is not defined where a
learned weight is negative. This head refines the label graph that it is given, whose weights are normalised
already, and takes the sum as it is, so that it is ML-GCN but for what it learns; given labels without links, it too
refines the identity. The paper learns all L x L weights; here these are the graph's own edges and, for each label,
those from its ``candidates`` most similar labels: all pairs up to 101 labels, and a number that grows with L beyond.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.utils import degree

from zoo.heads.graph_head import GraphHead
from zoo.lookup import InputError


class AGCNHead(GraphHead):
    """See the module's docstring. The learned graph is the same for every image, so the head folds.

    The largest tensors are the messages, (edges, max(E, widths)).

    Args:
        num_features: D.
        labels: the label graph, with label vectors ``x`` (L, E).
        conv: a convolution of :data:`zoo.convs.CONVS` by name, or a class of your own.
        widths: sizes between the convolutions; ``len(widths) + 1`` layers.
        width: W, of queries and keys; None is half of E.
        candidates: how many labels that the graph does not link to a label may yet be learned to: the most similar
            ones, by the cosine of their vectors. 0 leaves the graph's own edges.
        penalty_weight: of :meth:`penalty`.
        pooling: of the image features.
        dropout: share of the pooled features dropped in training.
        bias: whether each label has a bias too.

    Raises:
        InputError: no label vectors, or an option out of its range.
    """

    def __init__(
        self,
        num_features: int,
        labels: Data,
        *,
        conv: str | Callable[[int, int], nn.Module] = "GCNConv",
        widths: Sequence[int] = (1024,),
        width: int | None = None,
        candidates: int = 100,
        penalty_weight: float = 1.0,
        pooling: str = "max",
        dropout: float = 0.0,
        bias: bool = False,
    ) -> None:
        super().__init__(
            num_features, labels, conv=conv, widths=widths, pooling=pooling, dropout=dropout, bias=bias
        )
        if width is not None and width < 1:
            raise InputError(f"width must be at least 1, not {width}")
        if candidates < 0:
            raise InputError(f"candidates must be 0 or more, not {candidates}")
        if not 0 <= penalty_weight < math.inf:
            raise InputError(f"penalty_weight must be 0 or more, and finite, not {penalty_weight}")
        width = width or max(self.x.size(1) // 2, 1)
        self.candidates = candidates
        self.label_graph = LabelGraph(self.x, self.edge_index, width, candidates, trained_labels(labels))
        self.penalty_weight = penalty_weight

    def take_graph(self, labels: Data, *, keep_logits: bool) -> None:
        super().take_graph(labels, keep_logits=keep_logits)
        index = similar_labels(self.x, self.edge_index, self.candidates, trained_labels(labels))
        if keep_logits:
            kept = self.label_graph.candidate_index
            index = torch.cat([kept, index[:, index[1] >= self.num_labels]], dim=1)
        self.label_graph.candidate_index = index

    def weighted_edges(self) -> tuple[Int[Tensor, "2 M"], Float[Tensor, " M"]]:
        """The refined graph: the given edges and the candidates, with the given weights plus what is learned."""
        edge_index, correction = self.label_graph(self.x, self.edge_index)
        given = F.pad(self.edge_weight, (0, len(correction) - len(self.edge_weight)))
        return edge_index, given + correction

    def penalty(self) -> Float[Tensor, ""]:
        """``penalty_weight`` times the mean of |refined - given| over the edges, the paper's L1 constraint."""
        _, correction = self.label_graph(self.x, self.edge_index)
        return self.penalty_weight * correction.abs().mean()


class LabelGraph(nn.Module):
    """What the paper calls the label-graph module: weights learned from the label vectors.

    Args:
        x: label vectors (L, E).
        edge_index: (2, M), the given graph's edges.
        width: W, of queries and keys.
        candidates: how many more edges each label gets; see :func:`similar_labels`.
        trained: how many labels, the first ones, these come from.
    """

    candidate_index: Tensor

    def __init__(
        self,
        x: Float[Tensor, "L E"],
        edge_index: Int[Tensor, "2 M"],
        width: int,
        candidates: int,
        trained: int,
    ) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(x.size(1), width), nn.Linear(x.size(1), width)
        self.register_buffer("candidate_index", similar_labels(x, edge_index, candidates, trained))

    def forward(
        self, x: Float[Tensor, "L E"], edge_index: Int[Tensor, "2 M"]
    ) -> tuple[Int[Tensor, "2 N"], Float[Tensor, " N"]]:
        """The N edges, the given ones first, and what is learned for each.

        It is the dot product of the target's query and the source's key, divided by the number of edges to that
        target (L, where all pairs are edges, as in the paper).
        """
        edge_index = torch.cat([edge_index, self.candidate_index], dim=1)
        source, target = edge_index
        products = (self.query(x)[target] * self.key(x)[source]).sum(1)
        # Counted in float32: bfloat16 counts to 256.
        return edge_index, products / degree(target, len(x))[target].to(products)


def trained_labels(labels: Data) -> int:
    """How many labels, the first ones, the head was trained on. Later ones are no candidates: nobody asked for them."""
    return len(labels.label_names) - len(labels.recipe.get("added_labels", ()))


def similar_labels(
    x: Float[Tensor, "L E"], edge_index: Int[Tensor, "2 M"], count: int, trained: int
) -> Int[Tensor, "2 C"]:
    """Edges (source, target) to each label from those ``count`` most similar to it that have none to it yet.

    Sources are the first ``trained`` labels.
    """
    unit = F.normalize(x)
    similarity = unit @ unit.T  # [target, source]
    similarity[edge_index[1], edge_index[0]] = -math.inf
    similarity = similarity[:, :trained]
    values, source = similarity.topk(min(count, trained), dim=1)
    target = torch.arange(len(x), device=x.device)[:, None].expand_as(source)
    new = values > -math.inf
    return torch.stack([source[new], target[new]])
