"""What several test files share: a quiet machine, a cache of their own, and a data set of eight colours."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

# Threads that wait must sleep, not spin, as the command line has it. It has to be said before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch
from PIL import Image
from small_heads import EMBEDDING, NUM_FEATURES, NUM_LABELS, graph_of
from torch import Tensor
from torch_geometric.data import Data

from zoo.annotations import Annotations
from zoo.data import ImageDataset
from zoo.graph import label_graph

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
COLOURS = ["red", "green", "blue"]

# One tiny timm model for each layout of forward_features: (B, D, h, w), (B, h, w, D), tokens with and without
# a class token.
BACKBONES = ["test_efficientnet", "test_mambaout", "test_vit", "test_vit_relpos"]


@pytest.fixture(scope="session", autouse=True)
def _quiet_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # On a busy machine, more of them wait for each other: 25 s instead of 0.5 for one test.
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    """32 images of 32 x 32 pixels, each of one mixed colour: its labels are the primaries in it.

    16 are in train, 8 in val and 8 in test, each of the eight mixtures equally often in every split.
    """
    folder: Path = tmp_path_factory.mktemp("colours")
    noise = np.random.default_rng(0)
    targets = np.array([[i >> bit & 1 for bit in range(3)] for i in range(8)] * 4, dtype=np.int8)
    images = []
    for i, mixture in enumerate(targets):
        pixels = 40 + 170 * mixture.astype(int) + noise.integers(-20, 20, (32, 32, 3))
        images.append(folder / f"{i:02}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(images[-1])
    splits = np.repeat(["train", "val", "test"], [16, 8, 8])
    return ImageDataset("colours", images, Annotations.from_array(targets), list(COLOURS), splits)


@pytest.fixture
def colour_graph(colours: ImageDataset) -> Data:
    """The label graph of the colours: every label a neighbour of every other."""
    return label_graph(colours.targets, colours.label_names, embeddings="random")


@pytest.fixture
def weights() -> Tensor:
    """A label graph as a matrix (source, target), not symmetric, so that the direction matters."""
    torch.manual_seed(0)
    weights = torch.rand(NUM_LABELS, NUM_LABELS) * (torch.rand(NUM_LABELS, NUM_LABELS) < 0.5)
    weights[0, 1], weights[1, 0] = 0.4, 0
    return weights.fill_diagonal_(0.6)


@pytest.fixture
def graph(weights: Tensor) -> Data:
    """The same as a label graph with label vectors."""
    return graph_of(weights, torch.randn(NUM_LABELS, EMBEDDING))


@pytest.fixture
def feature_map() -> Tensor:
    """(3, D, 4, 5)."""
    return torch.randn(3, NUM_FEATURES, 4, 5)


def pairwise_targets(
    log_odds: np.ndarray, couplings: np.ndarray, num_images: int, seed: int = 0
) -> np.ndarray:
    """Targets (N, L) of a pairwise model of few labels, all of whose 2^L label vectors have their own probability."""
    vectors = np.arange(2 ** len(log_odds))[:, None] >> np.arange(len(log_odds)) & 1
    energy = vectors @ log_odds + np.einsum("vi,ij,vj->v", vectors, couplings, vectors) / 2
    probability = np.exp(energy - energy.max())
    drawn = np.random.default_rng(seed).choice(len(vectors), num_images, p=probability / probability.sum())
    return vectors[drawn].astype(np.int8)


@pytest.fixture
def benchmark_module(monkeypatch) -> Callable[[str], ModuleType]:
    """Imports a script of ``benchmarks/`` by its name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module
