"""ML-Decoder: queries look at the positions of an image, and each gives the logits of a group of labels.

    feature map (B,D,h,w) --Linear, ReLU--> positions (B,h*w,768) __ keys, values
                                                                   |
    queries (G,768) --norm--> cross-attention, add, norm --> feed-forward 2048, add, norm --> decoded (B,G,768)
    decoded (B,G,768) --a matrix (768,g) for each group--> logits (B,L), g = ceil(L / G)

Ridnik et al., "ML-Decoder: Scalable and Versatile Classification Head", WACV 2023, https://arxiv.org/abs/2111.12933.
``mldecoder`` has fixed random queries: its cost grows with the labels in the last product alone. ``mldecoder_words``
is the paper's variant for zero-shot learning: a label's vector is its query, and all else is shared by the labels.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from zoo.heads.head import Head, label_vectors
from zoo.lookup import InputError


class Decoder(nn.Module):
    """A layer of a transformer decoder without self-attention, on the positions of a feature map.

    Of queries that are the same for every image, self-attention makes the same every time: the paper leaves it out.
    What we keep of its block is the norm, which is done once for all images.

    Args:
        num_features: D.
        width: of queries, positions and what is decoded; a multiple of ``attention_heads``.
        attention_heads: that share the width.
        feedforward_width: of the hidden layer behind the attention.
        dropout: share dropped in training, of the attention, of the hidden layer, and of what either adds.

    Raises:
        InputError: the attention heads cannot share the width.
    """

    def __init__(
        self, num_features: int, *, width: int, attention_heads: int, feedforward_width: int, dropout: float
    ) -> None:
        super().__init__()
        if attention_heads < 1 or width < 1 or width % attention_heads:
            raise InputError(
                f"width must be a multiple of attention_heads: {width} is none of {attention_heads}"
            )
        self.attention_heads = attention_heads
        self.dropout = nn.Dropout(dropout)
        self.position = nn.Linear(num_features, width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)  # The softmax over positions does not see a bias.
        self.value = nn.Linear(width, width)
        self.attended = nn.Linear(width, width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward_width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(feedforward_width, width),
        )
        self.query_norm, self.attention_norm, self.feedforward_norm = (nn.LayerNorm(width) for _ in range(3))

    def forward(
        self, queries: Float[Tensor, "G width"], feature_map: Float[Tensor, "B D h w"]
    ) -> Float[Tensor, "B G width"]:
        """Decodes each query for each image. The largest tensor is the hidden layer (B, G, feedforward_width)."""
        queries, positions = self.query_norm(queries), self._positions(feature_map)
        query, key, value = self.query(queries), self.key(positions), self.value(positions)
        attended = F.scaled_dot_product_attention(
            self._split(query).expand(feature_map.size(0), -1, -1, -1),
            self._split(key),
            self._split(value),
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        update = self.attended(attended.transpose(1, 2).flatten(2))
        decoded = self.attention_norm(queries + self.dropout(update))
        return self.feedforward_norm(decoded + self.dropout(self.feedforward(decoded)))

    def attention_maps(
        self, queries: Float[Tensor, "G width"], feature_map: Float[Tensor, "B D h w"]
    ) -> Float[Tensor, "B G h w"]:
        """The share of each position in what a query reads, on average over the attention heads; without dropout."""
        query = self._split(self.query(self.query_norm(queries)))
        key = self._split(self.key(self._positions(feature_map)))
        energies = query @ key.mT / math.sqrt(query.size(-1))
        return energies.float().softmax(-1).mean(1).unflatten(-1, feature_map.shape[2:])

    def _positions(self, feature_map: Tensor) -> Tensor:
        return F.relu(self.position(feature_map.flatten(2).mT))

    def _split(self, vectors: Tensor) -> Tensor:
        """(..., N, width) to (..., heads, N, width / heads)."""
        return vectors.unflatten(-1, (self.attention_heads, -1)).transpose(-3, -2)


class MLDecoderHead(Head):
    """ML-Decoder with fixed queries: random, drawn once, never learned, and saved with the weights.

    Label i belongs to group i // g, whatever it means: the order of the labels makes no difference only where each
    has a group of its own.

    Args:
        num_features: D.
        labels: the label space; neither its edges nor its vectors are used.
        groups: G at most; with fewer labels than that, each is a group.
        width: of queries and positions.
        attention_heads: that share the width.
        feedforward_width: of the hidden layer behind the attention.
        dropout: share dropped inside the decoder in training.

    Raises:
        InputError: no group, or attention heads that cannot share the width.
    """

    uses_positions = True
    queries: Tensor

    def __init__(
        self,
        num_features: int,
        labels: Data,
        *,
        groups: int = 100,
        width: int = 768,
        attention_heads: int = 8,
        feedforward_width: int = 2048,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(num_features, labels, pooling="none", dropout=dropout)
        if groups < 1:
            raise InputError(f"groups must be at least 1, not {groups}")
        self.dropout = nn.Dropout(0.0)  # The paper's acts inside the decoder, not on the features.
        self.decoder = Decoder(
            num_features,
            width=width,
            attention_heads=attention_heads,
            feedforward_width=feedforward_width,
            dropout=dropout,
        )
        self.group_size = math.ceil(self.num_labels / groups)
        # As many as there are labels for: of 100 groups for 101 labels, in twos, 49 would decode for nothing.
        groups = math.ceil(self.num_labels / self.group_size)
        self.register_buffer("queries", torch.randn(groups, width))
        # Small, so that the logits start near zero, as Lin et al., 2017, section 4.1, start a last layer
        # (https://arxiv.org/abs/1708.02002): what is decoded is much the same for all images at first.
        self.weight = nn.Parameter(0.01 * torch.randn(groups, width, self.group_size))
        self.bias = nn.Parameter(torch.zeros(self.num_labels))

    def classify(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B L"]:
        decoded = self.decoder(self.queries, features)
        logits = torch.einsum("bgc,gcj->bgj", decoded, self.weight).flatten(1)
        return logits[:, : self.num_labels] + self.bias  # The last group may have room for more.

    def attention_maps(self, feature_map: Float[Tensor, "B D h w"]) -> Float[Tensor, "B L h w"]:
        """Where each label's group looks, on average over the attention heads; sums to 1 over positions."""
        maps = self.decoder.attention_maps(self.queries, self.norm(feature_map))
        return maps.repeat_interleave(self.group_size, 1)[:, : self.num_labels]


