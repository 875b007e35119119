"""The heads without a graph against their formulas."""

from __future__ import annotations

import pytest
import torch
from small_heads import NUM_FEATURES, perturb
from torch import Tensor
from torch_geometric.data import Data

from zoo.heads import build_head, head_options
from zoo.heads.head import Head


def linear_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    p = dict(head.named_parameters())
    return feature_map.mean((2, 3)) @ p["linear.weight"].T + p["linear.bias"]


def mlp_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    p = dict(head.named_parameters())
    hidden = (feature_map.mean((2, 3)) @ p["layers.0.weight"].T + p["layers.0.bias"]).clamp(min=0)
    return hidden @ p["layers.3.weight"].T + p["layers.3.bias"]


FORMULAS = {"linear": linear_logits, "mlp": mlp_logits}


@pytest.mark.parametrize("name", FORMULAS)
def test_logits_equal_the_formula(name, graph, weights, feature_map):
    head = build_head(name, NUM_FEATURES, graph)
    perturb(head)
    expected = FORMULAS[name](head, graph, weights, feature_map)
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-4)


def test_options():
    assert head_options("linear") == {"pooling": "avg", "dropout": 0.0, "bias": True}
    assert head_options("mlp") == {"widths": (1024,), "pooling": "avg", "dropout": 0.0}
