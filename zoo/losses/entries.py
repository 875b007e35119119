"""What the losses share: the entries of a batch, the means over the known ones, the checks of options."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from zoo.lookup import InputError


def read_entries(
    logits: Float[Tensor, "B L"], targets: Shaped[Tensor, "*_"]
) -> tuple[Float[Tensor, "B L"], Bool[Tensor, "B L"], Bool[Tensor, "B L"]]:
    """The logits in float32 at least, which entries are positive, and which are known.

    Raises:
        InputError: logits and targets have different shapes.
    """
    if logits.shape != targets.shape:
        raise InputError(
            f"logits and targets must have one shape (B, L), got logits {tuple(logits.shape)} "
            f"and targets {tuple(targets.shape)}"
        )
    return logits.to(torch.promote_types(logits.dtype, torch.float32)), targets == 1, targets >= 0


def sum_known(entries: Float[Tensor, "B L"], known: Bool[Tensor, "B L"]) -> Float[Tensor, ""]:
    """The sum over the known entries of the batch."""
    return entries.masked_fill(~known, 0).sum()


def mean_known(entries: Float[Tensor, "B L"], known: Bool[Tensor, "B L"]) -> Float[Tensor, ""]:
    """The mean over the known entries of the batch; 0 if there are none."""
    return sum_known(entries, known) / known.sum().clamp(min=1)


def focal_weight(margin: Float[Tensor, "B L"], gamma: float) -> Float[Tensor, "B L"]:
    """(1 - p)^gamma, where p = sigmoid(margin) is the probability that the target is given.

    As exp(gamma log(1 - p)), because the slope of a power at 0 is infinite for gamma < 1.
    """
    return (gamma * F.logsigmoid(-margin)).exp()


def focal_entries(margin: Float[Tensor, "B L"], gamma: float) -> Float[Tensor, "B L"]:
    """-(1 - p)^gamma log p with p = sigmoid(margin); cross-entropy for gamma 0."""
    return -focal_weight(margin, gamma) * F.logsigmoid(margin)


def require(condition: bool, option: str, words: str, value: object) -> None:
    """Raises an error that names the option unless the condition holds.

    Raises:
        InputError: ``gamma must be finite and not negative, not -1.0``.
    """
    if not condition:
        raise InputError(f"{option} must be {words}, not {value}")
