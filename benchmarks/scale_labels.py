"""From 80 to 100,000 labels: the label graph, a training step of the head, and folded inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scale_process import Sizes, measure, noted, repeated
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Data

import zoo
from zoo.annotations import Annotations
from zoo.heads import build_head, fold_head
from zoo.plots.page import GREY, MARKERS, PALETTE, add_panels, new_figure

NUM_FEATURES = 1280
BATCH = 8
FEWEST_FITTED = 1_000  # with 80 labels, what does not depend on them is nearly all there is


def sparse_annotations(num_labels: int, seed: int = 0) -> tuple[Annotations, list[str]]:
    """Annotations of which the label graph is random, of average degree 10, with 5 L images of two labels.

    The images show the pairs (i, p(i)) of five random permutations p, so that each label meets ten others once each,
    or a few less where permutations agree or leave a label where it is. A neighbour's conditional probability is
    0.1, and 0.05 a threshold that keeps them all.
    """
    generator = np.random.default_rng(seed)
    pairs = np.concatenate(
        [np.stack([np.arange(num_labels), generator.permutation(num_labels)]) for _ in range(5)], axis=1
    )
    images = np.tile(np.arange(pairs.shape[1]), 2)
    seen = sp.csr_array(
        (np.ones(len(images), dtype=np.int8), (images, pairs.ravel())), shape=(pairs.shape[1], num_labels)
    )
    seen.data[:] = 1  # a label that is its own partner was added up
    return Annotations(seen), [f"label {i}" for i in range(num_labels)]


def sparse_graph(num_labels: int) -> Data:
    """The label graph of these annotations, with random vectors of 300."""
    return zoo.label_graph(*sparse_annotations(num_labels), threshold=0.05, embeddings="random")


def make_build(num_labels: int) -> Callable[[], Data]:
    """Annotations, and what makes a label graph of them."""
    annotations, names = sparse_annotations(num_labels)
    return lambda: zoo.label_graph(annotations, names, threshold=0.05, embeddings="random")


def make_batch(num_labels: int) -> tuple[Tensor, Tensor]:
    """Feature maps (B, D, 7, 7) and targets (B, L), with about ten labels on each image."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.zeros(BATCH, num_labels, dtype=torch.int8)
    targets.scatter_(1, torch.randint(num_labels, (BATCH, 10), generator=generator), 1)
    return torch.rand(BATCH, NUM_FEATURES, 7, 7, generator=generator), targets


def make_step(head_name: str, num_labels: int) -> Callable[[], None]:
    """A head, and what trains it by one step: forward, backward, SGD."""
    head = build_head(head_name, NUM_FEATURES, sparse_graph(num_labels))
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
    feature_map, targets = make_batch(num_labels)

    def step() -> None:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(head(feature_map), targets.float()).backward()
        optimizer.step()

    return step


def make_inference(num_labels: int) -> Callable[[], Tensor]:
    """A folded ML-GCN, and what gives the logits of a batch."""
    head = fold_head(build_head("mlgcn", NUM_FEATURES, sparse_graph(num_labels))).eval()
    feature_map, _ = make_batch(num_labels)
    return torch.inference_mode()(lambda: head(feature_map))


def graph_building(num_labels: int, seconds: float) -> dict[str, float]:
    """Sparse annotations, in memory, to a label graph with random vectors."""
    measured = repeated(make_build, num_labels, seconds)
    print(f"average degree {sparse_graph(num_labels).num_edges / num_labels - 1:.2f} without self-loops")
    return measured


def mlgcn_step(num_labels: int, seconds: float) -> dict[str, float]:
    """A training step of ``mlgcn``, its width of 1,024 included."""
    return repeated(partial(make_step, "mlgcn"), num_labels, seconds)


def linear_step(num_labels: int, seconds: float) -> dict[str, float]:
    """A training step of ``linear``."""
    return repeated(partial(make_step, "linear"), num_labels, seconds)


def folded_inference(num_labels: int, seconds: float) -> dict[str, float]:
    """Inference of a folded ``mlgcn``; the peak, and not the increase, is that of folding it too."""
    return repeated(make_inference, num_labels, seconds)


