"""Training: one Lightning module for whole models and for heads on frozen features, and :func:`fit`."""

from __future__ import annotations

import copy
import csv
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    TensorDataset,
    WeightedRandomSampler,
)

from zoo.data import ImageDataset
from zoo.evaluate import Evaluation, compute_logits, evaluate, quiet_trainer
from zoo.features import OnFeatures, features_kind, frozen_features, standardize_features
from zoo.heads import Head, overrides
from zoo.lookup import InputError, lookup
from zoo.losses import build_loss, check_loss, resampling_weights
from zoo.metrics import mean_average_precision
from zoo.model import MultiLabelClassifier

# A run that is resumed finds its own checkpoints there.
warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")

OPTIMIZERS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


@dataclass(frozen=True)
class Recipe:
    """How to train. Everything that decides the result, beside model and data.

    Attributes:
        loss: its name in :data:`zoo.losses.LOSSES`, with options after colons: ``bce``, ``asl:gamma_neg=2``.
        resample: draw training images, with replacement, so that every label is drawn equally often: see
            :func:`zoo.losses.resampling_weights`. An epoch still has as many images.
        epochs: passes over the training images.
        batch_size: images a step.
        optimizer: ``adamw``, or ``sgd`` with Nesterov momentum 0.9.
        lr: the highest learning rate, of the head; it rises for a tenth of the steps and falls to zero as a cosine.
        backbone_lr_ratio: the backbone's learning rate, as a share of the head's. ML-GCN takes 0.1.
        weight_decay: L2, on weights of two and more dimensions (not on biases and norms).
        gradient_clip: largest norm of the gradient; 0 for none. ML-GCN takes 10.
        precision: Lightning's name of it: ``32-true``, ``bf16-mixed``, ``16-mixed``.
        seed: of the weights, the order of images and dropout.
    """

    loss: str = "bce"
    resample: bool = False
    epochs: int = 20
    batch_size: int = 32
    optimizer: str = "adamw"
    lr: float = 1e-3
    backbone_lr_ratio: float = 0.1
    weight_decay: float = 1e-2
    gradient_clip: float = 0.0
    precision: str = "32-true"
    seed: int = 0

    def __post_init__(self) -> None:
        check_loss(self.loss)
        lookup("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("epochs", "batch_size", "lr"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, not {getattr(self, name)}")


class Classification(L.LightningModule):
    """Loss, optimiser and validation mAP of any module that turns inputs into logits and has a ``head``.

    The targets are those of the training images (N, L), for losses that count their labels.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, targets: Tensor | None = None) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        self.loss = build_loss(recipe.loss, targets)
        self.history: list[dict[str, float | int]] = []
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._losses: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        loss = self.loss(self.model(inputs), targets) + self.model.head.penalty()  # type: ignore[union-attr, operator]
        self._losses.append(loss.detach())
        if self.trainer.loggers:
            self.log("train_loss", loss, on_epoch=True, on_step=False, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        inputs, targets = batch
        self._seen.append((self.model(inputs).float(), targets))

    def on_validation_epoch_end(self) -> None:
        logits, targets = (torch.cat(column) for column in zip(*self._seen, strict=True))
        self._seen.clear()
        # A trial that diverges loses the search; it does not end it.
        finite = bool(logits.isfinite().all())
        row = {
            "val_loss": float(self.loss(logits, targets)),
            "val_mAP": mean_average_precision(logits.sigmoid().cpu(), targets.cpu()) if finite else 0.0,
        }
        for name, value in row.items():
            self.log(name, value, prog_bar=True)
        train_loss = float(torch.stack(self._losses).mean()) if self._losses else float("nan")
        self._losses.clear()
        self.history.append({"epoch": self.current_epoch, "train_loss": train_loss, **row})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"], checkpoint["recipe"] = self.history, asdict(self.recipe)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        now = asdict(self.recipe)
        if changes := [
            f"{k} {old!r}, not {now[k]!r}" for k, old in checkpoint["recipe"].items() if old != now[k]
        ]:
            raise InputError(
                f"the run was started with {', '.join(changes)}: resume it with the same recipe, "
                "or choose another output"
            )
        self.history = checkpoint["history"]

    def configure_optimizers(self) -> Any:
        recipe, backbone = self.recipe, getattr(self.model, "backbone", None)
        of_backbone = {id(p) for p in backbone.parameters()} if backbone is not None else set()
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                groups.setdefault((id(parameter) in of_backbone, parameter.ndim > 1), []).append(parameter)
        options: list[dict[str, Any]] = [
            {
                "params": parameters,
                "lr": recipe.lr * (recipe.backbone_lr_ratio if in_backbone else 1.0),
                "weight_decay": recipe.weight_decay if decays else 0.0,
            }
            for (in_backbone, decays), parameters in groups.items()
        ]
        extra = {"momentum": 0.9, "nesterov": True} if recipe.optimizer == "sgd" else {}
        # Lightning refuses to clip the gradients of a fused optimizer under mixed precision.
        fused = not (recipe.gradient_clip and recipe.precision.endswith("mixed"))
        optimizer = OPTIMIZERS[recipe.optimizer](options, fused=fused, **extra)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in options],
            # At 10 steps, whose tenth is one, it divides by zero; with a single one its rate is zero.
            total_steps=max(11, int(self.trainer.estimated_stepping_batches)),
            pct_start=0.1,
            cycle_momentum=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _KeepBest(L.Callback):
    """The weights of the best epoch, in memory: enough for heads that train in seconds."""

    def __init__(self) -> None:
        self.best = float("-inf")
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Classification)
        value = pl_module.history[-1]["val_mAP"]
        if value > self.best or not self.weights:
            self.best, self.weights = value, copy.deepcopy(pl_module.model.state_dict())


class _WriteHistory(L.Callback):
    """The history so far as CSV, after every epoch; resumed runs keep their first epochs in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Classification)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, pl_module.history[0])
            writer.writeheader()
            writer.writerows(pl_module.history)


