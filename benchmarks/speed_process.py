"""What needs no accelerator: metrics, and how soon a process can begin."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from speed_ratio import Sizes, alternate, judged
from torch import Tensor

import zoo
from zoo.metrics import multilabel_metrics


def loop_metrics(scores: Tensor, targets: Tensor) -> dict[str, float]:
    """mAP label by label and place by place, CP CR CF1 OP OR OF1 and those of the top 3, as the reference's meter does.

    Non-interpolated AP: the precision at each positive, in the order of the scores, averaged. Targets are 0 or 1.
    """
    precisions = []
    for label in range(scores.size(1)):
        order = torch.argsort(scores[:, label], descending=True)
        positives, total = 0, 0.0
        for seen, image in enumerate(order, start=1):
            if targets[image, label] == 1:
                positives += 1
                total += positives / seen
        precisions.append(total / positives)
    best = torch.zeros_like(scores, dtype=torch.bool)
    for image, labels in enumerate(scores.topk(3, dim=1).indices):
        for label in labels:
            best[image, label] = scores[image, label] >= 0.5
    top = {f"{name}_top3": value for name, value in class_and_overall(best, targets).items()}
    return {"mAP": sum(precisions) / len(precisions), **class_and_overall(scores >= 0.5, targets), **top}


def class_and_overall(predicted: Tensor, targets: Tensor) -> dict[str, float]:
    """CP CR CF1 OP OR OF1, label by label."""
    chosen, correct, present = [], [], []
    for label in range(targets.size(1)):
        truth = targets[:, label] == 1
        chosen.append(int(predicted[:, label].sum()))
        correct.append(int((predicted[:, label] & truth).sum()))
        present.append(int(truth.sum()))
    each = range(len(chosen))
    cp = sum(correct[k] / max(chosen[k], 1) for k in each) / len(each)
    cr = sum(correct[k] / present[k] for k in each) / len(each)
    op, overall = sum(correct) / max(sum(chosen), 1), sum(correct) / sum(present)
    return {
        "CP": cp,
        "CR": cr,
        "CF1": 2 * cp * cr / (cp + cr),
        "OP": op,
        "OR": overall,
        "OF1": 2 * op * overall / (op + overall),
    }


def made_up_scores(num_images: int, num_labels: int) -> tuple[Tensor, Tensor]:
    """Scores in single precision, as models give them, without ties, of which a loop knows nothing; and targets."""
    generator = torch.Generator().manual_seed(0)
    share = torch.logspace(-2, -0.5, num_labels)  # from 1 to 32 % of the images, as COCO's labels
    targets = (torch.rand(num_images, num_labels, generator=generator) < share).to(torch.int8)
    noise = torch.randn(num_images, num_labels, generator=generator, dtype=torch.float64)
    places = (2.5 * targets + noise).argsort(0).argsort(0) + torch.arange(num_labels) / num_labels
    return (places / num_images) ** 8, targets  # 8 % of them are above 0.5


def metrics(sizes: Sizes, device: str) -> Iterator[dict[str, Any]]:
    """Section: all metrics against a loop over labels and images."""
    if device != "cpu":
        return
    num_images, num_labels = sizes.images
    scores, targets = made_up_scores(num_images, num_labels)
    results: dict[str, dict[str, float]] = {}

    def ours() -> None:
        results["ours"] = multilabel_metrics(scores, targets)

    def theirs() -> None:
        results["theirs"] = loop_metrics(scores, targets)

    ours()  # the loop, which takes minutes, has no need to warm up
    row = alternate(ours, theirs, min(sizes.rounds, 3), warm=False)
    difference = max(abs(results["ours"][name] - value) for name, value in results["theirs"].items())
    row |= {
        "work": "mAP and all F1s",
        "against": "a loop over labels and images",
        "size": f"{num_images:,} images, {num_labels} labels, float32",
        "equal_to": float(f"{difference:.2g}"),
        "note": f"{1 / row['ratio']:,.0f} times faster, with scikit-learn's averages, which the loop leaves out",
    }
    yield judged(row, 1 / 200)


def python(*arguments: str) -> None:
    """A fresh Python process, which knows this package."""
    path = os.pathsep.join([str(Path(zoo.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "ignore", *arguments]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True)


def imports(sizes: Sizes, device: str) -> Iterator[dict[str, Any]]:
    """Section: ``import zoo``, and what it takes to build a model, against timm and PyG; and ``zoo --help``."""
    if device != "cpu":
        return
    peers = ("-c", "import timm, torch_geometric")
    works = {
        "import zoo": ("-c", "import zoo"),
        "import zoo, and its models": ("-c", "import zoo; zoo.build"),
        "zoo --help": ("-m", "zoo", "--help"),
    }
    for work, arguments in works.items():
        row = {
            "work": work,
            "against": peers[1],
            "size": "a fresh process",
            **alternate(partial(python, *arguments), partial(python, *peers), sizes.processes, warm=False),
        }
        if work == "import zoo":
            row = judged(row, 1.05)
        if work == "zoo --help":
            row |= {"goal": "< 1 s", "met": "yes" if row["seconds"] < 1 else "no"}
        yield row
