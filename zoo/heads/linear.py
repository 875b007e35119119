"""One linear layer on pooled features: the baseline that every label graph has to beat.

    feature map (B,D,h,w) --pool--> (B,D) --weight (L,D), bias (L)--> logits (B,L)

It is also what a folded graph head becomes. With L2 chosen on validation it is a strong baseline; max pooling
alone took ResNet-101 on COCO from 77.3 to 81.9 mAP in ML-GCN's own experiments
(Chen et al., CVPR 2019, https://arxiv.org/abs/1904.03582).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch_geometric.data import Data

from zoo.heads.head import Head


class LinearHead(Head):
    """See the module's docstring.

    Args:
        num_features: D.
        labels: the label space; its edges are not used.
        pooling: ``avg``, ``max`` or ``gem``.
        dropout: share of the pooled features dropped in training.
        bias: whether each label has a bias.
    """

    def __init__(
        self,
        num_features: int,
        labels: Data,
        *,
        pooling: str = "avg",
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, labels, pooling=pooling, dropout=dropout)
        self.linear = nn.Linear(num_features, self.num_labels, bias=bias)

    def classifiers(self) -> Float[Tensor, "L D"]:
        return self.linear.weight

    def classifier_bias(self) -> Float[Tensor, " L"] | None:
        return self.linear.bias
