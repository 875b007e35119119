"""Recipes: what is refused, and that optimizers and schedules do what they are called."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from zoo.lookup import InputError
from zoo.recipe import OPTIMIZERS, SCHEDULES, Recipe, build_optimizer, build_schedule


def rates(recipe: Recipe, steps: int) -> list[float]:
    """The learning rate of every step, as a share of the recipe's."""
    optimizer = build_optimizer(nn.Linear(1, 1), recipe)
    schedule = build_schedule(optimizer, recipe, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"] / recipe.lr)
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"optimizer": "sgd:momentun=0.9"},
            r"unknown option of the sgd optimizer 'momentun'\. Did you mean momentum",
        ),
        (
            {"optimizer": "sgd:momentum=much"},
            "option of the sgd optimizer: momentum: expected float, not 'much'",
        ),
        ({"optimizer": "sgd:fused=true"}, "unknown option of the sgd optimizer 'fused'"),
        ({"schedule": "step"}, r"unknown schedule 'step'\. Did you mean steps"),
        ({"schedule": "constant:at=[1]"}, "the constant schedule has no options, got 'at'"),
        (
            {"schedule": "steps:at=soon"},
            r"option of the steps schedule: at: expected list or null, not 'soon'",
        ),
        ({"augment": "multscale"}, r"unknown augmentation 'multscale'\. Did you mean multiscale"),
        ({"ema": 1.0}, r"ema must be a decay within \[0, 1\), such as 0\.9997, not 1\.0"),
        ({"weight_decay": -1.0}, r"weight_decay must not be negative, not -1\.0"),
        ({"lr": math.nan}, "lr must be positive, not nan"),
    ],
)
def test_what_is_wrong_is_said(options, message):
    with pytest.raises(InputError, match=message):
        Recipe(**options)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_is_torchs(name):
    """One step of each against torch's own, written out."""
    expected = {
        "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.3),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.3),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.3, momentum=0.9, nesterov=True),
    }[name]
    weights = []
    for make in (expected, None):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        recipe = Recipe(optimizer=name, lr=0.1, weight_decay=0.3, decay_all=True)
        optimizer = make(model.parameters()) if make else build_optimizer(model, recipe)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
        weights.append(model.weight.detach().clone())
    torch.testing.assert_close(weights[0], weights[1])


def test_options_of_optimizers():
    optimizer = build_optimizer(nn.Linear(1, 1), Recipe(optimizer="sgd:momentum=0.5:nesterov=false"))
    assert (optimizer.param_groups[0]["momentum"], optimizer.param_groups[0]["nesterov"]) == (0.5, False)
    optimizer = build_optimizer(nn.Linear(1, 1), Recipe(optimizer="adamw:beta2=0.95"))
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.95)


@pytest.mark.parametrize("decay_all", [False, True])
def test_what_is_decayed(decay_all):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = build_optimizer(model, Recipe(weight_decay=0.3, decay_all=decay_all))
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(p) for p in model.parameters() if decay_all or p.ndim > 1}


def test_steps():
    recipe = Recipe(epochs=6, schedule="steps:at=[2,4]:factor=0.5")
    assert rates(recipe, 12) == [1] * 4 + [0.5] * 4 + [0.25] * 4
    assert rates(Recipe(epochs=6, schedule="steps"), 12) == pytest.approx([1] * 8 + [0.1] * 4)


def test_cosine():
    found = rates(Recipe(epochs=10, schedule="cosine"), 20)
    assert found == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 20)) for step in range(20)])
    warm = rates(Recipe(epochs=10, schedule="cosine:warmup=2"), 20)
    assert warm[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert warm[4:] == sorted(warm[4:], reverse=True)


def test_constant():
    assert rates(Recipe(schedule="constant"), 7) == [1] * 7


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 100])
def test_every_schedule_takes_any_number_of_steps(name, steps):
    found = rates(Recipe(schedule=name, epochs=min(steps, 10)), steps)
    assert all(0 <= rate <= 1 for rate in found)
    assert max(found) > 0
