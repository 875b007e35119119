"""Classifiers generated from the label graph by graph convolutions, one classifier a label.

    label vectors (L,E) --conv, LeakyReLU 0.2--> (L,1024) --conv--> classifiers (L,D)
                           \\__ edge_index, edge_weight __/             |
    feature map (B,D,h,w) --pool--> features (B,D) -----------------> (.)(.)^T --> logits (B,L)

With GCNConv and two layers this is ML-GCN: Chen et al., "Multi-Label Image Recognition with Graph Convolutional
Networks", CVPR 2019, https://arxiv.org/abs/1904.03582. Any other convolution by name takes its place:
``sgc`` is SGConv (Wu et al., ICML 2019, https://arxiv.org/abs/1902.07153), ``gat`` is GATConv
(Veličković et al., ICLR 2018, https://arxiv.org/abs/1710.10903). Published for other tasks, not for this one:
``gatv2`` (Brody et al., ICLR 2022, https://arxiv.org/abs/2105.14491), ``transformer`` (Shi et al., IJCAI 2021,
https://arxiv.org/abs/2009.03509), ``cheb`` (Defferrard et al., NeurIPS 2016, https://arxiv.org/abs/1606.09375),
``ssgc`` (Zhu & Koniusz, ICLR 2021, https://openreview.net/forum?id=CYO5T-YjWZV) and ``appnp``, which predicts
classifiers from each label vector alone, then propagates them by personalised PageRank (Klicpera et al., ICLR 2019,
https://arxiv.org/abs/1810.05997).

Many layers make all labels alike. Against it, ``residual`` adds each convolution's input to its output (He et al.,
CVPR 2016, https://arxiv.org/abs/1512.03385), and with ``jumping_knowledge`` the classifiers are read from every layer
(Xu et al., ICML 2018, https://arxiv.org/abs/1806.03536).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.nn import JumpingKnowledge

from zoo.convs import build_conv, conv_name, conv_spec
from zoo.convs.spread import SpreadThenLinear
from zoo.heads.head import Head, label_vectors, with_means
from zoo.lookup import InputError, lookup

# Ways to join the outputs of all layers, and the width that comes of theirs.
JOINED_WIDTH: dict[str, Callable[[Sequence[int]], int]] = {"cat": sum, "lstm": max, "max": max}


class GraphHead(Head):
    """See the module's docstring. The classifiers do not depend on the image, so the head folds.

    Args:
        num_features: D.
        labels: the label graph, with label vectors ``x`` (L, E). It becomes buffers, saved with the weights.
        conv: a convolution of :data:`zoo.convs.CONVS` by name, or a class of your own.
        widths: sizes between the convolutions; ``len(widths) + 1`` layers. ``()`` is one layer.
        mlp_widths: hidden layers that a label's vector passes by itself, before the first convolution.
        hops: how far a convolution reaches, where it has that option (SGConv, TAGConv, ...).
        attention_heads: where a convolution has them (GATConv, TransformerConv, ...).
        residual: whether a convolution's input is added to its output: as it is where the widths agree, else
            through a learned linear map without bias.
        jumping_knowledge: ``cat``, ``max`` or ``lstm`` joins the activated outputs of all convolutions, the last
            of which then keeps the width of the one before, and a linear layer takes the result to D. For
            ``max`` and ``lstm`` all ``widths`` are one and the same.
        pooling: of the image features; the paper takes the maximum, the tutorial the average.
        dropout: share of the pooled features dropped in training.
        bias: whether each label has a bias too; the paper has none.

    Raises:
        InputError: no label vectors, an option that the convolution does not have, or ``widths`` that
            ``jumping_knowledge`` cannot join.
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
        mlp_widths: Sequence[int] = (),
        hops: int | None = None,
        attention_heads: int | None = None,
        residual: bool = False,
        jumping_knowledge: str | None = None,
        pooling: str = "max",
        dropout: float = 0.0,
        bias: bool = False,
    ) -> None:
        super().__init__(num_features, labels, pooling=pooling, dropout=dropout)
        mlp_sizes = [label_vectors(labels).size(1), *mlp_widths]
        for name in ("x", "edge_index", "edge_weight"):
            self.register_buffer(name, getattr(labels, name).clone())
        self.mlp = nn.Sequential()
        for size_in, size_out in itertools.pairwise(mlp_sizes):
            self.mlp.extend([nn.Linear(size_in, size_out), nn.LeakyReLU(0.2)])

        sizes = [mlp_sizes[-1], *widths, num_features]
        self.join: nn.Sequential | None = None
        if jumping_knowledge is not None:
            joined_width = lookup("jumping_knowledge", jumping_knowledge, JOINED_WIDTH)
            if not widths or (jumping_knowledge != "cat" and len({*widths}) > 1):
                expected = "one width or more" if jumping_knowledge == "cat" else "widths that are all equal"
                raise InputError(f"jumping_knowledge {jumping_knowledge!r} needs {expected}, not {[*widths]}")
            sizes[-1] = widths[-1]
            self.join = nn.Sequential(
                JumpingKnowledge(jumping_knowledge, widths[-1], len(sizes) - 1),
                nn.Linear(joined_width(sizes[1:]), num_features),
            )

        self.conv_name, self.local = conv_name(conv), conv_spec(conv).local
        self.convs, self.shortcuts = nn.ModuleList(), nn.ModuleList()
        for size_in, size_out in itertools.pairwise(sizes):
            self.convs.append(build_conv(conv, size_in, size_out, hops=hops, attention_heads=attention_heads))
            if residual:
                same = size_in == size_out
                self.shortcuts.append(nn.Identity() if same else nn.Linear(size_in, size_out, bias=False))
        self.gain: Tensor | None
        self.register_buffer("gain", None)
        self.bias = nn.Parameter(torch.zeros(self.num_labels)) if bias else None

    def weighted_edges(self) -> tuple[Int[Tensor, "2 M"], Float[Tensor, " M"]]:
        """The graph that the convolutions run over: ``edge_index`` and ``edge_weight``."""
        return self.edge_index, self.edge_weight

    def take_graph(self, labels: Data, *, keep_logits: bool) -> None:
        if keep_logits and not self.local:
            raise InputError(
                f"conv {self.conv_name!r} lets every label hear all others, so new ones would change the logits of "
                "those that are there; give a whole label graph if they may"
            )
        for name in ("x", "edge_index", "edge_weight"):
            setattr(self, name, getattr(labels, name).to(getattr(self, name), copy=True))
        if self.bias is not None:
            self.bias = nn.Parameter(with_means(self.bias, len(labels.label_names)))

    def classifiers(self) -> Float[Tensor, "L D"]:
        edges = self.weighted_edges()
        layers = self._layers(edges, len(self.convs))
        x = layers[-1]
        if self.join is not None:
            x = self.join([F.leaky_relu(layer, 0.2) for layer in layers[1:]])
        return x if self.gain is None else self.gain * x

    def _layers(self, edges: tuple[Tensor, Tensor], count: int) -> list[Tensor]:
        """Label vectors, and the outputs of the first ``count`` convolutions."""
        layers = [self.mlp(self.x)]
        for i, conv in enumerate(self.convs[:count]):
            x = F.leaky_relu(layers[-1], 0.2) if i else layers[-1]
            heard = conv(x, *edges)
            layers.append(heard + self.shortcuts[i](x) if self.shortcuts else heard)
        return layers

    def classify(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B L"]:
        """In training the classifiers (L, D) are never formed where another order of products is cheaper.

        The same numbers up to rounding: what the last convolution would make of the labels meets the features first.
        """
        if not (self.training and self._products_are_cheaper(len(features))):
            return super().classify(features)
        edges = self.weighted_edges()
        *_, x = self._layers(edges, len(self.convs) - 1)
        x = F.leaky_relu(x, 0.2) if len(self.convs) > 1 else x
        logits = self.convs[-1].conv.products(features, x, *edges)  # type: ignore[operator, union-attr]
        logits = logits if self.gain is None else self.gain * logits
        return logits if self.bias is None else logits + self.bias

    def _products_are_cheaper(self, batch_size: int) -> bool:
        last = self.convs[-1]
        if self.shortcuts or self.join is not None or not isinstance(last.conv, SpreadThenLinear):
            return False
        if type(self).classifiers is not GraphHead.classifiers:  # a subclass makes them in a way of its own
            return False
        width, features = last.in_channels, self.num_features
        assert isinstance(width, int)
        formed = self.num_labels * features * (width + batch_size)
        return batch_size * width * (features + self.num_labels) < formed

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
