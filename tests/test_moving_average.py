"""The moving average of weights: its formula, what it leaves alone, and that the averaged weights are what is kept."""

from __future__ import annotations

import pytest
import torch
from conftest import COLOURS
from torch import nn

from zoo.model import build
from zoo.moving_average import MovingAverage
from zoo.recipe import Recipe
from zoo.runtime import Runtime
from zoo.train import Classification, fit


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("edge_index", torch.tensor([[0, 7], [1, 999]]))
        self.register_buffer("edge_weight", torch.rand(1000, generator=torch.Generator().manual_seed(0)))
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("statistic", torch.zeros(1))


def averaged(decay: float, steps: int) -> tuple[Counting, list[float]]:
    """After weights of 1, 2, 3, ..."""
    model, callback = Counting(), MovingAverage(decay)
    module = Counting()
    callback._average_model = torch.optim.swa_utils.AveragedModel(
        module, use_buffers=callback._use_buffers, **callback._kwargs
    )
    expected, value = [], 0.0
    for step in range(steps):
        model.weight.data.fill_(step + 1)
        model.statistic.fill_(step + 1)
        callback._average_model.update_parameters(model)
        share = 1 - min(decay, (1 + step) / (10 + step))
        value = step + 1 if step == 0 else value + share * (step + 1 - value)
        expected.append(value)
    return callback.model, expected


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9997])
def test_the_formula(decay):
    model, expected = averaged(decay, 40)
    torch.testing.assert_close(model.weight.detach(), torch.full((2,), expected[-1]))
    torch.testing.assert_close(model.statistic, torch.full((1,), expected[-1]), msg="running statistics too")


def test_the_label_graph_stays_as_it_is():
    model, _ = averaged(0.9999, 300)
    assert torch.equal(model.edge_index, Counting().edge_index)
    assert torch.equal(model.edge_weight, Counting().edge_weight)
    assert torch.equal(model.mask, Counting().mask)


def test_the_average_is_validated_and_kept(colours, colour_graph, tmp_path, monkeypatch):
    """Weights are noted as the validation sees them; the trained ones go on from where they were."""
    seen, trained = [], []
    own = Classification.validation_step

    def note(self, batch, batch_idx):
        if batch_idx == 0:
            seen.append({k: v.clone() for k, v in self.model.state_dict().items()})
        own(self, batch, batch_idx)

    monkeypatch.setattr(Classification, "validation_step", note)
    monkeypatch.setattr(
        Classification,
        "on_train_epoch_end",
        lambda self: trained.append({k: v.clone() for k, v in self.model.state_dict().items()}),
    )
    torch.manual_seed(0)
    model = build("mlgcn-test_efficientnet", colour_graph, img_size=32, widths=(16,))
    recipe = Recipe(epochs=3, batch_size=8, lr=1e-2, ema=0.95)
    run = fit(model, colours, recipe, tmp_path, runtime=Runtime(workers=0), progress=False)
    best = max(range(3), key=lambda epoch: run.history[epoch]["val_mAP"])
    for name, value in model.state_dict().items():
        assert torch.equal(value, seen[best][name]), name
    assert not torch.equal(
        seen[1]["head.convs.0.conv.lin.weight"], trained[1]["head.convs.0.conv.lin.weight"]
    )
    assert torch.equal(model.head.edge_index, colour_graph.edge_index)
    assert torch.equal(model.head.edge_weight, colour_graph.edge_weight)
    assert model.label_names == COLOURS
