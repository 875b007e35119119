"""Heads of a size for tests: their options, a label graph of seven labels, and what is done to them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from zoo.heads import HEADS, build_head, list_heads
from zoo.heads.head import Head

NUM_FEATURES = 8
NUM_LABELS = 7  # no other axis of a small head has this length: whichever has it belongs to the labels
EMBEDDING = 5

# Options that make a head small where its paper's sizes are not: head -> options.
SMALL: dict[str, dict[str, Any]] = {
    "addgcn": {"width": 12},
    "agcn": {"width": 6, "candidates": 2, "widths": (16,)},
    "cma": {"vectors": "given", "widths": (12,)},
    "csra": {"attention_heads": 4},
    "gatn": {"attention_heads": 3, "attention_width": 12, "widths": (16,)},
    "mldecoder": {"width": 12, "attention_heads": 3, "feedforward_width": 10},
    "mldecoder_words": {"width": 12, "attention_heads": 3, "feedforward_width": 10},
    "q2l": {"width": 12, "attention_heads": 3, "feedforward_width": 10},
    "ssgrl": {"attention_width": 10, "output_width": 12},
}


def small_head(name: str, num_features: int, labels: Data, **options: Any) -> Head:
    """A head by name, small; further options as for :func:`zoo.heads.build_head`."""
    return build_head(name, num_features, labels, **(SMALL.get(name, {}) | options))


def entry_class(name: str) -> type[Head]:
    """The class behind an entry of HEADS."""
    entry: Any = HEADS[name]
    return getattr(entry, "func", entry)


# Those whose classifiers are the same for every image.
FOLDING = [name for name in list_heads() if entry_class(name).classifiers is not Head.classifiers]


def graph_of(weights: Tensor, x: Tensor) -> Data:
    """The label graph of a matrix (source, target)."""
    edge_index = weights.nonzero().T.contiguous()
    names = [f"label {i}" for i in range(len(weights))]
    edge_weight = weights[edge_index[0], edge_index[1]]
    # Any weights can be read as couplings, which one head insists on.
    recipe = {"edges": "couplings"}
    return Data(x=x, edge_index=edge_index, edge_weight=edge_weight, label_names=names, recipe=recipe)


def perturb(module: nn.Module) -> None:
    """Moves every parameter away from its initial value, zeros and ones included."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
