"""Class-specific residual attention: beside the average over positions, one that looks where the label scores high.

    feature map (B,D,h,w) --1x1, unit classifiers--> scores (B,H,L,h*w)
                                                     |--> mean over positions ----------------------------.
                                                     `--> mean with weights softmax(T scores) * residual -(+)
                                                                             logits (B,L) <-- sum over H --'

Zhu and Wu, "Residual Attention: A Simple but Effective Method for Multi-Label Recognition", ICCV 2021,
https://arxiv.org/abs/2108.02456. No label graph.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from zoo.heads.head import Head
from zoo.lookup import InputError

# The paper's softmax temperatures for each number of attention heads. They multiply the scores, so that an infinite
# one takes the maximum; the authors' code writes it as 99.
TEMPERATURES: dict[int, tuple[float, ...]] = {
    1: (1.0,),
    2: (1.0, math.inf),
    4: (1.0, 2.0, 4.0, math.inf),
    6: (1.0, 2.0, 3.0, 4.0, 5.0, math.inf),
    8: (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, math.inf),
}


class CSRAHead(Head):
    """See the module's docstring. Each attention head has classifiers and a temperature of its own.

    The classifiers are divided by their norms, as in the authors' code (https://github.com/Kevinz-code/CSRA): a
    score is a projection of the position's features. It converges faster, they say, and ends the same (Table 8).

    Args:
        num_features: D.
        labels: the label space; its edges are not used.
        attention_heads: H: 1, 2, 4, 6 or 8, which sets the temperatures (:data:`TEMPERATURES`).
        residual: the paper's lambda, the weight of the attention beside the average; 0 is average pooling. The
            default, with one attention head, is the authors' for VOC 2007; for COCO they take 0.5 with six.
        dropout: share of the feature map dropped in training; the paper has none.

    Raises:
        InputError: a number of attention heads without temperatures, or a residual that is negative or not finite.
    """

    uses_positions = True

    def __init__(
        self,
        num_features: int,
        labels: Data,
        *,
        attention_heads: int = 1,
        residual: float = 0.1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_features, labels, pooling="none", dropout=dropout)
        if attention_heads not in TEMPERATURES:
            known = ", ".join(map(str, TEMPERATURES))
            raise InputError(
                f"attention_heads must be one of {known} (the paper's temperatures), not {attention_heads}"
            )
        if not 0 <= residual < math.inf:
            raise InputError(f"residual must be a finite number, 0 or greater, not {residual}")
        self.temperatures, self.residual = TEMPERATURES[attention_heads], residual
        bound = num_features**-0.5  # as a 1x1 convolution starts; only the directions matter to the logits
        weight = torch.empty(attention_heads, self.num_labels, num_features)
        self.weight = nn.Parameter(nn.init.uniform_(weight, -bound, bound))
        self.gain = 1.0

    def classify(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B L"]:
        scores = self._scores(features)
        attended = (self._attention(scores) * scores).sum(-1)
        return self.gain * (scores.mean(-1) + self.residual * attended).sum(1)

    def attention_maps(self, feature_map: Float[Tensor, "B D h w"]) -> Float[Tensor, "B L h w"]:
        """Where the attention of each label goes, averaged over the attention heads; sums to 1 over positions."""
        attention = self._attention(self._scores(self.norm(feature_map)))
        return attention.mean(1).unflatten(-1, feature_map.shape[2:])

    def standardize(
        self, mean: Float[Tensor, " D"], std: Float[Tensor, " D"], log_odds: Float[Tensor, " L"]
    ) -> None:
        """As for every head; moreover the attention heads are averaged, not summed.

        A mean weighted by its own scores is positive at any start, and there is no bias to take it back: with eight
        attention heads the sum would put all labels far above their log-odds.
        """
        super().standardize(mean, std, log_odds)
        self.gain = 1 / len(self.temperatures)

    def _scores(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B H L n"]:
        return torch.einsum("hld,bdn->bhln", F.normalize(self.weight, dim=-1), features.flatten(2))

    def _attention(self, scores: Float[Tensor, "B H L n"]) -> Float[Tensor, "B H L n"]:
        return torch.stack([_softmax(scores[:, i], t) for i, t in enumerate(self.temperatures)], dim=1)


def _softmax(scores: Float[Tensor, "B L n"], temperature: float) -> Float[Tensor, "B L n"]:
    """``softmax(temperature * scores)`` over positions, in the limit (all on the maximum) for an infinite one."""
    if math.isfinite(temperature):
        return (temperature * scores).softmax(-1)
    highest = (scores == scores.amax(-1, keepdim=True)).to(scores)
    return highest / highest.sum(-1, keepdim=True)
