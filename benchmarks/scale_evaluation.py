"""The evaluation of as many images and labels as Open Images has for testing: 125,000 and 9,605."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scale_process import Sizes, measure, noted
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset

from zoo.annotations import Annotations
from zoo.graph import unlinked_labels
from zoo.heads import build_head

NUM_FEATURES = 128


class PooledImages(Dataset):
    """Batches of pooled features (B, D) that are made when they are asked for, and of targets (B, L) kept sparse."""

    def __init__(self, num_images: int, num_labels: int, *, per_image: int = 8) -> None:
        generator = np.random.default_rng(0)
        shape = (num_images, num_labels)
        entry = [
            np.repeat(np.arange(num_images), per_image),
            generator.integers(num_labels, size=num_images * per_image),
        ]
        stored = sp.csr_array((np.ones(len(entry[0]), dtype=np.int8), tuple(entry)), shape=shape)
        stored.data[:] = 1  # a label drawn twice was added up
        self.annotations = Annotations(stored)

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(rows[0])
        features = torch.randn(len(rows), NUM_FEATURES, generator=generator)
        return features, torch.from_numpy(self.annotations.rows(np.array(rows)).targets())


def evaluate_labels(num_images: int, num_labels: int) -> None:
    """What ``zoo evaluate`` does once images are pooled features: scores, all metrics, and those of each label."""
    from zoo.evaluate import Evaluation, compute_scores
    from zoo.features import OnFeatures

    names = [f"label {i}" for i in range(num_labels)]
    model = OnFeatures(build_head("linear", NUM_FEATURES, unlinked_labels(names)))
    images = PooledImages(num_images, num_labels)
    batches = BatchSampler(range(num_images), 32, drop_last=False)
    with noted("scored"):
        scores, targets = compute_scores(model, DataLoader(images, sampler=batches, batch_size=None))
    evaluation = Evaluation(scores, targets, names, [f"{i}.jpg" for i in range(num_images)])
    with noted("metrics"):
        metrics = evaluation.metrics()
    with noted("each label's metrics"):
        evaluation.per_label()
    print(
        f"mAP {metrics['mAP']:.4f} of random scores; scores and targets are "
        f"{(scores.nbytes + targets.nbytes) / 2**20:,.0f} MiB"
    )


def evaluation(sizes: Sizes, folder: Path) -> Iterator[dict[str, Any]]:
    """Section: scores and metrics of a great many images and labels."""
    size = "{:,} images, {:,} labels".format(*sizes.evaluated)
    yield {"size": size, **measure(evaluate_labels, *sizes.evaluated)}
