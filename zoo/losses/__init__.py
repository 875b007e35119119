"""Losses on logits (B, L) with targets in {1, 0, -1 = unknown}, by name.

All of them are computed in float32 at least, also under autocast, leave unknown entries out, and are 0
with a zero gradient where nothing is known. Soft targets are not supported, and the targets' values are not
checked: on a GPU that would stop the stream at every step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from zoo.arguments import parse_options, split_options
from zoo.lookup import InputError, lookup, unknown
from zoo.losses.binary import BCELoss, PartialBCELoss, SoftMarginLoss
from zoo.losses.distribution_balanced import DistributionBalancedLoss, resampling_weights
from zoo.losses.focal import AsymmetricLoss, FocalLoss
from zoo.losses.two_way import TwoWayLoss

__all__ = [
    "LOSSES",
    "AsymmetricLoss",
    "BCELoss",
    "DistributionBalancedLoss",
    "FocalLoss",
    "PartialBCELoss",
    "SoftMarginLoss",
    "TwoWayLoss",
    "build_loss",
    "check_loss",
    "parse_loss",
    "resampling_weights",
]

# Name -> what makes a loss module of its options. Add yours: LOSSES["mine"] = MyLoss. One with a parameter
# label_counts is given (2, L): how many training images are positive, and how many negative, for each label.
LOSSES: dict[str, Callable[..., nn.Module]] = {
    "asl": AsymmetricLoss,
    "bce": BCELoss,
    "distribution-balanced": DistributionBalancedLoss,
    "focal": FocalLoss,
    "partial-bce": PartialBCELoss,
    "softmargin": SoftMarginLoss,
    "two-way": TwoWayLoss,
}


def build_loss(spec: str, targets: Shaped[Tensor, "N L"] | None = None, **options: Any) -> nn.Module:
    """A loss by its name: ``build_loss("asl:gamma_neg=2:reduction=sum")(logits, targets)``.

    Args:
        spec: a key of ``LOSSES``, with options after colons or without.
        targets: (N, L) in {1, 0, -1} of the training images, for losses that ask for ``label_counts``.
        options: what that loss takes, see its signature; they go before those in ``spec``.

    Returns:
        A module that takes logits (B, L) and targets (B, L) to a scalar.

    Raises:
        InputError: the loss or one of its options is unknown, an option's value is wrong, or the loss needs
            ``targets`` and there are none.
    """
    name, written = parse_loss(spec)
    _check_names(name, options)
    values = written | options
    if "label_counts" in inspect.signature(LOSSES[name]).parameters:
        if targets is None:
            raise InputError(
                f"the {name} loss counts the labels of the training images: give it their targets"
            )
        values["label_counts"] = torch.stack([(targets == value).sum(0) for value in (1, 0)])
    return LOSSES[name](**values)


def parse_loss(spec: str) -> tuple[str, dict[str, Any]]:
    """Reads ``asl:gamma_neg=2:reduction=sum``: a key of ``LOSSES`` and the options that follow it, typed.

    Raises:
        InputError: the loss or one of its options is unknown, or a value has another type than its option.
    """
    name, given = split_options(spec)
    loss = lookup("loss", name, LOSSES)
    _check_names(name, given)
    return name, parse_options(f"the {name} loss", loss, given, skip={"label_counts"})


def check_loss(spec: str) -> None:
    """Raises what :func:`build_loss` would, before there are training images.

    Raises:
        InputError: as there.
    """
    # In place of the training images: one of each, so that a loss may divide by its counts.
    build_loss(spec, targets=torch.tensor([[1], [0]]))


def _check_names(name: str, options: Iterable[str]) -> None:
    parameters = inspect.signature(LOSSES[name]).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [parameter for parameter in parameters if parameter != "label_counts"]
    for option in options:
        if not known:
            raise InputError(f"the {name} loss has no options, got {option!r}")
        if option not in known:
            raise unknown(f"option of the {name} loss", option, known)
