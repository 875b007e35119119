"""Scores of a model on a data set, and what the field reports of them."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from zoo.data import ImageDataset
from zoo.metrics import multilabel_metrics, per_label_metrics
from zoo.model import MultiLabelClassifier

# Lightning greets every trainer with several lines; a comparison makes a hundred trainers.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
# Heads on features in memory need no worker processes.
warnings.filterwarnings("ignore", message=".*does not have many workers.*")


class _Forward(L.LightningModule):
    """Writes what a model gives, and the targets, into their place: parts to be joined would take room twice.

    Attributes:
        known: (N, L) what is known of the labels already, if anything: the model's second argument.
        columns: logits (N, L) and targets (N, L), on the CPU.
        seen: how many rows of them are written.
    """

    def __init__(self, model: nn.Module, num_images: int, known: Tensor | None) -> None:
        super().__init__()
        self.model, self.num_images, self.known = model, num_images, known
        self.columns: list[Tensor] = []
        self.seen = 0

    def predict_step(self, batch: Any, batch_idx: int) -> int:
        inputs, targets = batch
        facts = (
            [] if self.known is None else [self.known[self.seen : self.seen + len(targets)].to(self.device)]
        )
        parts = self.model(inputs, *facts).float(), targets
        if not self.columns:
            with torch.inference_mode(
                False
            ):  # what is made in that mode can neither be changed nor learned from
                self.columns = [torch.empty(self.num_images, *p.shape[1:], dtype=p.dtype) for p in parts]
        start, self.seen = self.seen, self.seen + len(targets)
        for column, part in zip(self.columns, parts, strict=True):
            column[start : self.seen] = part
        return self.seen


def quiet_trainer(**options: Any) -> L.Trainer:
    """A Lightning trainer that says nothing beside its progress bar, and writes nothing unless asked to."""
    defaults: dict[str, Any] = {
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    return L.Trainer(**(defaults | options))


def compute_logits(
    model: nn.Module, loader: DataLoader, *, known: Tensor | None = None, progress: bool = False
) -> tuple[Tensor, Tensor]:
    """Logits (N, L) of everything in a loader, no image of it twice, and the targets (N, L) beside them.

    Args:
        model: called with a batch's inputs, and with its rows of ``known`` where they are given.
        loader: batches of inputs and targets, in order.
        known: (N, L) what is known of the labels already, 1, 0 or -1 for nothing.
        progress: whether to show a bar.
    """
    forward = _Forward(model, len(loader.dataset), known)  # type: ignore[arg-type]
    quiet_trainer(enable_progress_bar=progress).predict(forward, loader, return_predictions=False)
    logits, targets = (column[: forward.seen] for column in forward.columns)
    return logits, targets


def compute_scores(
    model: nn.Module, loader: DataLoader, *, known: Tensor | None = None, progress: bool = False
) -> tuple[Tensor, Tensor]:
    """As :func:`compute_logits`, with sigmoid(logits) (N, L) in their place."""
    logits, targets = compute_logits(model, loader, known=known, progress=progress)
    return logits.sigmoid_(), targets


@dataclass(frozen=True)
class Evaluation:
    """Scores and targets of N images, with the metrics of them.

    Attributes:
        scores: (N, L) sigmoid(logits).
        targets: (N, L) of {1, 0, -1}, for AP.
        label_names: the L labels.
        images: the N file names.
        f1_targets: those for precision, recall and F1, where they are others.
    """

    scores: Float[Tensor, "N L"]
    targets: Integer[Tensor, "N L"]
    label_names: list[str]
    images: list[str]
    f1_targets: Integer[Tensor, "N L"] | None = None

    @classmethod
    def of(cls, data: ImageDataset, scores: Tensor, targets: Tensor) -> Evaluation:
        """The evaluation of scores (N, L) of a data set's images, with the targets (N, L) for AP."""
        f1_targets = data.f1_targets()
        return cls(
            scores,
            targets,
            data.label_names,
            [str(path) for path in data.images],
            None if f1_targets is None else torch.from_numpy(f1_targets),
        )

    def metrics(self, threshold: float | Tensor = 0.5) -> dict[str, float]:
        """mAP, CP CR CF1 OP OR OF1, top-3, and macro, micro and samples P R F1; the threshold may be (L,)."""
        return multilabel_metrics(self.scores, self.targets, threshold=threshold, f1_targets=self.f1_targets)

    def per_label(self, threshold: float | Tensor = 0.5) -> dict[str, Tensor]:
        """AP, precision, recall, F1 and positives of each label, (L,) each."""
        return per_label_metrics(self.scores, self.targets, threshold=threshold, f1_targets=self.f1_targets)

    def save(self, path: str | Path) -> Path:
        """Writes everything, image by image, as ``.npz``."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {
            "scores": self.scores.numpy(),
            "targets": self.targets.numpy(),
            "label_names": np.array(self.label_names),
            "images": np.array(self.images),
        }
        if self.f1_targets is not None:
            arrays["f1_targets"] = self.f1_targets.numpy()
        with path.open("wb") as file:  # given a name, numpy would add its suffix to any other
            np.savez_compressed(file, **arrays)
        return path


def evaluate(
    model: MultiLabelClassifier,
    data: ImageDataset,
    *,
    batch_size: int = 32,
    workers: int = 2,
    progress: bool = True,
) -> Evaluation:
    """Scores every image of a data set.

    Args:
        model: what to evaluate.
        data: the images; their labels may stand in another order than the model's, but must be the same.
        batch_size: images at a time.
        workers: processes that read images.
        progress: whether to show a bar.

    Raises:
        InputError: the labels of model and data differ.
    """
    data = data.with_labels(model.label_names).with_purpose("ap")
    loader = DataLoader(
        data.with_transform(model.backbone.transform()), batch_size=batch_size, num_workers=workers
    )
    scores, targets = compute_scores(model, loader, progress=progress)
    return Evaluation.of(data, scores, targets)
