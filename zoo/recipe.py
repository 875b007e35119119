"""A recipe: everything that decides what a training gives, beside the model and the data."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR, OneCycleLR

from zoo.arguments import parse_options, split_options
from zoo.augment import check_augmentation
from zoo.lookup import InputError, lookup, unknown
from zoo.losses import check_loss

Groups: TypeAlias = Sequence[dict[str, Any]]


def adamw(groups: Groups, *, beta1: float = 0.9, beta2: float = 0.999, fused: bool = True) -> Optimizer:
    """Loshchilov & Hutter, ICLR 2019, https://arxiv.org/abs/1711.05101: L2 apart from the gradient's size."""
    return torch.optim.AdamW(groups, betas=(beta1, beta2), fused=fused)


def adam(groups: Groups, *, beta1: float = 0.9, beta2: float = 0.999, fused: bool = True) -> Optimizer:
    """Kingma & Ba, ICLR 2015, https://arxiv.org/abs/1412.6980: L2 as part of the gradient."""
    return torch.optim.Adam(groups, betas=(beta1, beta2), fused=fused)


def sgd(groups: Groups, *, momentum: float = 0.9, nesterov: bool = True, fused: bool = True) -> Optimizer:
    """Stochastic gradient descent with momentum."""
    return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, fused=fused)


def onecycle(optimizer: Optimizer, steps: int, epochs: int, *, warmup: float = 0.1) -> LRScheduler:
    """Rises for a share of the steps and falls to zero as a cosine; Smith & Topin, https://arxiv.org/abs/1708.07120.

    The momentum stays as it is.
    """
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        # Where the rise has a single step it divides by zero; with one step in all its rate is zero.
        total_steps=max(math.ceil(1 / warmup) + 1, steps),
        pct_start=warmup,
        cycle_momentum=False,
    )


def cosine(optimizer: Optimizer, steps: int, epochs: int, *, warmup: float = 0.0) -> LRScheduler:
    """Falls to zero as a cosine, after a linear rise of some epochs."""
    rise = round(warmup * steps / epochs)

    def share(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))

    return LambdaLR(optimizer, share)


