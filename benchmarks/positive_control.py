"""The positive control: data on which a label graph must help, or else the code is broken.

    label vectors y (N, 80) of COCO photos --strength * y + noise--> evidence --each label's own--> logits (N, 80)
                                           logits (N, 80) --couplings of the labels--> logits

Who goes with whom is COCO's own; the evidence of each label is simulated, independently of the other labels. The
baseline is the best that there is without them: a label's exact log-odds given its own evidence. To it ``coupled``
adds what the other labels say, with the two numbers that it fits on validation; nothing else is trained. (A trained
linear layer would be no such baseline: it sees the evidence of all labels, and learns who goes with whom.) If the real
graph gains nothing here, "graphs do not help" cannot be told from a bug.

``coco2014_labels.npz`` holds the label vectors: a random part of the annotations of COCO 2014 (Lin et al., ECCV 2014,
https://arxiv.org/abs/1405.0312; CC BY 4.0), 8,000 photos to train on and 1,000 to choose by from its training photos,
2,000 to test on from its validation photos.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from zoo.annotations import Annotations
from zoo.controls import control
from zoo.data import ImageDataset
from zoo.graph import label_graph
from zoo.heads import build_head
from zoo.label_spaces import label_counts
from zoo.metrics import mean_average_precision, multilabel_metrics
from zoo.report import Comparison, Result, provenance

LABEL_VECTORS = Path(__file__).with_name("coco2014_labels.npz")
SIZES = {"train": 8_000, "val": 1_000, "test": 2_000}
STRENGTHS = (1.5, 2.5, 3.5)


class SimulatedImages(ImageDataset):
    """Images of which there is evidence and no pixels."""

    def images_fingerprint(self) -> str:
        return hashlib.blake2b(self.name.encode(), digest_size=8).hexdigest()


def sample(targets: np.ndarray, is_train: np.ndarray) -> np.ndarray:
    """The label vectors that ``coco2014_labels.npz`` holds, (11,000, 80), from all of COCO 2014's."""
    generator = np.random.default_rng(0)
    train, test = (generator.permutation(np.flatnonzero(part)) for part in (is_train, ~is_train))
    fitted = SIZES["train"] + SIZES["val"]
    return targets[np.concatenate([train[:fitted], test[: SIZES["test"]]])]


def write_sample(targets: np.ndarray, is_train: np.ndarray, path: Path = LABEL_VECTORS) -> None:
    """Writes :func:`sample`, eight labels a byte."""
    np.savez_compressed(path, targets=np.packbits(sample(targets, is_train) == 1, axis=1))


def simulated(strength: float) -> SimulatedImages:
    """The data set: label vectors and splits.

    Args:
        strength: of the evidence that will be drawn; it is part of the name.
    """
    with np.load(LABEL_VECTORS, allow_pickle=False) as arrays:
        targets = np.unpackbits(arrays["targets"], axis=1).astype(np.int8)
    return SimulatedImages(
        f"coco80-simulated-{strength:g}",
        [Path(f"{i}.jpg") for i in range(len(targets))],
        Annotations.from_array(targets),
        list(label_counts("coco2014").label_names),
        np.repeat([*SIZES], [*SIZES.values()]),
    )


def log_odds(data: ImageDataset, strength: float, seed: int) -> Tensor:
    """(N, L): of each label given its own evidence, Gaussian around 0 or ``strength`` with a deviation of 1."""
    targets = torch.from_numpy(data.targets)
    noise = torch.randn(targets.shape, generator=torch.Generator().manual_seed(seed))
    share = torch.from_numpy(data.split("train").targets).float().mean(0)
    return share.logit() + strength * (strength * targets + noise - strength / 2)


def coupled_logits(graph: Data, logits: Tensor, targets: Tensor, splits: np.ndarray) -> tuple[Tensor, float]:
    """What ``coupled`` concludes from the logits (N, L), and with which strength, fitted on the validation split."""
    head = build_head("coupled", 1, graph).eval()
    val = torch.from_numpy(splits == "val")
    head.begin_training(targets[torch.from_numpy(splits == "train")])
    head.finish_training(logits[val], targets[val])
    with torch.no_grad():
        return head.refine(logits, None), float(head.strength)  # type: ignore[arg-type]


def draw_runs(
    data: ImageDataset, graph: Data | None, strength: float, seeds: int
) -> tuple[list[dict[str, Any]], list[Tensor]]:
    """What a comparison keeps of an entry: a row for each draw of the evidence, and the scores of its test images.

    Args:
        data: label vectors and splits.
        graph: by which ``coupled`` concludes from label to label; None: the evidence is left as it is.
        strength: of the evidence.
        seeds: draws of it.
    """
    targets = torch.from_numpy(data.targets)
    val, test = (torch.from_numpy(data.splits == split) for split in ("val", "test"))
    runs, scores = [], []
    for seed in range(seeds):
        began = time.perf_counter()
        logits, fitted = log_odds(data, strength, seed), 0.0
        if graph is not None:
            logits, fitted = coupled_logits(graph, logits, targets, data.splits)
        found = logits.sigmoid()
        metrics = multilabel_metrics(found[test], targets[test])
        scores.append(found[test])
        runs.append(
            {
                **{f"test_{key}": value for key, value in metrics.items()},
                "val_mAP": mean_average_precision(found[val], targets[val]),
                "best_epoch": 0,
                "lr": "",
                "weight_decay": "",
                "parameters": 0,
                "strength": fitted,
                "seconds": time.perf_counter() - began,
                "seed": seed,
            }
        )
    return runs, scores


def positive_control(strength: float, seeds: int = 5) -> Comparison:
    """Label graphs of COCO against each label's own evidence, and the controls of these graphs.

    Args:
        strength: standard deviations between the evidence of a photo that has a label and of one that has not.
        seeds: draws of the evidence, the same for all.
    """
    data = simulated(strength)
    # Counted from other photos than those that are tested.
    real = label_graph(data.split("train").label_counts(), edges="couplings", embeddings="onehot")
    entries = {
        ("own evidence", "baseline"): None,
        ("coupled", "graph"): real,
        **{(f"coupled:graph={name}", "control"): control(real, name) for name in ("shuffled", "identity")},
    }
    results = [
        Result(name, kind, [], *draw_runs(data, graph, strength, seeds))
        for (name, kind), graph in entries.items()
    ]
    protocol = {"epochs": 0, "evidence": strength, "seeds": seeds, "trials": 0, "threshold": 0.1}
    asked = [torch.from_numpy(data.split("test").targets)] * seeds
    return Comparison(data, results, protocol, None, asked, provenance(data))
