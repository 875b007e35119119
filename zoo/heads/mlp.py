"""A multi-layer perceptron on pooled features: the baseline with more parameters, and no label graph.

    feature map (B,D,h,w) --pool--> (B,D) --Linear, ReLU--> (B,H) --Linear--> logits (B,L)

What a graph head gains over ``linear`` but not over this one, it gained by its size.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch_geometric.data import Data

from zoo.heads.head import Head


class MLPHead(Head):
    """See the module's docstring.

    Args:
        num_features: D.
        labels: the label space; its edges are not used.
        widths: sizes of the hidden layers, one or more.
        pooling: ``avg``, ``max`` or ``gem``.
        dropout: share dropped, of the pooled features and of each hidden layer, in training.
    """

    def __init__(
        self,
        num_features: int,
        labels: Data,
        *,
        widths: Sequence[int] = (1024,),
        pooling: str = "avg",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_features, labels, pooling=pooling, dropout=dropout)
        sizes = [num_features, *widths]
        layers: list[nn.Module] = []
        for size_in, size_out in itertools.pairwise(sizes):
            layers += [nn.Linear(size_in, size_out), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], self.num_labels))

    def classify(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B L"]:
        return self.layers(features)
