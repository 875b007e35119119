"""Heads alone, on features and feature maps that are there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speed_ratio import Sizes, alternate, judged, largest_difference
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Data

import zoo
from zoo.cost import head_cost
from zoo.graph import label_graph
from zoo.heads import HEADS, Head, build_head, graph_edges

NUM_FEATURES = 2048  # of the ResNet-101 of the paper
BATCH = 8
MAP = 14  # rows and columns of its feature map at 448 pixels
DEGREE = 8


def random_graph(num_labels: int) -> Data:
    """A normalised label graph in which a label hears about eight others, with random vectors of 300."""
    generator = np.random.default_rng(0)
    pairs = [
        (np.arange(num_labels), generator.permutation(num_labels))
        for _ in range(min(DEGREE // 2, num_labels))
    ]
    images, labels = [], []
    for k, (one, other) in enumerate(pairs):
        for column in (one, other):
            images.append(np.arange(num_labels) + k * num_labels)
            labels.append(column)
    targets = np.zeros((num_labels * len(pairs), num_labels), dtype=np.int8)
    targets[np.concatenate(images), np.concatenate(labels)] = 1
    return label_graph(
        targets, [f"label {i}" for i in range(num_labels)], threshold=0.05, embeddings="random"
    )


def dense_mlgcn(weights: Tensor, head: Head, features: Tensor) -> Tensor:
    """Chen et al., CVPR 2019, Eq. 3 and 4, with the whole (L, L) matrix, as published."""
    p = dict(head.named_parameters())
    first, second = p["convs.0.conv.lin.weight"], p["convs.1.conv.lin.weight"]
    hidden = F.leaky_relu(weights @ (head.get_buffer("x") @ first.T), 0.2)
    return features @ (weights @ (hidden @ second.T)).T


def dense_sgc(weights: Tensor, head: Head, features: Tensor) -> Tensor:
    """Wu et al., ICML 2019, Eq. 6, with the whole (L, L) matrix."""
    p = dict(head.named_parameters())
    hidden = weights @ (weights @ (head.get_buffer("x") @ p["convs.0.conv.lin.weight"].T))
    return features @ (hidden + p["convs.0.conv.lin.bias"]).T


DENSE: dict[str, Callable[[Tensor, Head, Tensor], Tensor]] = {"mlgcn": dense_mlgcn, "sgc": dense_sgc}


def graph_head(sizes: Sizes, device: str) -> Iterator[dict[str, Any]]:
    """Section: forward and backward of ``mlgcn`` and ``sgc`` against their dense formulas."""
    for num_labels in sizes.graph_labels:
        graph = zoo.label_space("coco2014") if num_labels == 80 else random_graph(num_labels)
        for name in DENSE:
            row = against_dense(name, graph, sizes.rounds, device)
            yield judged(row, 1 / 20 if num_labels >= 4_000 else 1)


def against_dense(name: str, graph: Data, rounds: int, device: str) -> dict[str, Any]:
    """A row: the head on this graph against its dense formula, with the same weights, values and gradients."""
    num_labels = len(graph.label_names)
    weights = torch.zeros(num_labels, num_labels)
    weights[graph.edge_index[1], graph.edge_index[0]] = graph.edge_weight  # label i hears from the labels j
    head = build_head(name, NUM_FEATURES, graph).to(device).train()
    features = torch.randn(BATCH, NUM_FEATURES, device=device)
    direction = torch.randn(BATCH, num_labels, device=device)
    ours, theirs = gradients(name, head, weights.to(device), features, direction)
    figures = alternate(ours, theirs, rounds, device)
    # In double precision: of millions of hidden numbers one rounds to the other side of LeakyReLU's kink now and then,
    # in single precision, and its gradient is then another by either formula.
    double = (tensor.to(device).double() for tensor in (weights, features, direction))
    ours, theirs = gradients(name, head.double(), *double)
    row = {
        "work": f"{name} head, forward and backward",
        "against": "its dense formula",
        "size": f"{num_labels:,} labels, {graph.num_edges:,} edges, {BATCH} images",
        **figures,
        "equal_to": max(map(largest_difference, ours(), theirs())),
    }
    return row | {"note": f"{1 / row['ratio']:.1f} times faster; values and gradients, in float64"}


Gradients = Callable[[], list[Tensor]]


def gradients(
    name: str, head: Head, weights: Tensor, features: Tensor, direction: Tensor
) -> tuple[Gradients, Gradients]:
    """What runs the head, and what runs its dense formula: each returns the logits and all gradients."""

    def run(logits_of: Callable[[], Tensor]) -> list[Tensor]:
        head.zero_grad()
        logits = logits_of()
        logits.backward(direction)
        return [logits.detach(), *(p.grad for p in head.parameters() if p.grad is not None)]

    return (
        lambda: run(lambda: head.from_pooled(features)),
        lambda: run(lambda: DENSE[name](weights, head, features)),
    )


def make_step(name: str, device: str) -> Callable[[], None]:
    """A head for COCO's 80 labels, and what runs it forward and backward on a batch of feature maps."""
    labels = zoo.label_space("coco2014", edges=graph_edges(name))
    head = build_head(name, NUM_FEATURES, labels).to(device).train()
    feature_map = torch.rand(BATCH, NUM_FEATURES, MAP, MAP, device=device)
    targets = (torch.rand(BATCH, 80, device=device) < 0.04).float()

    def step() -> None:
        head.zero_grad()
        F.binary_cross_entropy_with_logits(head(feature_map), targets).backward()

    return step


