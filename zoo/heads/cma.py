"""One vector a label, averaged over the positions that lie near the label's own vector, on one or more feature levels.

    feature map (B,D,h,w) --1x1 convolutions--> (B,E,h,w) --cosine--> ReLU, sum to 1 --> attention (B,L,h,w)
          |                 label vectors (L,E) ------------'                                    |
          '--one classifier a label (B,L,h,w)--> average over positions, so weighted <-----------'
                                                          '--> logits (B,L), averaged over the levels

MS-CMA: You et al., "Cross-Modality Attention with Semantic Graph Embedding for Multi-Label Classification", AAAI 2020,
https://arxiv.org/abs/1912.07872. The authors published no code. Theirs: label vectors fitted to the label graph
(:mod:`zoo.asge`), attention from cosines without the negative ones, several levels. Ours: one hidden layer in the
projection, and its mean over positions taken away; the plain average for a label that lies near no position; levels
that share nothing but the label vectors.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from zoo.asge import asge
from zoo.heads.head import Head, label_vectors
from zoo.lookup import InputError, lookup

# Where the label vectors (L, E) come from: functions of the label graph and E.
VECTORS: dict[str, Callable[[Data, int], Tensor]] = {
    "asge": lambda labels, dim: asge(labels.edge_index, labels.edge_weight, len(labels.label_names), dim=dim),
    "given": lambda labels, dim: label_vectors(labels).clone(),
}


class FeatureLevel(nn.Module):
    """The attention and the classifiers of one feature level.

    Args:
        num_features: channels of its map.
        num_labels: L.
        sizes: channels of the projection's layers; the last is E.
        centered: whether the projection's mean over positions is taken away.
    """

    def __init__(self, num_features: int, num_labels: int, sizes: Sequence[int], centered: bool) -> None:
        super().__init__()
        self.centered = centered
        *hidden, last = itertools.pairwise([num_features, *sizes])
        layers: list[nn.Module] = []
        for size_in, size_out in hidden:
            layers += [nn.Conv2d(size_in, size_out, 1), nn.ReLU()]
        # A bias would be taken away with the mean.
        self.projection = nn.Sequential(*layers, nn.Conv2d(*last, 1, bias=not centered))
        self.classifiers = nn.Conv2d(num_features, num_labels, 1)
        nn.init.zeros_(self.classifiers.get_parameter("bias"))

    def forward(self, features: Float[Tensor, "B D h w"], x: Float[Tensor, "L E"]) -> Float[Tensor, "B L"]:
        # A classifier of the average is the average of the classifier: nothing here is (B, L, D).
        return (self.attention(features, x) * self.classifiers(features)).sum(dim=(2, 3))

    def attention(
        self, features: Float[Tensor, "B D h w"], x: Float[Tensor, "L E"]
    ) -> Float[Tensor, "B L h w"]:
        """Where each label looks; not negative, sums to 1 over positions."""
        positions = self.projection(features).float()
        if self.centered:
            positions = positions - positions.mean(dim=(2, 3), keepdim=True)
        cosines = torch.einsum("le,behw->blhw", F.normalize(x.float(), dim=1), F.normalize(positions, dim=1))
        weights = cosines.float().relu()
        total = weights.sum(dim=(2, 3), keepdim=True)
        # So small a sum has no shape, and dividing by it would let gradients out of every range.
        average = torch.full_like(weights, 1 / weights[0, 0].numel())
        return torch.where(total > 1e-4, weights / total.clamp(min=1e-4), average)


class CMAHead(Head):
    """See the module's docstring.

    Args:
        num_features: D; with several levels the channels of each level's map, the last of them D.
        labels: the label graph. From its edges, or as its vectors, come the label vectors, saved with the weights.
        vectors: ``asge`` (the paper's: fitted to the graph's edges) or ``given`` (those of the label graph).
        dim: E, length of the ASGE vectors; given ones have their own.
        widths: channels between the 1x1 convolutions of the projection; ``()`` is one convolution.
        centered: whether each image's mean over positions is taken away from the projection. Then every label lies
            near some position. Otherwise training may move all positions away from a label, where no gradient
            reaches it any more: a third to nearly all of the attention ended like that on 900 COCO photos.
        levels: feature maps from so many stages of the backbone; the paper has several.
        dropout: share of the feature maps' entries dropped in training.

    Raises:
        InputError: unknown vectors or none given, or not one number of channels for each level.
    """

    uses_graph = True
    uses_positions = True
    x: Tensor

    def __init__(
        self,
        num_features: int | Sequence[int],
        labels: Data,
        *,
        vectors: str = "asge",
        dim: int = 300,
        widths: Sequence[int] = (512,),
        centered: bool = True,
        levels: int = 1,
        dropout: float = 0.0,
    ) -> None:
        channels = [num_features] if isinstance(num_features, int) else list(num_features)
        if len(channels) != levels:
            raise InputError(
                f"levels={levels} takes the channels of {levels} feature maps, not {channels}: "
                f"those of Backbone(name, levels={levels}).level_features"
            )
        super().__init__(channels[-1], labels, pooling="none", dropout=dropout)
        self.register_buffer("x", lookup("label vectors", vectors, VECTORS)(labels, dim))
        sizes = [*widths, self.x.size(1)]
        self.levels = nn.ModuleList(FeatureLevel(n, self.num_labels, sizes, centered) for n in channels)

    def forward(
        self,
        feature_map: Float[Tensor, "B D h w"] | Sequence[Float[Tensor, "B _ _ _"]],
        known: Int[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L"]:
        """As for every head; with several levels, of the list of their maps."""
        if isinstance(feature_map, Tensor):
            return super().forward(feature_map, known)
        *earlier, last = feature_map
        logits = self._mean_logits([self.dropout(m) for m in (*earlier, self.norm(last))])
        return self.refine(logits if self.offset is None else logits + self.offset, known)

    def classify(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B L"]:
        return self._mean_logits([features])

    def attention_maps(
        self, feature_map: Float[Tensor, "B D h w"] | Sequence[Float[Tensor, "B _ _ _"]]
    ) -> Float[Tensor, "B L h w"]:
        """Where each label looks; not negative, sums to 1 over positions.

        With several levels, the mean of their maps, those of the coarser levels enlarged to the finest one's size.
        """
        *earlier, last = [feature_map] if isinstance(feature_map, Tensor) else feature_map
        maps = [level.attention(m, self.x) for level, m in self._pairs([*earlier, self.norm(last)])]
        enlarged = torch.stack([F.interpolate(m, maps[0].shape[2:], mode="bilinear") for m in maps])
        return (enlarged / enlarged.sum(dim=(3, 4), keepdim=True)).mean(0)

    def _mean_logits(self, maps: Sequence[Tensor]) -> Float[Tensor, "B L"]:
        return torch.stack([level(m, self.x) for level, m in self._pairs(maps)]).mean(0)

    def _pairs(self, maps: Sequence[Tensor]) -> list[tuple[Any, Tensor]]:
        if len(maps) != len(self.levels):
            raise InputError(
                f"this head takes {len(self.levels)} feature maps, not {len(maps)}: "
                f"Backbone(name, levels={len(self.levels)}) gives them"
            )
        return list(zip(self.levels, maps, strict=True))
