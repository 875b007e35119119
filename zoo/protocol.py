"""The protocol of a comparison: what is the same for every entry, and where an entry's search looks next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.lookup import InputError
from zoo.losses import check_loss
from zoo.regimes import parse_regime

EXPLORING = 4  # trials that look everywhere, before the others look near the best of them


@dataclass(frozen=True)
class Protocol:
    """What is the same for every entry of a comparison.

    Attributes:
        trials: points of the search an entry gets.
        seeds: runs of the best point, with seeds 0, 1, ...
        epochs: of every run, trials included.
        batch_size: images a step, of every run.
        loss: its name, with options after colons: bce, asl:gamma_neg=2; ``zoo list losses`` names them.
        lr: range of the learning rates searched, evenly on a logarithmic scale.
        weight_decay: range of the L2 strengths searched, likewise.
        freeze_backbone: train heads on features that are computed once, or whole models.
        threshold: tau of the label graph.
        p: share of a label's features that comes from its neighbours.
        embeddings: glove, onehot, random, or a file of word vectors.
        unknown_words: what to do with labels that have no vector: error, or a fallback.
        regime: what is taken away from the training split: all (nothing), photos:count=100, noise:share=0.2, ...;
            :data:`zoo.regimes.REGIMES`. A run's seed draws it. A step then has fewer images in proportion, so that
            all regimes train as long.
        known: share of each test image's labels that is known when the others are predicted, drawn at random by a
            run's seed. All entries are tested on the others; heads that cannot take known labels do without them.
            Models are chosen on validation under the same conditions.
    """

    trials: int = 6
    seeds: int = 3
    epochs: int = 20
    batch_size: int = 256
    loss: str = "bce"
    lr: tuple[float, float] = (3e-4, 3e-1)
    weight_decay: tuple[float, float] = (1e-2, 1e1)
    freeze_backbone: bool = True
    threshold: float = 0.1
    p: float = 0.2
    embeddings: str = "glove"
    unknown_words: str = "error"
    regime: str = "all"
    known: float = 0.0

    def __post_init__(self) -> None:
        check_loss(self.loss)
        parse_regime(self.regime)
        if not 0 <= self.known < 1:
            raise InputError(
                f"known is a share of the labels, at least 0 and below 1, not {self.known}: some are to be predicted"
            )
        for name in ("trials", "seeds", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "weight_decay"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise InputError(
                    f"{name} must be a range of positive numbers, low then high, not {low}, {high}"
                )

    def next_point(self, trials: Sequence[dict[str, Any]]) -> tuple[float, float]:
        """(lr, weight_decay) of an entry's next trial, given the rows of those it has had.

        The first :data:`EXPLORING` are scrambled Sobol points over the ranges, the same ones for every entry.
        Each later one lies near the entry's best so far, within an eighth of the ranges to either side: heads
        differ by a factor of 30 in the learning rate they want. A longer search begins as a shorter one, whose
        runs it takes over.
        """
        from scipy.stats import qmc

        unit = qmc.Sobol(2, seed=0).random(2 ** math.ceil(math.log2(len(trials) + 1)))[len(trials)]
        low, high = np.array([self.lr, self.weight_decay]).T
        if len(trials) < EXPLORING:
            point = low * (high / low) ** unit
        else:
            best = max(trials, key=lambda row: row["val_mAP"])
            point = np.array([best["lr"], best["weight_decay"]]) * (high / low) ** ((unit - 0.5) / 4)
        lr, decay = (float(f"{value:.3g}") for value in point.clip(low, high))
        return min(max(lr, self.lr[0]), self.lr[1]), min(
            max(decay, self.weight_decay[0]), self.weight_decay[1]
        )
