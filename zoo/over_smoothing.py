"""Over-smoothing: how alike a graph head's labels become, layer by layer.

Each convolution averages a label with its neighbours. After many of them all labels are one, and so are their
classifiers (Li et al., "Deeper Insights into Graph Convolutional Networks", AAAI 2018, https://arxiv.org/abs/1801.07606).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from zoo.heads.graph_head import GraphHead


def mean_similarity(vectors: Float[Tensor, "L D"]) -> float:
    """Mean cosine similarity of two different labels' vectors: 1 where all are alike, about 0 where none are."""
    units = F.normalize(vectors.double(), dim=1)
    count = len(units)
    # The sum over all pairs is the square of the sum; what a label shares with itself, 1, is taken off.
    return float((units.sum(0).square().sum() - units.square().sum()) / max(count * (count - 1), 1))


@torch.no_grad()
def label_similarities(head: GraphHead) -> list[float]:
    """:func:`mean_similarity` of the label vectors that come in, and of what each convolution makes of them."""
    layers: list[Tensor] = [head.x]
    hooks = [conv.register_forward_hook(lambda _, __, out: layers.append(out)) for conv in head.convs]
    try:
        head.classifiers()
    finally:
        for hook in hooks:
            hook.remove()
    return [round(mean_similarity(layer), 4) for layer in layers]
