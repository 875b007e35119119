"""Classifiers generated from the label graph by graph convolutions, one classifier a label.

    label vectors (L,E) --conv, LeakyReLU 0.2--> (L,1024) --conv--> classifiers (L,D)
                           \\__ edge_index, edge_weight __/             |
    feature map (B,D,h,w) --pool--> features (B,D) -----------------> (.)(.)^T --> logits (B,L)

With GCNConv and two layers this is ML-GCN: Chen et al., "Multi-Label Image Recognition with Graph Convolutional
Networks", CVPR 2019, https://arxiv.org/abs/1904.03582. Any other convolution by name takes its place:
``sgc`` is SGConv (Wu et al., ICML 2019, https://arxiv.org/abs/1902.07153), ``gat`` is GATConv
(Veličković et al., ICLR 2018, https://arxiv.org/abs/1710.10903).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from zoo.convs import build_conv
from zoo.heads.head import Head, label_vectors


class GraphHead(Head):
    """See the module's docstring. The classifiers do not depend on the image, so the head folds.

    Args:
        num_features: D.
        labels: the label graph, with label vectors ``x`` (L, E). It becomes buffers, saved with the weights.
        conv: a convolution of :data:`zoo.convs.CONVS` by name, or a class of your own.
        widths: sizes between the convolutions; ``len(widths) + 1`` layers. ``()`` is one layer.
        hops: how far a convolution reaches, where it has that option (SGConv, TAGConv, ...).
        attention_heads: where a convolution has them (GATConv, TransformerConv, ...).
        pooling: of the image features; the paper takes the maximum, the tutorial the average.
        dropout: share of the pooled features dropped in training.
        bias: whether each label has a bias too; the paper has none.
    """

    uses_graph = True
    x: Tensor
    edge_index: Tensor
    edge_weight: Tensor

    def __init__(
        self,
        num_features: int,
        labels: Data,
        *,
        conv: str | Callable[[int, int], nn.Module] = "GCNConv",
        widths: Sequence[int] = (1024,),
        hops: int | None = None,
        attention_heads: int | None = None,
        pooling: str = "max",
        dropout: float = 0.0,
        bias: bool = False,
    ) -> None:
        super().__init__(num_features, labels, pooling=pooling, dropout=dropout)
        sizes = [label_vectors(labels).size(1), *widths, num_features]
        for name in ("x", "edge_index", "edge_weight"):
            self.register_buffer(name, getattr(labels, name).clone())
        self.convs = nn.ModuleList(
            build_conv(conv, size_in, size_out, hops=hops, attention_heads=attention_heads)
            for size_in, size_out in itertools.pairwise(sizes)
        )
        self.gain: Tensor | None
        self.register_buffer("gain", None)
        self.bias = nn.Parameter(torch.zeros(self.num_labels)) if bias else None

    def classifiers(self) -> Float[Tensor, "L D"]:
        x = self.x
        for i, conv in enumerate(self.convs):
            x = conv(F.leaky_relu(x, 0.2) if i else x, self.edge_index, self.edge_weight)
        return x if self.gain is None else self.gain * x

    def standardize(
        self, mean: Float[Tensor, " D"], std: Float[Tensor, " D"], log_odds: Float[Tensor, " L"]
    ) -> None:
        """As for every head; moreover the classifiers are scaled to start at the size of a linear layer's.

        Each convolution starts at a size of its own, and on standardised features too large a start is noise
        that a short training cannot remove: it would compare initial weights, not heads.
        """
        super().standardize(mean, std, log_odds)
        self.gain = None
        with torch.no_grad():
            size = self.classifiers().square().mean().sqrt()
            self.gain = (3 * self.num_features) ** -0.5 / size

    def classifier_bias(self) -> Float[Tensor, " L"] | None:
        return self.bias