class MLDecoderWordsHead(Head):
    """ML-Decoder with a query for each label: its vector, through a linear map.

    No parameter belongs to a label, so any label with a vector gets a logit, and the trained parameters serve a
    larger label space as they are; time and memory grow with the labels. Of the label graph it reads the vectors
    alone: of a comparison's controls only ``random_vectors`` takes something away, ``identity`` and ``shuffled``
    change nothing. The paper's augmentations of the queries are not part of the head.

    Args:
        num_features: D.
        labels: the label graph, with label vectors ``x`` (L, E), which become a buffer, saved with the weights.
        width: of queries and positions.
        attention_heads: that share the width.
        feedforward_width: of the hidden layer behind the attention.
        dropout: share dropped inside the decoder in training.

    Raises:
        InputError: no label vectors, or attention heads that cannot share the width.
    """

    uses_graph = True
    uses_positions = True
    x: Tensor

    def __init__(
        self,
        num_features: int,
        labels: Data,
        *,
        width: int = 768,
        attention_heads: int = 8,
        feedforward_width: int = 2048,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(num_features, labels, pooling="none", dropout=dropout)
        self.dropout = nn.Dropout(0.0)
        self.register_buffer("x", label_vectors(labels).clone())
        self.decoder = Decoder(
            num_features,
            width=width,
            attention_heads=attention_heads,
            feedforward_width=feedforward_width,
            dropout=dropout,
        )
        self.queries = nn.Linear(self.x.size(1), width)
        self.logit = nn.Linear(width, 1)
        nn.init.normal_(self.logit.weight, std=0.01)  # As above, and so is the bias.
        nn.init.zeros_(self.logit.bias)

    def take_graph(self, labels: Data, *, keep_logits: bool) -> None:
        self.x = label_vectors(labels).to(self.x, copy=True)

    def classify(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B L"]:
        return self.logit(self.decoder(self.queries(self.x), features)).squeeze(-1)

    def attention_maps(self, feature_map: Float[Tensor, "B D h w"]) -> Float[Tensor, "B L h w"]:
        """Where each label looks, on average over the attention heads; sums to 1 over positions."""
        return self.decoder.attention_maps(self.queries(self.x), self.norm(feature_map))
