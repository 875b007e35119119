"""The moving average of the weights, which generalises better than the last weights do.

Polyak & Juditsky 1992; as a decay of the past, Tarvainen & Valpola, NeurIPS 2017, https://arxiv.org/abs/1703.01780.
"""

from __future__ import annotations

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn


class MovingAverage(WeightAveraging):
    """Lightning's averaging of weights, with a decay that leaves alone what must not change.

    Integers (the edges of a label graph, counters) are taken over as they are: their averages would be others. What is
    the same in both stays the same to the last bit: label vectors, edge weights.

    Args:
        decay: the highest; it rises to that as (1 + n) / (10 + n) over n steps, so that the average of a short training
            is not the initial weights.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
            if not averaged.is_floating_point():
                return current
            n = int(steps)
            share = 1 - min(decay, (1 + n) / (10 + n))
            return (
                (current - averaged).mul_(share).nan_to_num_(0.0).add_(averaged)
            )  # inf - inf: the same in both

        super().__init__(avg_fn=average)

    @property
    def model(self) -> nn.Module:
        """The averaged Lightning module."""
        assert self._average_model is not None
        return self._average_model.module
