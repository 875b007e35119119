"""Losses on logits (B, L) with targets in {1, 0, -1 = unknown}, by name.

All of them are computed in float32 at least, also under autocast, leave unknown entries out, and are 0
with a zero gradient where nothing is known. Soft targets are not supported, and the targets' values are not
checked: on a GPU that would stop the stream at every step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.lookup import InputError, lookup, unknown


class BCELoss(nn.Module):
    """Binary cross-entropy, the mean over the known entries of the batch.

    Args:
        pos_weight: what a positive counts, in units of a negative; one number, or (L,) one for each label.

    Raises:
        InputError: ``pos_weight`` is negative, not finite, or neither a number nor (L,).
    """

    pos_weight: Tensor

    def __init__(self, pos_weight: float | Sequence[float] | Tensor = 1.0) -> None:
        super().__init__()
        weight = torch.as_tensor(pos_weight, dtype=torch.float32).detach()
        if weight.ndim > 1:
            raise InputError(
                f"pos_weight must be a number or one for each label, got shape {tuple(weight.shape)}"
            )
        if not (weight.isfinite() & (weight >= 0)).all():
            raise InputError(f"pos_weight must be finite and not negative, got {pos_weight}")
        # An option, not a state: a checkpoint must not bring back another run's weights.
        self.register_buffer("pos_weight", weight, persistent=False)

    def forward(self, logits: Float[Tensor, "B L"], targets: Shaped[Tensor, "*_"]) -> Float[Tensor, ""]:
        """The loss of one batch.

        Args:
            logits: (B, L), before any sigmoid.
            targets: (B, L) in {1, 0, -1}, of any dtype.

        Raises:
            InputError: logits, targets and ``pos_weight`` do not fit together.
        """
        if self.pos_weight.ndim and self.pos_weight.shape != logits.shape[1:]:
            raise InputError(
                f"pos_weight is for {len(self.pos_weight)} labels, the logits have {logits.shape[1]} labels"
            )
        entries, known = _cross_entropy(logits, targets, self.pos_weight)
        return entries.sum() / known.sum().clamp(min=1)


class SoftMarginLoss(nn.Module):
    """Multi-label soft margin: the mean over an image's known labels, then over images.

    This is ``torch.nn.MultiLabelSoftMarginLoss``, the loss of ML-GCN (https://arxiv.org/abs/1904.03582).
    With all targets known it has the value of ``bce``; with unknown ones every image that has a known label
    counts the same here, and every known entry there.
    """

    def __init__(self) -> None:  # nn.Module's own signature would seem to take any option
        super().__init__()

    def forward(self, logits: Float[Tensor, "B L"], targets: Shaped[Tensor, "*_"]) -> Float[Tensor, ""]:
        """The loss of one batch.

        Args:
            logits: (B, L), before any sigmoid.
            targets: (B, L) in {1, 0, -1}, of any dtype.

        Raises:
            InputError: logits and targets have different shapes.
        """
        entries, known = _cross_entropy(logits, targets)
        num_known = known.sum(1)
        images = entries.sum(1) / num_known.clamp(min=1)
        return images.sum() / (num_known > 0).sum().clamp(min=1)


# Name -> what makes a loss module of its options. Add yours: LOSSES["mine"] = MyLoss.
LOSSES: dict[str, Callable[..., nn.Module]] = {
    "bce": BCELoss,
    "softmargin": SoftMarginLoss,
}


def build_loss(name: str, **options: Any) -> nn.Module:
    """A loss by its name: ``build_loss("bce", pos_weight=2.0)(logits, targets)``.

    Args:
        name: a key of ``LOSSES``.
        options: what that loss takes, see its signature.

    Returns:
        A module that takes logits (B, L) and targets (B, L) to a scalar.

    Raises:
        InputError: the loss or one of its options is unknown, or an option's value is wrong.
    """
    loss = lookup("loss", name, LOSSES)
    parameters = inspect.signature(loss).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for option in options:
            if not parameters:
                raise InputError(f"the {name} loss has no options, got {option!r}")
            if option not in parameters:
                raise unknown(f"option of the {name} loss", option, parameters)
    return loss(**options)


def _cross_entropy(
    logits: Float[Tensor, "B L"], targets: Tensor, pos_weight: Tensor | None = None
) -> tuple[Float[Tensor, "B L"], Bool[Tensor, "B L"]]:
    """Binary cross-entropy of every entry, 0 where unknown, and which entries are known."""
    if logits.shape != targets.shape:
        raise InputError(
            f"logits and targets must have one shape (B, L), got logits {tuple(logits.shape)} "
            f"and targets {tuple(targets.shape)}"
        )
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    known = targets >= 0
    entries = F.binary_cross_entropy_with_logits(
        logits, (targets == 1).to(logits.dtype), pos_weight=pos_weight, reduction="none"
    )
    return entries.masked_fill(~known, 0), known