def heads(sizes: Sizes, device: str) -> Iterator[dict[str, Any]]:
    """Section: every head against ``linear``."""
    names = sizes.heads or tuple(name for name in HEADS if name != "linear")
    linear, memory = make_step("linear", device), {}
    for name in ("linear", *names):
        with Worker(name, device) as worker:
            memory[name] = worker.peak_MiB
    for name in names:
        labels = zoo.label_space("coco2014", edges=graph_edges(name))
        cost = head_cost(name, NUM_FEATURES, labels, MAP)
        yield {
            "work": f"{name}, forward and backward",
            "against": "linear",
            "size": f"80 labels, {BATCH} maps of {MAP} x {MAP} x {NUM_FEATURES:,}",
            **alternate(make_step(name, device), linear, sizes.rounds, device),
            "peak_MiB": memory[name],
            "against_peak_MiB": memory["linear"],
            "parameters": cost.parameters,
            "flops_image": cost.flops_image,
            "flops_once": cost.flops_once,
        }


SCATTERED = ("mlgcn", "sgc", "gat", "ssgrl", "coupled")
WORKER = """
import sys, time
import torch
import torch_geometric.typing
from scale_process import peak_memory
from speed_heads import make_step

scatter, name, device = sys.argv[1:]
assert torch_geometric.typing.WITH_TORCH_SCATTER == (scatter == "with"), "torch-scatter is not as asked for"
before = peak_memory()
step = make_step(name, device)
step()
print(torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else peak_memory() - before, flush=True)
for line in sys.stdin:
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    print("done", flush=True)
"""


class Worker:
    """A process that makes a head's step whenever it is asked to, with torch-scatter or without it.

    Args:
        name: of the head.
        device: cpu or cuda.
        scatter: folder of torch-scatter; None: without it.

    Attributes:
        peak_MiB: memory that the head and its first step took, beyond that of the libraries.
    """

    def __init__(self, name: str, device: str, scatter: Path | None = None) -> None:
        here = [Path(__file__).parent, Path(zoo.__file__).parent.parent]
        path = os.pathsep.join(map(str, [*here, *([scatter] if scatter else [])]))
        options = ["with" if scatter else "without", name, device]
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WORKER, *options],
            # Of two that are measured in turn, the one that waits must leave the cores to the other.
            env={**os.environ, "PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.peak_MiB = round(float(self._answer()))

    def _answer(self) -> str:
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"a process that was to be measured ended: {self.process.args!r}")
        return line

    def step(self) -> None:
        """One step; returns when it is done."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def scatter(sizes: Sizes, device: str) -> Iterator[dict[str, Any]]:
    """Section: graph heads in a process where PyG finds torch-scatter, against one where it does not."""
    if sizes.scatter is None:
        return
    for name in sizes.heads or SCATTERED:
        with Worker(name, device, sizes.scatter) as with_it, Worker(name, device) as without:
            yield {
                "work": f"{name}, forward and backward, with torch-scatter",
                "against": "without it",
                "size": f"80 labels, {BATCH} maps of {MAP} x {MAP} x {NUM_FEATURES:,}",
                **alternate(with_it.step, without.step, 2 * sizes.rounds, device),
            }
