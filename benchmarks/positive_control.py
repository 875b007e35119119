"""The positive control: data on which a label graph must help, or else the code is broken.

    label vectors y of 14,000 COCO photos --strength * y + noise--> evidence (N, 80) --rotated--> features (N, D)

Who goes with whom is COCO's own; the evidence of each label is simulated, independently of the other labels. A linear
layer can read that evidence, and by construction nothing else; what the other labels say of a label comes on top. If
the real graph gains nothing here, "graphs do not help" cannot be told from a bug.

``coco2014_labels.npz`` holds the label vectors: a random part of the annotations of COCO 2014 (Lin et al., ECCV 2014,
https://arxiv.org/abs/1405.0312; CC BY 4.0), 8,000 photos to train on and 1,000 to choose by from its training photos,
5,000 to test on from its validation photos.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.annotations import Annotations
from zoo.backbones import Backbone
from zoo.bench import Bench
from zoo.comparison import compare_entries
from zoo.data import ImageDataset
from zoo.entry import BACKBONE, Entry
from zoo.label_spaces import label_counts
from zoo.protocol import Protocol
from zoo.report import Comparison
from zoo.run_store import RunStore

LABEL_VECTORS = Path(__file__).with_name("coco2014_labels.npz")
SIZES = {"train": 8_000, "val": 1_000, "test": 5_000}
# Standard deviations between the evidence of a photo that has a label and of one that does not.
STRENGTHS = (1.5, 2.5, 3.5)


@dataclass
class SimulatedImages(ImageDataset):
    """Images of which there are features and no pixels.

    Attributes:
        features_digest: names the features.
    """

    features_digest: str = ""

    def images_fingerprint(self) -> str:
        return self.features_digest


def sample(targets: np.ndarray, is_train: np.ndarray) -> np.ndarray:
    """The label vectors that ``coco2014_labels.npz`` holds, (14,000, 80), from all of COCO 2014's."""
    generator = np.random.default_rng(0)
    train, test = (generator.permutation(np.flatnonzero(part)) for part in (is_train, ~is_train))
    fitted = SIZES["train"] + SIZES["val"]
    return targets[np.concatenate([train[:fitted], test[: SIZES["test"]]])]


def write_sample(targets: np.ndarray, is_train: np.ndarray, path: Path = LABEL_VECTORS) -> None:
    """Writes :func:`sample`, eight labels a byte."""
    np.savez_compressed(path, targets=np.packbits(sample(targets, is_train) == 1, axis=1))


def simulated(strength: float, num_features: int) -> tuple[SimulatedImages, Tensor]:
    """Data set and features (N, D).

    Args:
        strength: of the evidence; 0 would leave chance alone.
        num_features: D, at least the 80 labels.
    """
    with np.load(LABEL_VECTORS, allow_pickle=False) as arrays:
        targets = np.unpackbits(arrays["targets"], axis=1).astype(np.int8)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(targets.shape, generator=generator)
    evidence = strength * torch.from_numpy(targets) + noise
    rotation, _ = torch.linalg.qr(torch.randn(num_features, targets.shape[1], generator=generator))
    features = evidence @ rotation.T
    data = SimulatedImages(
        f"coco80-simulated-{strength:g}",
        [Path(f"{i}.jpg") for i in range(len(targets))],
        Annotations.from_array(targets),
        list(label_counts("coco2014").label_names),
        np.repeat([*SIZES], [*SIZES.values()]),
        features_digest=hashlib.blake2b(features.numpy().tobytes(), digest_size=8).hexdigest(),
    )
    return data, features


def compare_simulated(
    strength: float, entries: Sequence[Entry], protocol: Protocol, runs: Path, backbone: str = BACKBONE
) -> Comparison:
    """The protocol of ``zoo.compare`` on simulated features.

    Args:
        strength: of the evidence.
        entries: heads on that backbone.
        protocol: search, seeds, regime.
        runs: where finished runs are kept.
        backbone: gives the features their number; it sees no image.
    """
    data, features = simulated(strength, Backbone(backbone, pretrained=False).num_features)
    # There are no positions, so that all poolings are one.
    pooled = {(backbone, kind): features for kind in ("avg", "max")}
    bench = Bench(data, protocol, pretrained=False, workers=0, features=pooled)
    return compare_entries(bench, entries, RunStore(runs))
