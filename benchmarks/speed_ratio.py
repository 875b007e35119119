"""Two pieces of work in turn, and the ratio of their times."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Sizes:
    """How large the work is.

    Attributes:
        rounds: in which both sides run once; a ratio is their median.
        processes: as many rounds of processes that are started.
        labels: of folded models.
        graph_labels: of graph heads, few and many.
        images: (N, L) of the metrics.
        backbone: of models that are trained.
        pixels: its images' side.
        batch: images of a step of a model.
        heads: that are timed one by one, all where it is empty.
        scatter: folder of torch-scatter, if it is not installed.
    """

    rounds: int = 15
    processes: int = 7
    labels: tuple[int, ...] = (80, 9_605)
    graph_labels: tuple[int, ...] = (80, 4_000)
    images: tuple[int, int] = (40_137, 80)
    backbone: str = "resnet50"
    pixels: int = 224
    batch: int = 8
    heads: tuple[str, ...] = ()
    scatter: Path | None = None


SMOKE = Sizes(
    rounds=3,
    processes=1,
    labels=(80,),
    graph_labels=(20, 200),
    images=(300, 5),
    backbone="test_resnet",
    pixels=64,
    batch=2,
    heads=("mlgcn", "csra"),
)


def alternate(
    ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int, device: str = "cpu", warm: bool = True
) -> dict[str, Any]:
    """Times both in turn, the one that begins changing from round to round.

    Args:
        ours: what is measured.
        theirs: its peer.
        rounds: how often.
        device: waited for, where it works by itself.
        warm: whether both run once before.

    Returns:
        Median seconds of both, median and quartiles of the rounds' ratios ours / theirs.
    """

    def timed(work: Callable[[], Any]) -> float:
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    if warm:
        for work in (ours, theirs):
            timed(work)
    pairs: list[tuple[float, float]] = []
    gc.collect()
    gc.disable()  # it would come in the middle of either
    try:
        for i in range(rounds):
            first, second = (ours, theirs) if i % 2 == 0 else (theirs, ours)
            one, other = timed(first), timed(second)
            pairs.append((one, other) if i % 2 == 0 else (other, one))
    finally:
        gc.enable()
    ratios = [own / peer for own, peer in pairs]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if rounds > 1 else ratios * 3
    seconds, against = (statistics.median(column) for column in zip(*pairs, strict=True))
    figures = {
        "seconds": seconds,
        "against_seconds": against,
        "ratio": statistics.median(ratios),
        "ratio_low": low,
        "ratio_high": high,
    }
    return {key: float(f"{value:.4g}") for key, value in figures.items()} | {"rounds": rounds}


def judged(row: dict[str, Any], goal: float) -> dict[str, Any]:
    """A row with its goal, the most that its ratio may be."""
    return row | {"goal": f"<= {goal:.4g}", "met": "yes" if row["ratio"] <= goal else "no"}


def largest_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Between two tensors, as a share of the largest number of the second."""
    return float(f"{((ours - theirs).abs().max() / theirs.abs().max()).item():.2g}")
