"""Query2Label: a transformer in which every label is a query that collects its features from the map.

    feature map (B,D,h,w) --Linear--> tokens (B,h*w,width) --encoder layers--> tokens
                                      + positions                               | keys + positions, values
    label queries (L,width) ----------------------------> decoder layers: queries ask each other, then the tokens
                                                                    |
                                         (B,L,width) --one weight vector and bias a label--> logits (B,L)

Liu et al., "Query2Label: A Simple Transformer Way to Multi-Label Classification", 2021,
https://arxiv.org/abs/2107.10834, with the layers of DETR: Carion et al., "End-to-End Object Detection with
Transformers", ECCV 2020, https://arxiv.org/abs/2005.12872. No label graph.

Where positions come in is DETR's choice (appendix A.3): sinusoidal encodings are added to queries and keys of every
attention over tokens, and never to values. Label queries are positions likewise: the decoder starts from zeros, and
they are added to its queries (and, among labels, keys) in every layer.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch_geometric.data import Data

from zoo.heads.head import Head
from zoo.lookup import InputError


class Attention(nn.Module):
    """Multi-head attention of ``x`` to a memory: ``norm(x + dropout(attention))``, normalised last as in the paper."""

    def __init__(self, width: int, attention_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, attention_heads, dropout=dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        x: Float[Tensor, "B q C"],
        x_positions: Float[Tensor, "q C"],
        memory: Float[Tensor, "B n C"],
        memory_positions: Float[Tensor, "n C"],
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "B q C"], Float[Tensor, "B q n"] | None]:
        """What ``x`` becomes and, if asked for, where it looked (averaged over attention heads)."""
        attended, weights = self.attention(
            x + x_positions, memory + memory_positions, memory, need_weights=need_weights
        )
        return self.norm(x + self.dropout(attended)), weights


class Layer(nn.Module):
    """Attention to a memory, after one of ``x`` to itself where there is one; then two linear layers on each vector.

    With a memory of its own it is a decoder's layer; with ``x`` as its memory, and no other attention, an encoder's.
    """

    def __init__(
        self,
        width: int,
        attention_heads: int,
        feedforward_width: int,
        dropout: float,
        self_attention: bool = False,
    ) -> None:
        super().__init__()
        self.self_attention = Attention(width, attention_heads, dropout) if self_attention else None
        self.attention = Attention(width, attention_heads, dropout)
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward_width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(feedforward_width, width),
            nn.Dropout(dropout),
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        x: Float[Tensor, "B q C"],
        x_positions: Float[Tensor, "q C"],
        memory: Float[Tensor, "B n C"],
        memory_positions: Float[Tensor, "n C"],
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "B q C"], Float[Tensor, "B q n"] | None]:
        if self.self_attention is not None:
            x, _ = self.self_attention(x, x_positions, x, x_positions)
        x, weights = self.attention(x, x_positions, memory, memory_positions, need_weights)
        return self.norm(x + self.feedforward(x)), weights


class Query2LabelHead(Head):
    """See the module's docstring.

    At the paper's sizes it has some 170 million parameters, more than most backbones: give smaller ones less ``width``
    and ``feedforward_width``. Its biggest tensors are the hidden layers, (B, h*w or L, feedforward_width).

    Args:
        num_features: D.
        labels: the label space; its edges are not used.
        width: channels of tokens and queries, a multiple of 4 and of ``attention_heads``.
        feedforward_width: of the hidden layer behind each attention.
        encoder_layers: 0 or more.
        decoder_layers: 1 or more.
        attention_heads: of every attention.
        self_attention: whether labels ask each other, as the paper's equations have it; the authors' code
            (https://github.com/SlongLiu/query2labels) leaves it out unless told otherwise. The first decoder layer
            goes without, ours: its values are the zeros that DETR starts from, so it would add one constant.
        dropout: of the attention weights, the hidden layers and every residual branch, in training.

    Raises:
        InputError: a width that cannot be divided so, or too few layers.
    """

    uses_positions = True

    def __init__(
        self,
        num_features: int,
        labels: Data,
        *,
        width: int = 2048,
        feedforward_width: int = 8192,
        encoder_layers: int = 1,
        decoder_layers: int = 2,
        attention_heads: int = 4,
        self_attention: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(num_features, labels, pooling="none", dropout=dropout)
        self.dropout = nn.Dropout(0.0)  # the paper's acts inside the layers, not on the feature map
        if attention_heads < 1 or width < 1 or width % 4 or width % attention_heads:
            raise InputError(
                f"width must be a multiple of 4 (sine and cosine of two axes) and of attention_heads, "
                f"not {width} with attention_heads {attention_heads}"
            )
        if encoder_layers < 0 or decoder_layers < 1:
            raise InputError(
                f"encoder_layers must be 0 or more and decoder_layers 1 or more, "
                f"not {encoder_layers} and {decoder_layers}"
            )
        sizes = (width, attention_heads, feedforward_width, dropout)
        self.projection = nn.Linear(num_features, width)
        self.encoder = nn.ModuleList(Layer(*sizes) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(
            Layer(*sizes, self_attention=self_attention and i > 0) for i in range(decoder_layers)
        )
        for parameter in (*self.encoder.parameters(), *self.decoder.parameters()):
            if parameter.dim() > 1:  # as DETR starts
                nn.init.xavier_uniform_(parameter)
        self.decoder_norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(self.num_labels, width))
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(self.num_labels, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(self.num_labels).uniform_(-bound, bound))

    def classify(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B L"]:
        x, _ = self._decode(features, need_weights=False)
        return (x * self.weight).sum(-1) + self.bias

    def attention_maps(self, feature_map: Float[Tensor, "B D h w"]) -> Float[Tensor, "B L h w"]:
        """Where each label looks in the last decoder layer, averaged over attention heads; sums to 1 over positions.

        To be asked for in evaluation mode: in training, dropout makes holes in them.
        """
        _, weights = self._decode(self.norm(feature_map), need_weights=True)
        assert weights is not None
        return weights.unflatten(-1, feature_map.shape[2:])

    def standardize(
        self, mean: Float[Tensor, " D"], std: Float[Tensor, " D"], log_odds: Float[Tensor, " L"]
    ) -> None:
        """As for every head; moreover the last layer starts from zero, and so the logits at the log-odds.

        The decoder's normalised output is much the same for every image at first: random weights on it would
        move each label by a constant.
        """
        super().standardize(mean, std, log_odds)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def _decode(
        self, features: Float[Tensor, "B D h w"], need_weights: bool
    ) -> tuple[Float[Tensor, "B L C"], Float[Tensor, "B L n"] | None]:
        tokens = self.projection(features.flatten(2).transpose(1, 2))
        positions = position_encoding(features, channels=tokens.size(-1))
        for layer in self.encoder:
            tokens, _ = layer(tokens, positions, tokens, positions)
        x, weights = torch.zeros_like(self.queries).expand(tokens.size(0), -1, -1), None
        for i, layer in enumerate(self.decoder, start=1):
            x, weights = layer(x, self.queries, tokens, positions, need_weights and i == len(self.decoder))
        return self.decoder_norm(x), weights


def position_encoding(feature_map: Float[Tensor, "B D h w"], channels: int) -> Float[Tensor, "n {channels}"]:
    """DETR's encoding of the positions of a map, row by row: half of the channels for the row, half for the column.

    Positions count from 1 and are scaled to end at 2 pi, whatever the size of the map. Each wave length has its sine
    and cosine side by side (Vaswani et al., 2017, section 3.5, https://arxiv.org/abs/1706.03762, for each axis).
    """
    (h, w), device = feature_map.shape[2:], feature_map.device
    frequencies = 10000 ** (-torch.arange(0, channels // 2, 2, device=device) / (channels // 2))
    angles = [
        torch.arange(1, n + 1, device=device)[:, None] * (2 * math.pi / n) * frequencies for n in (h, w)
    ]
    rows, columns = (torch.stack([a.sin(), a.cos()], dim=-1).flatten(1) for a in angles)
    return torch.cat([rows.repeat_interleave(w, dim=0), columns.repeat(h, 1)], dim=1).to(feature_map.dtype)
