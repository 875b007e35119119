"""The two-way loss: every positive above every negative, among an image's labels and among a label's images."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.losses.entries import read_entries, require

# Far below any logit, yet finite: the gradient of the logsumexp of minus infinities alone is not a number.
_ABSENT = -1e30


class TwoWayLoss(nn.Module):
    """Softmax-like loss that compares logits with each other, both ways: within images, and within labels.

    Kobayashi, "Two-way Multi-Label Loss", CVPR 2023
    (https://openaccess.thecvf.com/content/CVPR2023/html/Kobayashi_Two-Way_Multi-Label_Loss_CVPR_2023_paper.html).
    An image costs softplus(T_n log sum_n exp(x_n / T_n) + T_p log sum_p exp(-x_p / T_p)) over its negatives n and
    its positives p, a label the same over the images of the batch (so the loss grows with the batch); the loss is
    the mean over images plus the mean over labels. Of what has no known positive or no known negative nothing is
    compared, and it does not count (the paper's code leaves out only the former). The logits say which is more
    probable, not how probable it is: adding a number to all of them changes nothing, so that scores need a
    threshold of their own.

    Args:
        positive_temperature: T_p; the higher, the more the easier positives count beside the hardest.
        negative_temperature: T_n, likewise.

    Raises:
        InputError: a temperature is not positive and finite.
    """

    def __init__(self, positive_temperature: float = 4.0, negative_temperature: float = 1.0) -> None:
        super().__init__()
        for name, temperature in (
            ("positive_temperature", positive_temperature),
            ("negative_temperature", negative_temperature),
        ):
            require(0 < temperature < math.inf, name, "positive and finite", temperature)
        self.positive_temperature, self.negative_temperature = positive_temperature, negative_temperature

    def forward(self, logits: Float[Tensor, "B L"], targets: Shaped[Tensor, "*_"]) -> Float[Tensor, ""]:
        """The loss of one batch.

        Args:
            logits: (B, L), before any sigmoid.
            targets: (B, L) in {1, 0, -1}, of any dtype.

        Raises:
            InputError: logits and targets have different shapes.
        """
        logits, positive, known = read_entries(logits, targets)
        negative = known & ~positive
        images, labels = (self._compare(logits, positive, negative, dim) for dim in (1, 0))
        return images + labels

    def _compare(
        self,
        logits: Float[Tensor, "B L"],
        positive: Bool[Tensor, "B L"],
        negative: Bool[Tensor, "B L"],
        dim: int,
    ) -> Float[Tensor, ""]:
        highest_negative = _soft_maximum(logits, negative, self.negative_temperature, dim)
        lowest_positive = _soft_maximum(-logits, positive, self.positive_temperature, dim)
        compared = positive.any(dim) & negative.any(dim)
        values = F.softplus(highest_negative + lowest_positive).masked_fill(~compared, 0)
        return values.sum() / compared.sum().clamp(min=1)


def _soft_maximum(
    values: Float[Tensor, "B L"], among: Bool[Tensor, "B L"], temperature: float, dim: int
) -> Float[Tensor, " _"]:
    return temperature * torch.logsumexp((values / temperature).masked_fill(~among, _ABSENT), dim)