def steps(
    optimizer: Optimizer, steps: int, epochs: int, *, at: list[int] | None = None, factor: float = 0.1
) -> LRScheduler:
    """Multiplied by a factor after each of these epochs; the last third alone unless they are given."""
    after = [epochs * 2 // 3] if at is None else at
    return MultiStepLR(optimizer, [round(epoch * steps / epochs) for epoch in after], factor)


def constant(optimizer: Optimizer, steps: int, epochs: int) -> LRScheduler:
    """The same all the time."""
    return LambdaLR(optimizer, lambda step: 1.0)


# Name -> what makes one of parameter groups, which hold their learning rates and L2. Options follow a colon in a
# recipe: sgd:momentum=0.95:nesterov=false. Add yours: OPTIMIZERS["mine"] = make_mine.
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": adam, "adamw": adamw, "sgd": sgd}

# Name -> what makes one of an optimizer, the number of its steps and the number of epochs. It advances every step.
SCHEDULES: dict[str, Callable[..., LRScheduler]] = {
    "constant": constant,
    "cosine": cosine,
    "onecycle": onecycle,
    "steps": steps,
}


@dataclass(frozen=True)
class Recipe:
    """How to train. Everything that decides the result, beside model and data.

    Attributes:
        loss: its name, with options after colons: bce, asl:gamma_neg=2; ``zoo list losses`` names them.
        resample: draw training images, with replacement, so that every label is drawn equally often. An epoch still
            has as many images.
        augment: what is done to training images: crop, multiscale, randaugment, affine, none, with options after
            colons; ``zoo list augmentations`` describes them. Frozen features are not augmented.
        epochs: passes over the training images.
        batch_size: images a step, over all devices and accumulated parts together.
        optimizer: adamw, adam or sgd (Nesterov momentum 0.9), with options after colons: sgd:momentum=0.95.
        lr: the highest learning rate, of the head.
        schedule: onecycle, cosine, steps or constant, with options after colons: steps:at=[20,30]:factor=0.1.
        backbone_lr_ratio: the backbone's learning rate, as a share of the head's. ML-GCN takes 0.1.
        weight_decay: strength of the L2 penalty.
        decay_all: L2 on biases and norms too, and not on weights of two and more dimensions alone.
        gradient_clip: largest norm of the gradient; 0 for none. ML-GCN takes 10.
        ema: decay of the moving average of the weights, which then is what is validated and kept; 0 for none.
        patience: stop after so many epochs without a better validation mAP; 0 for never.
        precision: Lightning's name of it: 32-true, bf16-mixed, 16-mixed.
        seed: of the weights, the order of images, their augmentation and dropout.
    """

    loss: str = "bce"
    resample: bool = False
    augment: str = "crop"
    epochs: int = 20
    batch_size: int = 32
    optimizer: str = "adamw"
    lr: float = 1e-3
    schedule: str = "onecycle"
    backbone_lr_ratio: float = 0.1
    weight_decay: float = 1e-2
    decay_all: bool = False
    gradient_clip: float = 0.0
    ema: float = 0.0
    patience: int = 0
    precision: str = "32-true"
    seed: int = 0

    def __post_init__(self) -> None:
        check_loss(self.loss)
        check_augmentation(self.augment)
        _parse("optimizer", self.optimizer, OPTIMIZERS, {"groups", "fused"})
        _parse("schedule", self.schedule, SCHEDULES, {"optimizer", "steps", "epochs"})
        for name in ("epochs", "batch_size", "lr"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("backbone_lr_ratio", "weight_decay", "gradient_clip", "patience", "seed"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise InputError(f"ema must be a decay within [0, 1), such as 0.9997, not {self.ema}")


def build_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """The recipe's optimizer for whatever of a model is to be trained.

    Parameters of ``model.backbone``, if there is one, get the backbone's learning rate; those of one dimension no L2,
    unless the recipe says so.
    """
    backbone = getattr(model, "backbone", None)
    of_backbone = {id(p) for p in backbone.parameters()} if backbone is not None else set()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            decays = recipe.decay_all or parameter.ndim > 1
            groups.setdefault((id(parameter) in of_backbone, decays), []).append(parameter)
    options: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": recipe.lr * (recipe.backbone_lr_ratio if in_backbone else 1.0),
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (in_backbone, decays), parameters in groups.items()
    ]
    make, given = _parse("optimizer", recipe.optimizer, OPTIMIZERS, {"groups", "fused"})
    if "fused" in inspect.signature(make).parameters:
        # Lightning refuses to clip the gradients of a fused optimizer under mixed precision.
        given["fused"] = not (recipe.gradient_clip and recipe.precision.endswith("mixed"))
    return make(options, **given)


def build_schedule(optimizer: Optimizer, recipe: Recipe, steps: int) -> LRScheduler:
    """The recipe's schedule of learning rates over a training of so many steps."""
    make, given = _parse("schedule", recipe.schedule, SCHEDULES, {"optimizer", "steps", "epochs"})
    return make(optimizer, steps, recipe.epochs, **given)


def _parse(
    kind: str, spec: str, table: Mapping[str, Callable[..., Any]], given_by_training: set[str | int]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """``sgd:momentum=0.95`` as the table's entry and the options that follow it, typed."""
    name, options = split_options(spec)
    make = lookup(kind, name, table)
    known = [key for key in inspect.signature(make).parameters if key not in given_by_training]
    for key in options:
        if not known:
            raise InputError(f"the {name} {kind} has no options, got {key!r}")
        if key not in known:
            raise unknown(f"option of the {name} {kind}", key, known)
    return make, parse_options(f"the {name} {kind}", make, options, skip=given_by_training)
