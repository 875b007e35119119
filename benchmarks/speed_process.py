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
    """mAP, CP CR CF1 OP OR OF1 label by label, and AP image by image, as the reference's meter computes them.

    Non-interpolated AP: the precision at each positive, in the order of the scores, averaged. Targets are 0 or 1.
    """
    precisions, chosen, correct, present = [], [], [], []
    for label in range(scores.size(1)):
        order = torch.argsort(scores[:, label], descending=True)
        positives, total = 0, 0.0
        for seen, image in enumerate(order, start=1):
            if targets[image, label] == 1:
                positives += 1
                total += positives / seen
        precisions.append(total / positives)
        predicted, truth = scores[:, label] >= 0.5, targets[:, label] == 1
        chosen.append(int(predicted.sum()))
        correct.append(int((predicted & truth).sum()))
        present.append(int(truth.sum()))
    each = range(len(precisions))
    cp = sum(correct[k] / max(chosen[k], 1) for k in each) / len(each)
    cr = sum(correct[k] / present[k] for k in each) / len(each)
    op, overall = sum(correct) / max(sum(chosen), 1), sum(correct) / sum(present)
    return {
        "mAP": sum(precisions) / len(each),
        "CP": cp,
        "CR": cr,
        "CF1": 2 * cp * cr / (cp + cr),
        "OP": op,
        "OR": overall,
        "OF1": 2 * op * overall / (op + overall),
    }


def metrics(sizes: Sizes, device: str) -> Iterator[dict[str, Any]]:
    """Section: all metrics against a loop over labels and images."""
    if device != "cpu":
        return
    num_images, num_labels = sizes.images
    generator = torch.Generator().manual_seed(0)
    share = torch.logspace(-2, -0.5, num_labels)  # from 1 to 32 % of the images, as COCO's labels
    targets = (torch.rand(num_images, num_labels, generator=generator) < share).to(torch.int8)
    noise = torch.randn(num_images, num_labels, generator=generator, dtype=torch.float64)
    scores = (2.5 * targets + noise - 1.5).sigmoid()
    assert all(len(column.unique()) == num_images for column in scores.T), "a loop knows nothing of ties"
    results: dict[str, dict[str, float]] = {}

    def ours() -> None:
        results["ours"] = multilabel_metrics(scores, targets)

    def theirs() -> None:
        results["theirs"] = loop_metrics(scores, targets)

    rounds = min(sizes.rounds, 3)
    row = alternate(ours, theirs, rounds, warm=False)
    difference = max(abs(results["ours"][name] - value) for name, value in results["theirs"].items())
    row |= {
        "work": "mAP and all F1s",
        "against": "a loop over labels and images",
        "size": f"{num_images:,} images, {num_labels} labels",
        "equal_to": float(f"{difference:.2g}"),
        "note": f"{1 / row['ratio']:,.0f} times faster, with top-3 and other averages, which the loop leaves out",
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
