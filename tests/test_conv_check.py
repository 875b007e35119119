"""zoo.check_conv finds every fault that a convolution can have, and says what to do about it."""

from __future__ import annotations

import re

import pytest
import torch
import torch_geometric.nn.conv as pyg
from torch import nn

from zoo import conv_check
from zoo.conv_check import check_conv


class Scaled(nn.Module):
    """What a user would write: S x W."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, x, edge_index, edge_weight):
        messages = self.linear(x)[edge_index[0]] * edge_weight[:, None]
        return messages.new_zeros(len(x), messages.size(1)).index_add(0, edge_index[1], messages)


class TwoArguments(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()

    def forward(self, x, edge_index):
        return x


class IgnoresWeights(Scaled):
    def forward(self, x, edge_index, edge_weight):
        return super().forward(x, edge_index, torch.ones_like(edge_weight))


class WrongDirection(Scaled):
    def forward(self, x, edge_index, edge_weight):
        return super().forward(x, edge_index.flip(0), edge_weight)


class DeadParameter(Scaled):
    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels)
        self.unused = nn.Parameter(torch.ones(3))


class NotAGradient(Scaled):
    def forward(self, x, edge_index, edge_weight):
        return super().forward(x, edge_index, edge_weight) + 0 * (self.linear.weight * 0).norm().sqrt()


class OneWidth(Scaled):
    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, in_channels)


class NumbersLabels(Scaled):
    def forward(self, x, edge_index, edge_weight):
        return super().forward(x, edge_index, edge_weight) + torch.arange(len(x)).to(x)[:, None]


class BranchesOnValues(Scaled):
    def forward(self, x, edge_index, edge_weight):
        return super().forward(x.relu() if x.sum() > 0 else x, edge_index, edge_weight)


class KeepsCache(Scaled):
    cache = None

    def forward(self, x, edge_index, edge_weight):
        if self.cache is None:
            self.cache = super().forward(x, edge_index, edge_weight).detach()
        return super().forward(x, edge_index, edge_weight) + self.cache * torch.rand(())


class Float32Only(Scaled):
    def forward(self, x, edge_index, edge_weight):
        return super().forward(x, edge_index, edge_weight).float()


class Raises(Scaled):
    def forward(self, x, edge_index, edge_weight):
        raise ZeroDivisionError("no edges left")


@pytest.mark.parametrize("conv", [Scaled, "GCNConv", "GATConv", pyg.SGConv])
def test_check_conv_passes_a_good_one(conv):
    report = check_conv(conv)
    assert report.ok
    assert all(getattr(report, check) for check in conv_check._CHECKS)
    assert "every check passed" in str(report)
    assert "FAIL" not in str(report)


@pytest.mark.filterwarnings("ignore:The tensor attribute self.conv.cache")
@pytest.mark.parametrize(
    ("conv", "check", "words"),
    [
        (
            IgnoresWeights,
            "edge_weights",
            "label 1 did not move when the weight .* Multiply messages by edge_weight",
        ),
        (WrongDirection, "direction", "label 1 did not move when label 0 did.* Aggregate at the target"),
        (DeadParameter, "gradients", "no gradient reaches conv.unused. Remove parameters"),
        (NotAGradient, "gradients", "not finite at conv.linear.weight"),
        (OneWidth, "widths", r"12 -> 8 channels gave the shape \(6, 12\). .*keeps_width=True"),
        (NumbersLabels, "equivariance", "permuting the labels changed .* No parameter, mask"),
        (KeepsCache, "state_dict", "same state_dict gave another result"),
        (BranchesOnValues, "export", r"It raised .*[^.]\. Avoid Python branches"),
        (Float32Only, "float64", "float64 came out as torch.float32"),
        (Raises, "shape", "It raised ZeroDivisionError: no edges left"),
        (TwoArguments, "builds", r"a conv is called as TwoArguments\.forward\(x, edge_index, edge_weight\)"),
        ("SAGEConv", "builds", "conv 'SAGEConv' cannot use edge weights"),
    ],
)
def test_check_conv_explains_a_bad_one(conv, check, words):
    report = check_conv(conv)
    assert not report.ok
    assert not getattr(report, check)
    if conv in (DeadParameter, IgnoresWeights, Float32Only):
        assert list(report.advice) == [check]  # one fault, one finding
    assert re.search(words, report.advice[check])
    assert re.search(f"FAIL  {check} .*\n.*{words}", str(report))


def test_check_conv_without_a_module_tries_nothing_else():
    assert not check_conv(TwoArguments).shape
    assert "  -   shape" in str(check_conv(TwoArguments))


def test_check_conv_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    check_conv(Scaled)
    assert torch.equal(torch.get_rng_state(), state)
