"""Losses that turn away from what is easy: focal, and asymmetric (ASL), which does so more for negatives."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.lookup import lookup
from zoo.losses.entries import focal_entries, focal_weight, mean_known, read_entries, require, sum_known

REDUCTIONS = {"mean": mean_known, "sum": sum_known}


class FocalLoss(nn.Module):
    """Focal loss: cross-entropy times (1 - p)^gamma, with p the probability that the target is given.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017 (https://arxiv.org/abs/1708.02002),
    equation 5. The mean over the known entries of the batch; the paper divides by its matched anchors, which
    there are none of here.

    Args:
        gamma: how much what is easy is turned down; 0 for not at all.
        alpha: weight of the positives; that of the negatives is 1 - alpha.

    Raises:
        InputError: ``gamma`` is negative or not finite, ``alpha`` is not within [0, 1].
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25) -> None:
        super().__init__()
        require(0 <= gamma < math.inf, "gamma", "finite and not negative", gamma)
        require(0 <= alpha <= 1, "alpha", "within [0, 1]", alpha)
        self.gamma, self.alpha = gamma, alpha

    def forward(self, logits: Float[Tensor, "B L"], targets: Shaped[Tensor, "*_"]) -> Float[Tensor, ""]:
        """The loss of one batch.

        Args:
            logits: (B, L), before any sigmoid.
            targets: (B, L) in {1, 0, -1}, of any dtype.

        Raises:
            InputError: logits and targets have different shapes.
        """
        logits, positive, known = read_entries(logits, targets)
        entries = torch.where(
            positive,
            self.alpha * focal_entries(logits, self.gamma),
            (1 - self.alpha) * focal_entries(-logits, self.gamma),
        )
        return mean_known(entries, known)


class AsymmetricLoss(nn.Module):
    """ASL: focal with an exponent each for positives and negatives, and no loss at all for easy negatives.

    Ridnik et al., "Asymmetric Loss for Multi-Label Classification", ICCV 2021
    (https://arxiv.org/abs/2009.14119). With p = sigmoid(logit) and p_m = max(p - clip, 0), a
    positive costs -(1 - p)^gamma_pos log p, and a negative -p_m^gamma_neg log(1 - p_m). The defaults are those
    of the paper's experiments but for ``reduction``: its sum makes another batch size another learning rate.

    Args:
        gamma_neg: how much easy negatives are turned down.
        gamma_pos: how much easy positives are.
        clip: the probability below which a negative costs nothing; 0 for none.
        reduction: ``mean`` over the known entries of the batch, or ``sum`` over labels and images, the paper's.
        detach_focus: leave the factors in front of the logarithms out of the gradient. The paper's formula
            has them in it, its published training leaves them out.

    Raises:
        InputError: an exponent is negative or not finite, ``clip`` is not within [0, 1), no such reduction.
    """

    def __init__(
        self,
        gamma_neg: float = 4.0,
        gamma_pos: float = 0.0,
        clip: float = 0.05,
        reduction: str = "mean",
        detach_focus: bool = False,
    ) -> None:
        super().__init__()
        for name, gamma in (("gamma_neg", gamma_neg), ("gamma_pos", gamma_pos)):
            require(0 <= gamma < math.inf, name, "finite and not negative", gamma)
        require(0 <= clip < 1, "clip", "within [0, 1)", clip)
        self.gamma_neg, self.gamma_pos, self.clip = gamma_neg, gamma_pos, clip
        self.reduction, self.reduce = reduction, lookup("reduction", reduction, REDUCTIONS)
        self.detach_focus = detach_focus

    def forward(self, logits: Float[Tensor, "B L"], targets: Shaped[Tensor, "*_"]) -> Float[Tensor, ""]:
        """The loss of one batch.

        Args:
            logits: (B, L), before any sigmoid.
            targets: (B, L) in {1, 0, -1}, of any dtype.

        Raises:
            InputError: logits and targets have different shapes.
        """
        logits, positive, known = read_entries(logits, targets)
        # log(1 - p_m) = log(min(1 - p + clip, 1)), by logarithms: without a clip, 1 - p rounds to 0 at 17.
        log_clip = logits.new_full((), math.log(self.clip) if self.clip else -math.inf)
        log_negative = torch.logaddexp(F.logsigmoid(-logits), log_clip).clamp(max=0)
        # Not quite 0, where the slope of a power below 1 is infinite.
        shifted = (logits.sigmoid() - self.clip).clamp(min=torch.finfo(logits.dtype).tiny)
        focus = torch.where(positive, focal_weight(logits, self.gamma_pos), shifted**self.gamma_neg)
        if self.detach_focus:
            focus = focus.detach()
        return self.reduce(-focus * torch.where(positive, F.logsigmoid(logits), log_negative), known)