def labels(sizes: Sizes, folder: Path) -> Iterator[dict[str, Any]]:
    """Section: each piece of work on growing label graphs, then the exponents with which its cost grows."""
    for work in (graph_building, mlgcn_step, linear_step, folded_inference):
        table = []
        for num_labels in sizes.labels:
            row = {"size": f"{num_labels:,} labels", **measure(work, num_labels, sizes.seconds)}
            table.append((num_labels, row["seconds"], row["increase_MiB"]))
            yield row
        counts, seconds, memory = np.array([row for row in table if row[0] >= FEWEST_FITTED]).T
        yield {
            "work": work.__name__,
            "size": f"{counts[0]:,.0f} to {counts[-1]:,.0f} labels",
            "time_exponent": exponent(counts, seconds),
            "memory_exponent": exponent(counts, memory),
            "note": "least squares of logarithms",
        }


def exponent(counts: np.ndarray, costs: np.ndarray) -> float:
    """The power of the number of labels with which costs grow: the slope of logarithms by least squares."""
    return round(float(np.polyfit(np.log(counts), np.log(costs), 1)[0]), 3)


def train_mlgcn(num_images: int, num_labels: int) -> None:
    """Trains ``mlgcn`` of width 256 on frozen features for two epochs, with images of 32 kinds and ten labels each."""
    from zoo.features import OnFeatures
    from zoo.train import Recipe, fit_in_memory, tensor_loader

    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(32, NUM_FEATURES, generator=generator)
    of_kind = torch.randint(num_labels, (32, 10), generator=generator)

    def images(count: int) -> tuple[Tensor, Tensor]:
        kind = torch.arange(count) % 32
        targets = torch.zeros(count, num_labels, dtype=torch.int8).scatter_(1, of_kind[kind], 1)
        return kinds[kind] + torch.randn(count, NUM_FEATURES, generator=generator), targets

    model = OnFeatures(build_head("mlgcn", NUM_FEATURES, sparse_graph(num_labels), widths=(256,)))
    recipe = Recipe(epochs=2)
    (inputs, targets), val = images(num_images), images(num_images // 4)
    train = tensor_loader(inputs, targets, recipe, shuffle=True)
    with noted(f"targets of {targets.nbytes / 2**20:,.0f} MiB; trained"):
        history = fit_in_memory(model, train, tensor_loader(*val, recipe), recipe, targets)
    first, last = history[0], history[-1]
    print(
        f"loss {first['train_loss']:.3g}, then {last['train_loss']:.3g}; val mAP {first['val_mAP']:.3f}, "
        f"then {last['val_mAP']:.3f}"
    )


def train_labels(sizes: Sizes, folder: Path) -> Iterator[dict[str, Any]]:
    """Section: a training with a great many labels, with validation after each epoch."""
    yield {"size": "{:,} images, {:,} labels".format(*sizes.trained), **measure(train_mlgcn, *sizes.trained)}


def plot_labels(rows: Sequence[dict[str, str]], path: Path) -> Path:
    """Time and memory against the number of labels, both logarithmic.

    Args:
        rows: of ``scale.csv``, those of the section ``labels``.
        path: the picture to write.
    """
    works = list(dict.fromkeys(row["work"] for row in rows))
    fits = {row["work"]: row for row in rows if row["time_exponent"]}
    names = {
        work: f"{work.replace('_', ' ')}: time L^{float(fits[work]['time_exponent']):.2f}, "
        f"memory L^{float(fits[work]['memory_exponent']):.2f}"
        for work in works
    }
    with new_figure(path) as figure:
        panels = add_panels(
            figure,
            9.0,
            3.6,
            "Cost against the number of labels L",
            f"Label graphs of average degree 10, {NUM_FEATURES:,} features, batches of {BATCH}. Exponents are fitted "
            f"from {FEWEST_FITTED:,} labels on. Dashed: proportional to L.",
            [(names[work], PALETTE[k], MARKERS[k]) for k, work in enumerate(works)],
            panels=2,
        )
        units = {"seconds": "seconds", "increase_MiB": "memory beyond imports, MiB"}
        for axes, (key, unit) in zip(panels, units.items(), strict=True):
            for k, work in enumerate(works):
                points = [row for row in rows if row["work"] == work and row[key]]
                counts = np.array([int(row["size"].split()[0].replace(",", "")) for row in points])
                costs = np.array([float(row[key]) for row in points])
                axes.plot(counts, costs, color=PALETTE[k], marker=MARKERS[k], markersize=5, linewidth=1.6)
                proportional = costs[-1] * counts / counts[-1]
                axes.plot(counts, proportional, color=GREY, linestyle=(0, (4, 3)), linewidth=0.8)
            axes.set(xscale="log", yscale="log", xlabel="labels L", ylabel=unit)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(
                    "{x:,g}"
                )  # powers would be mathematics, which the style leaves as it is
            axes.minorticks_off()
    return path
