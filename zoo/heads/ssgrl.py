"""One vector a label, gathered where the label's word vector says to look, then a gated network over the label graph.

    feature map (B,D,h,w) --U--.
                                * --tanh, P, a--> softmax over positions (B,L,h,w) --> label features f (B,L,D)
    label vectors (L,E) ----V--'                                                            |= h_0
                         label graph, both ways, GRU, T times (B,L,D) <---------------------'
                                      h_T, h_0 --F, tanh--> (B,L,2048) --one classifier a label--> logits (B,L)

SSGRL: Chen et al., "Learning Semantic-Specific Graph Representation for Multi-Label Image Recognition", ICCV 2019,
https://arxiv.org/abs/1908.07325. The paper's graph holds the probabilities P(c'|c); here it is whatever label graph
the head is given, self-loops included.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch_geometric.data import Data
from torch_geometric.nn import SimpleConv

from zoo.heads.head import Head, label_vectors
from zoo.lookup import InputError

# How many numbers an image may have in a tensor that is larger than what goes in and what comes out: 4 MiB of
# float32. Labels (or channels) are taken so many at a time that they keep to it, or else one at a time.
NUMBERS_AN_IMAGE = 2**20


class GatedGraph(nn.Module):
    """T rounds of messages and gated updates on the states of all labels, the same graph for every image.

    With a = [A h, A^T h], the sums over edges leaving and entering a label:
    ``z = sigmoid(W_z a + U_z h)``, ``r = sigmoid(W_r a + U_r h)``, ``h' = tanh(W_h a + U_h (r * h))``,
    ``h <- (1 - z) h + z h'``. PyG's GatedGraphConv hears one direction only and resets after U_h, so only the sums
    are PyG's. Each gate has one bias.

    Args:
        width: channels of a label's state.
        steps: T.
    """

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.sum = SimpleConv()
        self.messages = nn.Linear(2 * width, 3 * width)
        self.gates = nn.Linear(width, 2 * width, bias=False)
        self.candidate = nn.Linear(width, width, bias=False)

    def forward(
        self,
        state: Float[Tensor, "B L width"],
        edge_index: Int[Tensor, "2 M"],
        edge_weight: Float[Tensor, " M"],
    ) -> Float[Tensor, "B L width"]:
        """The states after T steps."""
        for _ in range(self.steps):
            both_ways = [self.neighbours(state, e, edge_weight) for e in (edge_index.flip(0), edge_index)]
            update, reset, candidate = self.messages(torch.cat(both_ways, 2)).chunk(3, 2)
            from_update, from_reset = self.gates(state).chunk(2, 2)
            update, reset = (update + from_update).sigmoid(), (reset + from_reset).sigmoid()
            state = state + update * ((candidate + self.candidate(reset * state)).tanh() - state)
        return state

    def neighbours(
        self,
        state: Float[Tensor, "B L width"],
        edge_index: Int[Tensor, "2 M"],
        edge_weight: Float[Tensor, " M"],
    ) -> Float[Tensor, "B L width"]:
        """The weighted sums of a label's neighbours, without ever holding the messages (B, M, width) of all edges.

        For PyG this is a static graph, shared by the images: B disjoint copies of it, without making them.
        """
        channels = max(1, NUMBERS_AN_IMAGE // edge_weight.size(0))
        return torch.cat([self.sum(part, edge_index, edge_weight) for part in state.split(channels, 2)], 2)


def _bilinear_scores(
    image: Float[Tensor, "B P joint"], words: Float[Tensor, "C joint"], weight: Float[Tensor, " joint"]
) -> Float[Tensor, "B C P"]:
    return (image[:, None] * words[:, None]).tanh_() @ weight


class SSGRLHead(Head):
    """See the module's docstring.

    Memory: the paper's joint embedding of labels and positions, (B, L, h*w, 1024), never exists: labels are taken a
    few at a time, and what they need is computed again for the gradient.

    Args:
        num_features: D.
        labels: the label graph, with label vectors ``x`` (L, E). It becomes buffers, saved with the weights.
        attention_width: d_1 = d_2, channels in which image and word vectors meet.
        width: channels of a label's state; by default D, as in the paper. Any other comes from a 1x1 convolution
            in front of everything.
        output_width: channels of a label's output, from which it is classified.
        steps: T, how often labels hear from their neighbours; 1 or more.
        dropout: share of the feature map's entries dropped in training; the paper has none.

    Raises:
        InputError: no label vectors, or no steps.
    """

    uses_graph = True
    uses_positions = True
    x: Tensor
    edge_index: Tensor
    edge_weight: Tensor

    def __init__(
        self,
        num_features: int,
        labels: Data,
        *,
        attention_width: int = 1024,
        width: int | None = None,
        output_width: int = 2048,
        steps: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_features, labels, pooling="none", dropout=dropout)
        embedding = label_vectors(labels).size(1)
        if steps < 1:
            raise InputError(
                f"steps must be 1 or more, not {steps}: without any, the label graph has no part"
            )
        for name in ("x", "edge_index", "edge_weight"):
            self.register_buffer(name, getattr(labels, name).clone())
        self.resize = nn.Identity() if width is None else nn.Conv2d(num_features, width, 1)
        width = width or num_features
        # Biases of P and a would move the scores of all positions alike, which the softmax undoes: there are none.
        self.from_image = nn.Linear(width, attention_width, bias=False)
        self.from_words = nn.Linear(embedding, attention_width, bias=False)
        self.joint = nn.Linear(attention_width, attention_width, bias=False)
        self.attend = nn.Linear(attention_width, 1, bias=False)
        self.interaction = GatedGraph(width, steps)
        self.output = nn.Linear(2 * width, output_width)
        self.classifier = nn.Parameter(torch.empty(self.num_labels, output_width))
        nn.init.uniform_(self.classifier, -(output_width**-0.5), output_width**-0.5)
        self.bias = nn.Parameter(torch.zeros(self.num_labels))

    def classify(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B L"]:
        positions = self.resize(features).flatten(2).mT
        state = self.attention(positions) @ positions
        reasoned = self.interaction(state, self.edge_index, self.edge_weight)
        outputs = self.output(torch.cat([reasoned, state], 2)).tanh()
        return (outputs * self.classifier).sum(2) + self.bias

    def attention(self, positions: Float[Tensor, "B P width"]) -> Float[Tensor, "B L P"]:
        """The share of each position in the features of each label."""
        image, words = self.from_image(positions), self.from_words(self.x)
        weight = (self.attend.weight @ self.joint.weight)[0]  # both are linear: P acts on no position
        labels_at_once = max(1, NUMBERS_AN_IMAGE // (image.size(1) * image.size(2)))
        scores = [
            checkpoint(_bilinear_scores, image, part, weight, use_reentrant=False, preserve_rng_state=False)
            for part in words.split(labels_at_once)
        ]
        return torch.cat(scores, 1).float().softmax(2).to(positions.dtype)

    def attention_maps(self, feature_map: Float[Tensor, "B D h w"]) -> Float[Tensor, "B L h w"]:
        """Where each label looks; over the positions of an image, its map sums to 1."""
        positions = self.resize(self.norm(feature_map)).flatten(2).mT
        return self.attention(positions).unflatten(2, feature_map.shape[2:])
