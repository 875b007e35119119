"""The distribution-balanced loss for labels of which few are common and many rare, and its resampling."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from zoo.lookup import InputError
from zoo.losses.entries import focal_entries, mean_known, read_entries, require


class DistributionBalancedLoss(nn.Module):
    """Cross-entropy weighted against what resampling does to labels that go together, lenient with negatives.

    Wu et al., "Distribution-Balanced Loss for Multi-Label Classification in Long-Tailed Datasets", ECCV 2020
    (https://arxiv.org/abs/2007.09654). Made for training images drawn by :func:`resampling_weights`.

    - Re-balanced weighting: r = (1 / n_i) / sum_p (1 / n_p), with n the positives of a label among the training
      images and p the positive labels of the image, smoothed to alpha + sigmoid(beta (r - mu)). For an image
      without positives r is infinite, and the weight alpha + 1.
    - Negative-tolerant regularisation: a positive costs softplus(-(x - v)), a negative
      softplus(scale (x - v)) / scale, with v = kappa log(negatives / positives) of the label, so that a rare
      label need not be pushed below zero by its bias alone. (The paper's code divides v by the scale as well.)

    The mean over the known entries of the batch. A label that never occurs among the training images counts
    as one that occurs once.

    Args:
        label_counts: (2, L) how many training images are positive, and how many negative, for each label.
        alpha: lowest weight of an entry.
        beta: how steeply the weight rises with r.
        mu: the r at which it is halfway; the paper's 0.2 for COCO, 0.3 for VOC.
        kappa: how much of a label's log-odds its margin v is.
        negative_scale: the paper's lambda, 2 for COCO and 5 for VOC; 1 treats negatives as positives.
        gamma: focal exponent on top of it: 2 in the paper's "DB-Focal" (which also doubles the loss).

    Raises:
        InputError: ``label_counts`` is not (2, L), ``negative_scale`` is not positive, ``alpha``, ``beta`` or
            ``gamma`` is negative, something is not finite.
    """

    label_counts: Tensor

    def __init__(
        self,
        label_counts: Tensor,
        alpha: float = 0.1,
        beta: float = 10.0,
        mu: float = 0.2,
        kappa: float = 0.05,
        negative_scale: float = 2.0,
        gamma: float = 0.0,
    ) -> None:
        super().__init__()
        if label_counts.ndim != 2 or len(label_counts) != 2:
            raise InputError(f"label_counts must have the shape (2, L), got {tuple(label_counts.shape)}")
        for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
            require(0 <= value < math.inf, name, "finite and not negative", value)
        for name, value in (("mu", mu), ("kappa", kappa)):
            require(math.isfinite(value), name, "finite", value)
        require(0 < negative_scale < math.inf, "negative_scale", "positive and finite", negative_scale)
        # The data's, not a state: a checkpoint must not bring back another run's counts.
        self.register_buffer("label_counts", label_counts, persistent=False)
        self.alpha, self.beta, self.mu, self.kappa = alpha, beta, mu, kappa
        self.negative_scale, self.gamma = negative_scale, gamma

    def forward(self, logits: Float[Tensor, "B L"], targets: Shaped[Tensor, "*_"]) -> Float[Tensor, ""]:
        """The loss of one batch.

        Args:
            logits: (B, L), before any sigmoid.
            targets: (B, L) in {1, 0, -1}, of any dtype.

        Raises:
            InputError: logits, targets and ``label_counts`` do not fit together.
        """
        logits, positive, known = read_entries(logits, targets)
        if self.label_counts.shape[1] != logits.shape[1]:
            raise InputError(
                f"the loss counted {self.label_counts.shape[1]} labels, the logits have {logits.shape[1]}"
            )
        positives, negatives = self.label_counts.clamp(min=1).to(logits.dtype)
        rate = 1 / positives
        image_rate = (positive * rate).sum(1, keepdim=True).clamp(min=torch.finfo(rate.dtype).tiny)
        weight = self.alpha + (self.beta * (rate / image_rate - self.mu)).sigmoid()
        margin = logits - self.kappa * (negatives / positives).log()
        entries = torch.where(
            positive,
            focal_entries(margin, self.gamma),
            focal_entries(-self.negative_scale * margin, self.gamma) / self.negative_scale,
        )
        return mean_known(weight * entries, known)


def resampling_weights(targets: Shaped[Tensor, "N L"]) -> Float[Tensor, " N"]:
    """How often to draw each image so that every label is drawn equally often, for ``WeightedRandomSampler``.

    Class-aware sampling: first a label, each as probable, then one of its n_i images; so an image's weight is
    the sum of 1 / n_i over its positive labels. Images without a positive make up one label more: the papers'
    data has none, and they would never be drawn.

    Args:
        targets: (N, L) in {1, 0, -1}; what is unknown counts as not positive.

    Returns:
        (N,) in float64, all positive.
    """
    positive = targets == 1
    groups = torch.cat([positive, ~positive.any(1, keepdim=True)], dim=1).double()
    return groups @ (1 / groups.sum(0).clamp(min=1))
