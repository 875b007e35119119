"""What a mean hides: a comparison by label frequency, its gap between training and test, its significance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Integer
from torch import Tensor

from zoo.metrics import per_label_metrics

THIRDS = ("rare", "medium", "frequent")


def frequency_thirds(positives: Integer[np.ndarray, " L"]) -> dict[str, np.ndarray]:
    """Indices of the labels in thirds, by their positives in training; the first thirds are the larger ones."""
    order = np.argsort(positives, kind="stable")
    return dict(zip(THIRDS, np.array_split(order, len(THIRDS)), strict=True))


def by_frequency(
    scores: Sequence[Tensor], targets: Sequence[Tensor], thirds: dict[str, np.ndarray]
) -> dict[str, float]:
    """mAP of each third of the labels, over the seeds; NaN where no label of it has test positives.

    Args:
        scores: (N, L) of each seed.
        targets: (N, L) of {1, 0, -1} of each seed.
        thirds: as :func:`frequency_thirds` gives them.
    """
    ap = mean_ap_of_labels(scores, targets)
    return {name: float(ap[torch.from_numpy(labels)].nanmean()) for name, labels in thirds.items()}


def mean_ap_of_labels(scores: Sequence[Tensor], targets: Sequence[Tensor]) -> Float64[Tensor, " L"]:
    """AP of each label, mean over the seeds that were asked for it; NaN where none was."""
    pairs = zip(scores, targets, strict=True)
    return torch.stack([per_label_metrics(*pair)["AP"] for pair in pairs]).nanmean(0)


def chance(targets: Sequence[Tensor]) -> float:
    """mAP of guessing: the share of positives among what is known, mean over labels that have any, then seeds."""
    means = []
    for one in targets:
        present, known = (one == 1).sum(0), (one >= 0).sum(0)
        means.append(float((present / known)[present > 0].mean()))
    return float(np.mean(means))


def train_gap(runs: Sequence[dict[str, Any]]) -> float | None:
    """mAP on the training images less that on the test images, mean over the seeds; None where it was not measured."""
    if any("train_mAP" not in run for run in runs):
        return None
    return float(np.mean([run["train_mAP"] - run["test_mAP"] for run in runs]))
