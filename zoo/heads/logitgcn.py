"""A linear classifier whose logits a graph convolutional network over the label graph refines, image by image.

    feature map (B,D,h,w) --pool, Linear--> logits (B,L)
    logits (B,L) --as one channel of B copies of the label graph--> (B·L,1)
                 --GCN, LeakyReLU 0.2--> (B·L,10) --GCN, LeakyReLU 0.2--> (B·L,10) --GCN--> (B·L,1)
    logits (B,L) + gate * what the network says (B,L) --> logits (B,L)

Rawlekar et al., "Improving Multi-label Recognition using Class Co-Occurrence Probabilities", ICPR 2024,
https://arxiv.org/abs/2404.16193, with the sizes of the authors' code (https://github.com/SamyakR99/MLR-GCN): widths
(10, 10) on COCO, (10, 20) on VOC, (5, 10) on FoodSeg103, no biases, the network's output added to its input.

What differs: their logits are CLIP's, pooled over each label's own regions, two a label, of a learned positive and a
learned negative prompt, and the same network refines both; here a linear layer gives their difference, one log-odds a
label. They weigh what label m hears from n by P(n|m) without a threshold, its neighbours sharing 0.25 beside 0.8 of
its own; here it is the label graph's weight of n -> m, which stands for P(m|n). They train with an asymmetric loss
re-weighted for rare labels; here any loss will do. Known labels are ours, and so is the gate: it starts at zero (as
in Bachlechner et al., 2021, https://arxiv.org/abs/2003.04887), so that the head starts as ``linear``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from zoo.convs import build_conv, conv_name, conv_spec
from zoo.heads.head import Head
from zoo.lookup import InputError


class LogitGCNHead(Head):
    """See the module's docstring.

    It concludes from known labels to others: their logits are set to what is known before the network reads them,
    and in its result.

    The refinement is not linear in the logits, so the head does not fold. (Without ``widths``, and with a linear
    convolution, it is one affine map that a linear layer could hold; the head is not folded then either.)

    Args:
        num_features: D.
        labels: the label graph; its edges become buffers, its label vectors are not used.
        conv: a convolution of :data:`zoo.convs.CONVS` by name, or a class of your own, that reads neighbours only.
        widths: channels between the convolutions; ``len(widths) + 1`` layers. The largest tensor of a batch has
            B x (edges) x (largest width) entries.
        hops: how far a convolution reaches, where it has that option.
        attention_heads: where a convolution has them.
        confidence: the probability that a known label is taken to have, in (0.5, 1); a label known to be absent
            has the rest. Certainty would be an infinite logit.
        pooling: ``avg``, ``max`` or ``gem``.
        dropout: share of the pooled features dropped in training.
        bias: whether each label has a bias.

    Raises:
        InputError: a convolution that would mix the images of a batch, or a confidence out of its range.
    """

    uses_graph = True
    edge_index: Tensor
    edge_weight: Tensor

    def __init__(
        self,
        num_features: int,
        labels: Data,
        *,
        conv: str | Callable[[int, int], nn.Module] = "GCNConv",
        widths: Sequence[int] = (10, 10),
        hops: int | None = None,
        attention_heads: int | None = None,
        confidence: float = 0.99,
        pooling: str = "avg",
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, labels, pooling=pooling, dropout=dropout)
        if not conv_spec(conv).local:
            raise InputError(
                f"conv {conv_name(conv)!r} looks beyond neighbours, so it would mix the images of a batch, "
                "which are copies of the label graph side by side: choose another, such as GCNConv"
            )
        if not 0.5 < confidence < 1:
            raise InputError(f"confidence must lie in (0.5, 1), not {confidence}: it is a probability")
        self.known_logit = math.log(confidence / (1 - confidence))
        for name in ("edge_index", "edge_weight"):
            self.register_buffer(name, getattr(labels, name).clone())
        self.linear = nn.Linear(num_features, self.num_labels, bias=bias)
        self.convs = nn.ModuleList(
            build_conv(conv, size_in, size_out, hops=hops, attention_heads=attention_heads)
            for size_in, size_out in itertools.pairwise([1, *widths, 1])
        )
        self.gate = nn.Parameter(torch.zeros(()))

    def classify(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B L"]:
        return self.linear(features)

    def refine(self, logits: Float[Tensor, "B L"], known: Int[Tensor, "B L"] | None) -> Float[Tensor, "B L"]:
        """The logits, and what those of their neighbours say of them; known labels have the logit of ``confidence``.

        Args:
            logits: (B, L), with the labels' log-odds where the head was standardised.
            known: what is known of the labels already, 1 present, 0 absent, -1 not known.
        """
        logits = self._as_known(logits, known)
        return self._as_known(logits + self.gate * self._propagate(logits), known)

    def _as_known(self, logits: Tensor, known: Tensor | None) -> Tensor:
        if known is None:
            return logits
        return torch.where(known < 0, logits, self.known_logit * (2 * known - 1).to(logits.dtype))

    def _propagate(self, logits: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
        """The network, on B copies of the label graph that no edge joins: right for every local convolution."""
        batch = logits.size(0)
        first_node = self.num_labels * torch.arange(batch, device=logits.device)
        edge_index = (self.edge_index[:, None] + first_node[:, None]).flatten(1)  # (2, B, M) to (2, B·M)
        edge_weight = self.edge_weight.repeat(batch)
        x = logits.reshape(-1, 1)
        for i, conv in enumerate(self.convs):
            x = conv(F.leaky_relu(x, 0.2) if i else x, edge_index, edge_weight)
        return x.view(batch, self.num_labels)