def fit_in_memory(
    model: nn.Module, train: DataLoader, val: DataLoader, recipe: Recipe, targets: Tensor | None = None
) -> list[dict[str, float | int]]:
    """Trains without writing anything, and leaves the weights of the best epoch by validation mAP in the model.

    Args:
        model: what turns inputs into logits, and has a ``head``.
        train: batches of inputs and targets.
        val: likewise.
        recipe: how.
        targets: (N, L) of all training images, for losses and heads that count their labels.

    Returns:
        One row an epoch: ``epoch, train_loss, val_loss, val_mAP``.
    """
    L.seed_everything(recipe.seed, workers=True, verbose=False)
    if targets is not None:
        model.head.begin_training(targets)  # type: ignore[union-attr, operator]
    module, keep = Classification(model, recipe, targets), _KeepBest()
    quiet_trainer(
        max_epochs=recipe.epochs,
        precision=recipe.precision,
        gradient_clip_val=recipe.gradient_clip or None,
        enable_progress_bar=False,
        callbacks=[keep],
    ).fit(module, train, val)
    model.load_state_dict(keep.weights)
    _finish(model, val)
    return module.history


def _finish(model: nn.Module, val: DataLoader) -> None:
    """Lets the head fit what it fits on images that it was not trained on."""
    head = model.head
    assert isinstance(head, Head)
    if overrides(type(head), "finish_training"):
        head.finish_training(*compute_logits(model, val))


def _training_order(targets: Tensor, recipe: Recipe, generator: torch.Generator) -> Sampler[int]:
    """All images in random order, anew each epoch, or as many of them drawn label by label."""
    if recipe.resample:
        weights = resampling_weights(targets).tolist()
        return WeightedRandomSampler(weights, len(weights), generator=generator)
    return RandomSampler(targets, generator=generator)


def tensor_loader(inputs: Tensor, targets: Tensor, recipe: Recipe, *, shuffle: bool = False) -> DataLoader:
    """Batches of inputs (N, ...) and targets (N, L) that are in memory, or mapped into it."""
    # Whole batches are sliced out of the tensors at once: row by row costs more than a small head does.
    data = TensorDataset(inputs, targets)
    generator = torch.Generator().manual_seed(recipe.seed)
    order = _training_order(targets, recipe, generator) if shuffle else range(len(data))
    # A graph head makes its classifiers anew for each batch: to score pooled features, few large ones are quicker.
    size = recipe.batch_size if shuffle or inputs.dim() > 2 else max(recipe.batch_size, 4096)
    return DataLoader(data, sampler=BatchSampler(order, size, drop_last=False), batch_size=None)


@dataclass(frozen=True)
class Run:
    """What :func:`fit` leaves: the history, the folder, and how the best epoch does on the test split."""

    history: list[dict[str, float | int]]
    folder: Path
    test: Evaluation | None


