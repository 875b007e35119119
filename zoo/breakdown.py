"""What a mean hides: a comparison by label frequency, its gap between training and test, its significance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from zoo.metrics import per_label_metrics

THIRDS = ("rare", "medium", "frequent")


def frequency_thirds(positives: Integer[np.ndarray, " L"]) -> dict[str, np.ndarray]:
    """Indices of the labels in thirds, by their positives in training; the first thirds are the larger ones."""
    order = np.argsort(positives, kind="stable")
    return dict(zip(THIRDS, np.array_split(order, len(THIRDS)), strict=True))


def by_frequency(
    scores: Sequence[Tensor], targets: Tensor, thirds: dict[str, np.ndarray]
) -> dict[str, float]:
    """mAP of each third of the labels, mean over the seeds; NaN where no label of it has test positives.

    Args:
        scores: (N, L) of each seed.
        targets: (N, L) in {1, 0, -1}.
        thirds: as :func:`frequency_thirds` gives them.
    """
    ap = torch.stack([per_label_metrics(one, targets)["AP"] for one in scores]).mean(0)
    return {name: float(ap[torch.from_numpy(labels)].nanmean()) for name, labels in thirds.items()}


def train_gap(runs: Sequence[dict[str, Any]]) -> float | None:
    """mAP on the training images less that on the test images, mean over the seeds; None where it was not measured."""
    if any("train_mAP" not in run for run in runs):
        return None
    return float(np.mean([run["train_mAP"] - run["test_mAP"] for run in runs]))
