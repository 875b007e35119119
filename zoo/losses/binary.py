"""Binary cross-entropy, and how it is averaged: over entries, over images, or by how much of an image is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.lookup import InputError
from zoo.losses.entries import mean_known, read_entries, require


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
        return mean_known(*_cross_entropy(logits, targets, self.pos_weight))


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


class PartialBCELoss(nn.Module):
    """Binary cross-entropy in which an image counts the more the fewer of its labels are known.

    Durand et al., "Learning a Deep ConvNet for Multi-label Classification with Partial Labels", CVPR 2019
    (https://arxiv.org/abs/1902.09720): an image's loss is the sum over its known labels
    times g(p) / L, where p is the share of its labels that is known and g(p) = alpha p^gamma + beta. The
    paper's constants give g(1) = 1 and g(0.1) = 5.005, so with all targets known this is ``bce``. The batch's loss
    is the mean over images; those of which nothing is known do not count, on which the paper is silent.

    Args:
        alpha: factor of the power.
        beta: what is added to it, the largest weight of a known entry.
        gamma: exponent of the share; with alpha 1, beta 0 and gamma -1 this is ``softmargin``.

    Raises:
        InputError: a value is not finite, or g(1) = alpha + beta is not positive.
    """

    def __init__(self, alpha: float = -4.45, beta: float = 5.45, gamma: float = 1.0) -> None:
        super().__init__()
        for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
            require(math.isfinite(value), name, "finite", value)
        require(alpha + beta > 0, "alpha + beta", "positive", alpha + beta)
        self.alpha, self.beta, self.gamma = alpha, beta, gamma

    def forward(self, logits: Float[Tensor, "B L"], targets: Shaped[Tensor, "*_"]) -> Float[Tensor, ""]:
        """The loss of one batch.

        Args:
            logits: (B, L), before any sigmoid.
            targets: (B, L) in {1, 0, -1}, of any dtype.

        Raises:
            InputError: logits and targets have different shapes.
        """
        entries, known = _cross_entropy(logits, targets)
        num_labels, num_known = known.shape[1], known.sum(1)
        # At least one label, or a negative power would make the images that do not count infinite.
        share = num_known.clamp(min=1).to(entries.dtype) / num_labels
        weight = self.alpha * share**self.gamma + self.beta
        images = weight * entries.sum(1) / num_labels
        return images.sum() / (num_known > 0).sum().clamp(min=1)


def _cross_entropy(
    logits: Float[Tensor, "B L"], targets: Tensor, pos_weight: Tensor | None = None
) -> tuple[Float[Tensor, "B L"], Bool[Tensor, "B L"]]:
    """Binary cross-entropy of every entry, 0 where unknown, and which entries are known."""
    logits, positive, known = read_entries(logits, targets)
    entries = F.binary_cross_entropy_with_logits(
        logits, positive.to(logits.dtype), pos_weight=pos_weight, reduction="none"
    )
    return entries.masked_fill(~known, 0), known
