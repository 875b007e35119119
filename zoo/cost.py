"""What a head costs: its parameters, and the floating-point operations (FLOPs) of one pass, counted while it runs.

    FLOPs of 1 image, FLOPs of 2 images  -->  FLOPs of B images = once + B * each image

What is spent once makes the same for every image: classifiers generated from the label graph, queries projected.
A head that folds saves it.

Counted are matrix products and convolutions, a multiplication and an addition for each of their terms
(:class:`torch.utils.flop_counter.FlopCounterMode`), and sums over edges, likewise: each number that an edge carries is
weighted and added. Left out is what touches each number once: pooling, norms, activations, softmax, biases.
The head runs on the meta device, which has shapes and no numbers, so that a large one costs no more than a small one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torch_geometric.data import Data

from zoo.backbones import Backbone
from zoo.heads import Head, build_head
from zoo.lookup import InputError


@dataclass(frozen=True)
class HeadCost:
    """What :func:`head_cost` counts.

    Attributes:
        parameters: learned numbers.
        flops_image: FLOPs of each image, beside the backbone's.
        flops_once: FLOPs of a pass whatever the number of images.
    """

    parameters: int
    flops_image: int
    flops_once: int


def head_cost(name: str, num_features: int, labels: Data, map_size: int = 14, /, **options: Any) -> HeadCost:
    """Counts parameters and FLOPs of a head, in evaluation mode and with nothing known of the labels.

    Args:
        name: an entry of :data:`zoo.heads.HEADS`.
        num_features: D, channels of the feature map.
        labels: the label graph.
        map_size: h and w of the feature map; 14 is what stride 32 makes of 448 pixels.
        options: of that head; see :func:`zoo.heads.head_options`.

    Raises:
        InputError: no such head or option, or a feature map without channels or positions.
    """
    if num_features < 1 or map_size < 1:
        raise InputError(f"num_features and map_size must be 1 or more, not {num_features} and {map_size}")
    try:
        return _count("meta", name, num_features, labels, map_size, options)
    except (RuntimeError, TypeError):
        # A head of a user's own may look at numbers, and there are none there.
        return _count("cpu", name, num_features, labels, map_size, options)


def backbone_size(name: str) -> tuple[int, int]:
    """D, the channels of its feature map, and how many parameters it has; built on the meta device.

    Raises:
        InputError: no such backbone.
    """
    with torch.device("meta"):
        backbone = Backbone(name)
    return backbone.num_features, _num_parameters(backbone)


def _count(
    device: str, name: str, num_features: int, labels: Data, map_size: int, options: dict[str, Any]
) -> HeadCost:
    with torch.device(device):  # of the parameters; what the head takes from the labels follows
        head = build_head(name, num_features, labels, **options)
    head.to(device).eval()
    one, two = (
        # In a copy: a head keeps what it need not compute twice.
        _flops(copy.deepcopy(head), torch.zeros(images, num_features, map_size, map_size, device=device))
        for images in (1, 2)
    )
    return HeadCost(_num_parameters(head), flops_image=two - one, flops_once=2 * one - two)


def _num_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _flops(head: Head, feature_map: Tensor) -> int:
    # Attention as the products that it is: which of its fused kernels torch counts depends on the version.
    plain = sdpa_kernel(SDPBackend.MATH)
    with torch.no_grad(), plain, FlopCounterMode(display=False, custom_mapping=ALSO_COUNTED) as counter:
        head(feature_map)
    return counter.get_total_flops()


def _edge_flops(_out: Shape, _axis: int, _index: Shape, source: Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(source)


def _matrix_vector_flops(matrix: Shape, _vector: Shape, **_: Any) -> int:
    return 2 * math.prod(matrix)


Shape = Sequence[int]
_aten = torch.ops.aten
# What torch does not count by itself, and message passing and products with one vector consist of.
ALSO_COUNTED = {
    _aten.index_add: _edge_flops,
    _aten.index_add_: _edge_flops,
    _aten.scatter_add: _edge_flops,
    _aten.scatter_add_: _edge_flops,
    _aten.scatter_reduce: _edge_flops,
    _aten.scatter_reduce_: _edge_flops,
    _aten.mv: _matrix_vector_flops,
}
