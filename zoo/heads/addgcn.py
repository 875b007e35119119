"""One vector a label from where its evidence lies in the image, and two graph convolutions between those vectors.

    feature map (B,D,h,w) --1x1--> activation maps (B,L,h,w) --max over positions--------------> scores (B,L) -.
                 |                      | sigmoid                                                              |
                 `--1x1--> (B,width,h,w) * masks, summed over positions --> label vectors V (B,L,width)       mean
                                                                                |                              |
      static graph (L,L) --> H = V + LReLU(A_s V W_s) --> graphs A_d (B,L,L), one an image                     |
                             Z = V + LReLU(A_d H W_d) --> one classifier a label ----------> scores (B,L) -----'

ADD-GCN: Ye et al., "Attention-Driven Dynamic Graph Convolutional Network for Multi-Label Image Recognition",
ECCV 2020, https://arxiv.org/abs/2012.02994. Both graphs are learned, so no label graph goes in.

The two residuals are those of the authors' code. It has moreover a LeakyReLU between each graph and its weights,
and batch normalization of the global vector, which are left out: the first is not in the paper's equations, the
second makes the logits of an image depend on its batch and fails on a batch of one.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from zoo.heads.head import Head


class AddGCNHead(Head):
    """See the module's docstring.

    Memory: the static graph has L^2 parameters, and the graphs of a batch are a dense (B, L, L), next to label
    vectors (B, L, width). At 3,000 labels that is 36 MB of parameters and 36 MB an image, in float32.

    Args:
        num_features: D.
        labels: the label space; its edges are not used.
        width: channels of the label vectors.
        dropout: share of the feature map's entries dropped in training; the paper has none.
    """

    uses_positions = True

    def __init__(self, num_features: int, labels: Data, *, width: int = 1024, dropout: float = 0.0) -> None:
        super().__init__(num_features, labels, pooling="none", dropout=dropout)
        num_labels = self.num_labels
        self.activation = nn.Conv2d(num_features, num_labels, 1, bias=False)
        self.transform = nn.Conv2d(num_features, width, 1)
        self.static_graph = nn.Parameter(torch.empty(num_labels, num_labels))
        nn.init.uniform_(self.static_graph, -(num_labels**-0.5), num_labels**-0.5)
        self.static_layer = nn.Linear(width, width)
        self.global_layer = nn.Linear(width, width)
        # W_A of [local; global] in two parts, so that the global half is computed once an image, not L times.
        self.local_links = nn.Linear(width, num_labels)
        self.global_links = nn.Linear(width, num_labels, bias=False)
        self.dynamic_layer = nn.Linear(width, width)
        self.classifier = nn.Parameter(torch.empty(num_labels, width))
        nn.init.uniform_(self.classifier, -(width**-0.5), width**-0.5)
        self.bias = nn.Parameter(torch.zeros(num_labels))

    def standardize(
        self, mean: Float[Tensor, " D"], std: Float[Tensor, " D"], log_odds: Float[Tensor, " L"]
    ) -> None:
        """As for every head; moreover activation maps start at a tenth of their size, and graph vectors unheard.

        The maximum over positions of what is noise at first is an offset of all logits; and the paper's graph is a
        sum over labels with weights near 1/2, which grows with L. Here weights start near 1/L, a mean over labels,
        and the classifiers of its vectors at zero.
        """
        super().standardize(mean, std, log_odds)
        bound = 0.1 * self.num_features**-0.5
        nn.init.uniform_(self.activation.weight, -bound, bound)
        nn.init.constant_(self.local_links.bias, -math.log(self.num_labels))
        nn.init.zeros_(self.classifier)

    def classify(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B L"]:
        maps = self.activation(features)
        vectors = maps.sigmoid().flatten(2) @ self.transform(features).flatten(2).mT  # sums over positions
        reasoned = (self.propagate(vectors) * self.classifier).sum(2) + self.bias
        return (maps.amax((2, 3)) + reasoned) / 2

    def propagate(self, vectors: Float[Tensor, "B L width"]) -> Float[Tensor, "B L width"]:
        """Both graph convolutions. Every label is linked with every other, so a graph is a matrix product."""
        static = F.leaky_relu(self.static_layer(self.static_graph @ vectors), 0.2)
        hidden = vectors + static
        return vectors + F.leaky_relu(self.dynamic_layer(self.dynamic_graphs(hidden) @ hidden), 0.2)

    def dynamic_graphs(self, hidden: Float[Tensor, "B L width"]) -> Float[Tensor, "B L L"]:
        """A_d: row i holds the weights in (0, 1) with which label i receives from every label."""
        whole = F.leaky_relu(self.global_layer(hidden.mean(1, keepdim=True)), 0.2)
        return (self.local_links(hidden) + self.global_links(whole)).sigmoid()

    def attention_maps(self, feature_map: Float[Tensor, "B D h w"]) -> Float[Tensor, "B L h w"]:
        """The masks by which each label gathers its vector: in (0, 1), and not normalised over positions."""
        return self.activation(self.norm(feature_map)).sigmoid()