def fit(
    model: MultiLabelClassifier,
    data: ImageDataset,
    recipe: Recipe,
    output: str | Path,
    *,
    freeze_backbone: bool = False,
    resume: bool = False,
    workers: int = 2,
    progress: bool = True,
) -> Run:
    """Trains a model and writes everything that it leaves into one folder.

    ``output`` then holds ``model/`` (the best epoch, for :func:`zoo.load`), ``checkpoints/`` (best and last),
    ``logs/`` (``history.csv`` and TensorBoard) and ``test_scores.npz``.

    Args:
        model: trained in place; ends with the weights of the best epoch by validation mAP.
        data: with train, validation and test splits; its labels must be the model's.
        recipe: how.
        output: the folder; one that holds a run already is refused unless ``resume``.
        freeze_backbone: compute its features once, keep them on disk, and train the head alone.
        resume: go on from ``checkpoints/last.ckpt``, the end of the last whole epoch, with the same recipe.
        workers: processes that read images.
        progress: whether to show a bar.

    Raises:
        InputError: labels that differ, a folder in use, nothing to resume, a run of another recipe.
    """
    output = Path(output)
    last = output / "checkpoints" / "last.ckpt"
    if resume and not last.is_file():
        raise InputError(f"{last}: no checkpoint to resume from")
    if not resume and last.exists():
        raise InputError(
            f"{output} holds a run already: choose another output, or give --resume true to go on"
        )
    L.seed_everything(recipe.seed, workers=True, verbose=False)
    data = data.with_labels(model.label_names)
    module: nn.Module = OnFeatures(model.head) if freeze_backbone else model
    if freeze_backbone:
        features = frozen_features(model.backbone, data, features_kind(model.head), workers=workers)
        rows = torch.from_numpy((data.splits == "train").nonzero()[0])
        standardize_features(model.head, features, torch.from_numpy(data.targets), rows)
        train, val = (feature_loader(features, data, split, recipe) for split in ("train", "val"))
    else:
        train, val = (image_loader(model, data, split, recipe, workers=workers) for split in ("train", "val"))
    # Two of them: with save_last=True, the last checkpoint would be the last *better* one.
    checkpoint = ModelCheckpoint(
        last.parent, filename="best", monitor="val_mAP", mode="max", enable_version_counter=False
    )
    every_epoch = ModelCheckpoint(last.parent, filename="last", enable_version_counter=False)
    trainer = quiet_trainer(
        max_epochs=recipe.epochs,
        precision=recipe.precision,
        gradient_clip_val=recipe.gradient_clip or None,
        enable_progress_bar=progress,
        enable_checkpointing=True,
        logger=TensorBoardLogger(output, name="logs", version=""),
        callbacks=[
            _WriteHistory(output / "logs" / "history.csv"),
            checkpoint,
            every_epoch,
            *([TQDMProgressBar(leave=True)] if progress else []),
        ],
    )
    targets = torch.from_numpy(data.split("train").targets)
    model.head.begin_training(targets)
    classification = Classification(module, recipe, targets)
    trainer.fit(
        classification,
        train,
        val,
        ckpt_path=str(last) if resume else None,
        weights_only=True if resume else None,
    )
    best = torch.load(checkpoint.best_model_path, map_location="cpu", weights_only=True)
    classification.load_state_dict(best["state_dict"])
    _finish(module, val)
    has_test = bool((data.splits == "test").any())
    test = evaluate(model, data.split("test"), workers=workers, progress=progress) if has_test else None
    model.notes |= {
        "data": data.name,
        "data_protocol": data.protocol,
        "recipe": asdict(recipe),
        "best_epoch": max(classification.history, key=lambda row: row["val_mAP"]),
        "test": test.metrics() if test else None,
    }
    model.save(output / "model")
    if test:
        test.save(output / "test_scores.npz")
    return Run(classification.history, output, test)


def image_loader(
    model: MultiLabelClassifier, data: ImageDataset, split: str, recipe: Recipe, *, workers: int
) -> DataLoader:
    """Batches of one split's images, augmented and shuffled for ``train``, as they are for the others."""
    training = split == "train"
    transform = model.backbone.train_transform() if training else model.backbone.transform()
    images = data.split(split).with_transform(transform).with_purpose("loss" if training else "ap")
    # The order has a generator of its own: how many numbers others draw must not change it.
    generator = torch.Generator().manual_seed(recipe.seed)
    return DataLoader(
        images,
        batch_size=recipe.batch_size,
        sampler=_training_order(torch.from_numpy(images.targets), recipe, generator) if training else None,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=generator,
    )


def feature_loader(features: Tensor, data: ImageDataset, split: str, recipe: Recipe) -> DataLoader:
    """Batches of one split's frozen features, of all N images of the data, shuffled for ``train``."""
    rows = torch.from_numpy((data.splits == split).nonzero()[0])
    purpose = "loss" if split == "train" else "ap"
    targets = torch.from_numpy(data.split(split).with_purpose(purpose).targets)
    return tensor_loader(features[rows], targets, recipe, shuffle=split == "train")
