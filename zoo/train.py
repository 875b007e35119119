"""Training: one Lightning module for whole models and for heads on frozen features, and :func:`fit`."""

from __future__ import annotations

import copy
import csv
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, TQDMProgressBar
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, TensorDataset
from torchmetrics.utilities.distributed import gather_all_tensors

from zoo._version import __version__
from zoo.augment import build_augmentation
from zoo.checkpoints import BEST, LAST, SaveState, Stopped, latest_checkpoint, read_checkpoint
from zoo.data import ImageDataset
from zoo.evaluate import Evaluation, compute_logits, quiet_trainer
from zoo.failures import explain
from zoo.features import OnFeatures, features_kind, frozen_features, standardize_features
from zoo.heads import Head, overrides
from zoo.lookup import InputError
from zoo.losses import build_loss, resampling_weights
from zoo.metrics import mean_average_precision
from zoo.model import MultiLabelClassifier
from zoo.moving_average import MovingAverage
from zoo.order import Batches, Rows, TrainingOrder, own_rows, seed_everything
from zoo.recipe import Recipe, build_optimizer, build_schedule
from zoo.runtime import Runtime, build_trainer


class Classification(L.LightningModule):
    """Loss, optimiser and validation mAP of any module that turns inputs into logits and has a ``head``.

    Args:
        model: the module.
        recipe: how to train it.
        targets: those of the training images (N, L), for losses that count their labels.
        order: of the training images, where the run is to be resumed or a batch computed in parts.
        runtime: where; of it, the memory format of images counts here.
        identity: what must be the same when the run is resumed, beside the recipe, in the words of an error.
        stop_if_diverged: raise where the loss is no number any more; otherwise the epoch's mAP is 0.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        targets: Tensor | None = None,
        *,
        order: TrainingOrder | None = None,
        runtime: Runtime | None = None,
        identity: dict[str, Any] | None = None,
        stop_if_diverged: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.recipe, self.order, self.runtime = model, recipe, order, runtime or Runtime()
        self.loss = build_loss(recipe.loss, targets)
        self.identity = asdict(recipe) | (identity or {})
        self.stop_if_diverged = stop_if_diverged
        self.history: list[dict[str, float | int]] = []
        # Of the validation, or of the test, once it has ended: (N, L) each.
        self.scored: tuple[Tensor, Tensor] = (torch.empty(0), torch.empty(0))
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._loss_sum: Tensor = torch.zeros(())

    def forward(self, inputs: Tensor) -> Tensor:
        if self.runtime.channels_last and inputs.dim() == 4:
            inputs = inputs.to(memory_format=torch.channels_last)
        return self.model(inputs)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        seed_everything(self.recipe.seed, self.current_epoch, batch_idx, self.global_rank)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        loss = self.loss(self(inputs), targets) * self._share(batch_idx)
        loss = loss + self.model.head.penalty()  # type: ignore[union-attr, operator]
        self._loss_sum = self._loss_sum.to(loss.device) + loss.detach()
        if self.stop_if_diverged and (
            loss.device.type == "cpu" or batch_idx % 50 == 0
        ):  # a GPU would have to wait
            self._check(bool(self._loss_sum.isfinite()), "the loss is no number any more")
        if self.trainer.loggers:
            self.log("train_loss", loss, on_epoch=True, on_step=False, prog_bar=True, sync_dist=True)
        return loss

    def _share(self, batch_idx: int) -> float:
        """How much a batch counts that is a part of what its step sees."""
        if self.order is None:
            return 1.0
        # A sum over the images of a batch is the sum, not the mean, of the parts' sums.
        summed = getattr(self.loss, "reduction", "mean") == "sum"
        return float(self.order.parts * self.order.processes) if summed else self.order.share(batch_idx)

    def on_validation_start(self) -> None:
        self._average_statistics()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        inputs, targets = batch
        self._seen.append((self(inputs).float(), targets))

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.scored = logits, targets = self._gather()
        if self.trainer.state.fn != "fit":
            return
        finite = bool(logits.isfinite().all())
        if self.stop_if_diverged:
            self._check(finite, "the logits of validation images are no numbers")
        # A trial of a search that diverges loses; it does not end the search.
        row = {
            "val_loss": float(self.loss(logits, targets)),
            "val_mAP": mean_average_precision(logits.sigmoid().cpu(), targets.cpu()) if finite else 0.0,
        }
        for name, value in row.items():
            self.log(name, value, prog_bar=True, sync_dist=True)
        batches = self.trainer.num_training_batches
        train_loss = self.trainer.strategy.reduce(self._loss_sum.to(self.device), reduce_op="mean") / batches
        self._loss_sum = torch.zeros(())
        self.history.append({"epoch": self.current_epoch, "train_loss": float(train_loss), **row})

    def on_test_epoch_end(self) -> None:
        self.scored = self._gather()

    def _gather(self) -> tuple[Tensor, Tensor]:
        """Logits and targets of all images in their order, whichever process has seen them."""
        seen = [torch.cat(column) for column in zip(*self._seen, strict=True)]
        self._seen.clear()
        processes = self.trainer.world_size
        if processes > 1:
            for i, own in enumerate(seen):
                of_each = gather_all_tensors(own)
                seen[i] = own.new_empty(sum(map(len, of_each)), *own.shape[1:])
                for rank, rows in enumerate(of_each):
                    seen[i][rank::processes] = rows
        return seen[0], seen[1]

    def _average_statistics(self) -> None:
        """The same running statistics in all processes, each of which has seen images of its own."""
        if self.trainer.world_size > 1:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
                    for statistic in (module.running_mean, module.running_var):
                        assert statistic is not None
                        statistic.copy_(self.trainer.strategy.reduce(statistic, reduce_op="mean"))

    def _check(self, finite: bool, what: str) -> None:
        if not finite:
            raise InputError(
                f"{what} in epoch {self.current_epoch}, step {self.global_step}: the training has diverged. Lower lr "
                f"({self.recipe.lr:g}), clip gradients (gradient_clip=1), or choose precision 32-true"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.stop_if_diverged:
            for name, parameter in self.named_parameters():
                self._check(bool(parameter.isfinite().all()), f"{name} is no number any more")
        assert self.order is not None
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
        checkpoint["run"] = {
            "zoo": __version__,
            "identity": self.identity,
            "history": self.history,
            "loss_sum": self._loss_sum,
            "steps": batches // self.order.parts,
            "shares": [self.order.parts, self.order.processes],
        }

    def check_resumable(self, checkpoint: dict[str, Any]) -> None:
        """Raises an error unless a checkpoint is one of this very run.

        Raises:
            InputError: the run was started with another recipe, model or data.
        """
        assert self.order is not None
        run, shares = checkpoint.get("run"), [self.order.parts, self.order.processes]
        if run is None:
            raise InputError(
                "the run was started with a version of the zoo before 0.3.0, which drew images in another order: "
                "choose another output"
            )
        differences = [
            f"{name} {old!r}, not {self.identity.get(name)!r}"
            for name, old in run["identity"].items()
            if old != self.identity.get(name)
        ]
        if run["steps"] % self.order.steps and run["shares"] != shares:
            differences.append("accumulate {} on {} devices, not {} on {}".format(*run["shares"], *shares))
        if differences:
            raise InputError(
                f"the run was started with {', '.join(differences)}: resume it with the same recipe, "
                "or choose another output"
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self.order is not None
        run = checkpoint["run"]
        self.history, self._loss_sum = run["history"], run["loss_sum"]
        self.order.begin_at(run["steps"] * self.order.parts)

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.model, self.recipe)
        schedule = build_schedule(optimizer, self.recipe, int(self.trainer.estimated_stepping_batches))
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
            averages = [c.model for c in trainer.callbacks if isinstance(c, MovingAverage)]  # type: ignore[attr-defined]
            model = (averages or [pl_module])[0].model
            self.best, self.weights = value, copy.deepcopy(model.state_dict())  # type: ignore[union-attr]


class _WriteHistory(L.Callback):
    """The history so far as CSV, after every epoch; resumed runs keep their first epochs in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Classification)
        if trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, pl_module.history[0])
            writer.writeheader()
            writer.writerows(pl_module.history)


def _callbacks(recipe: Recipe) -> list[L.Callback]:
    """What a recipe asks of the engine beside the optimizer's steps."""
    callbacks: list[L.Callback] = [MovingAverage(recipe.ema)] if recipe.ema else []
    if recipe.patience:
        callbacks.append(EarlyStopping("val_mAP", mode="max", patience=recipe.patience, check_finite=False))
    return callbacks


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
    seed_everything(recipe.seed)
    if targets is not None:
        model.head.begin_training(targets)  # type: ignore[union-attr, operator]
    order = train.sampler if isinstance(train.sampler, TrainingOrder) else None
    module, keep = Classification(model, recipe, targets, order=order), _KeepBest()
    quiet_trainer(
        max_epochs=recipe.epochs,
        precision=recipe.precision,
        gradient_clip_val=recipe.gradient_clip or None,
        enable_progress_bar=False,
        callbacks=[*_callbacks(recipe), keep],
    ).fit(module, train, val)
    model.load_state_dict(keep.weights)
    if _finishes(model.head):
        model.head.finish_training(*compute_logits(model, val))  # type: ignore[union-attr, operator]
    return module.history


def _finishes(head: Any) -> bool:
    """Whether a head fits something on images that it was not trained on."""
    assert isinstance(head, Head)
    return overrides(type(head), "finish_training")


def _order(targets: Tensor, recipe: Recipe, **shares: int) -> TrainingOrder:
    """All images in random order, anew each epoch, or as many of them drawn label by label."""
    weights = resampling_weights(targets) if recipe.resample else None
    return TrainingOrder(len(targets), recipe.batch_size, recipe.seed, weights=weights, **shares)


def tensor_loader(
    inputs: Tensor, targets: Tensor, recipe: Recipe, *, shuffle: bool = False, parts: int = 1
) -> DataLoader:
    """Batches of inputs (N, ...) and targets (N, L) that are in memory, or mapped into it."""
    # Whole batches are sliced out of the tensors at once: row by row costs more than a small head does.
    if shuffle:
        return DataLoader(
            Rows(inputs, targets), sampler=_order(targets, recipe, parts=parts), batch_size=None
        )
    # A graph head makes its classifiers anew for each batch: to score pooled features, few large ones are quicker.
    size = recipe.batch_size if inputs.dim() > 2 else max(recipe.batch_size, 4096)
    data = TensorDataset(inputs, targets)
    return DataLoader(data, sampler=BatchSampler(range(len(data)), size, drop_last=False), batch_size=None)


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
    runtime: Runtime | None = None,
    freeze_backbone: bool = False,
    resume: bool | Literal["auto"] = False,
    progress: bool = True,
    config: dict[str, Any] | None = None,
) -> Run:
    """Trains a model and writes everything that it leaves into one folder.

    ``output`` then holds ``model/`` (the best epoch, for :func:`zoo.load`), ``checkpoints/`` (best, last and the one
    before it), ``logs/`` (``history.csv`` and the logger's files) and ``test_scores.npz``.

    Args:
        model: trained in place; ends with the weights of the best epoch by validation mAP.
        data: with train, validation and test splits; its labels must be the model's.
        recipe: how.
        output: the folder; one that holds a run already is refused unless ``resume``.
        runtime: where.
        freeze_backbone: compute its features once, keep them on disk, and train the head alone.
        resume: go on from the last checkpoint, with the same recipe; ``"auto"`` if there is one.
        progress: whether to show a bar.
        config: what the run was asked for, to be kept with the model.

    Raises:
        InputError: labels that differ, a folder in use, nothing to resume, a run of another recipe, a training that
            diverged, memory or disk that did not suffice. What was reached is kept in ``output``.
        KeyboardInterrupt: after Ctrl-C, once the state is saved.
    """
    output, runtime = Path(output), runtime or Runtime()
    checkpoints = output / "checkpoints"
    start = latest_checkpoint(checkpoints)
    if resume is True and start is None:
        raise InputError(f"{checkpoints / LAST}: no checkpoint to resume from")
    if not resume and start is not None:
        raise InputError(
            f"{output} holds a run already: choose another output, or give --resume true to go on"
        )
    if freeze_backbone and runtime.processes > 1:
        raise InputError(
            "heads on frozen features train in seconds on one device: leave out devices, or freeze_backbone"
        )
    seed_everything(recipe.seed)
    data = data.with_labels(model.label_names)
    splits = {name: data.split(name) for name in ("train", "val")}
    if (data.splits == "test").any():
        splits["test"] = data.split("test")
    callbacks: list[L.Callback] = [
        *_callbacks(recipe),
        _WriteHistory(output / "logs" / "history.csv"),
        SaveState(checkpoints, runtime.checkpoint_every),
        *([TQDMProgressBar(leave=True)] if progress else []),
    ]
    trainer = build_trainer(runtime, recipe, output, callbacks)
    module: nn.Module = OnFeatures(model.head) if freeze_backbone else model
    if freeze_backbone:
        features = frozen_features(model.backbone, data, features_kind(model.head), workers=runtime.workers)
        rows = torch.from_numpy((data.splits == "train").nonzero()[0])
        standardize_features(model.head, features, torch.from_numpy(data.targets), rows)
        loaders = {
            name: feature_loader(features, data, name, recipe, parts=runtime.accumulate) for name in splits
        }
    else:
        shares = {"parts": runtime.accumulate, "rank": trainer.global_rank, "processes": trainer.world_size}
        loaders = {
            name: image_loader(model, data, name, recipe, workers=runtime.workers, **shares)
            for name in splits
        }
    targets = torch.from_numpy(splits["train"].targets)
    model.head.begin_training(targets)
    identity = {"model": model.name, "training images": _digest(splits["train"])}
    order = loaders["train"].sampler
    assert isinstance(order, TrainingOrder)
    classification = Classification(
        module, recipe, targets, order=order, runtime=runtime, identity=identity, stop_if_diverged=True
    )
    if start:
        classification.check_resumable(read_checkpoint(start))
    if trainer.world_size > 1:
        _freeze_unused(model)
    if runtime.channels_last:
        module.to(memory_format=torch.channels_last)
    if runtime.compile:
        module.compile()
    try:
        trainer.fit(
            classification,
            loaders["train"],
            loaders["val"],
            ckpt_path=start,
            weights_only=True if start else None,
        )
        # The callbacks have done their part, and would take averages and write checkpoints in what follows.
        trainer.callbacks = [c for c in callbacks if isinstance(c, TQDMProgressBar)]  # type: ignore[attr-defined]
        classification.load_state_dict(read_checkpoint(checkpoints / BEST)["state_dict"])
        if _finishes(model.head):
            trainer.validate(classification, loaders["val"], verbose=False)
            model.head.finish_training(*(tensor.cpu() for tensor in classification.scored))
        test = None
        if "test" in splits:
            trainer.test(classification, loaders["test"], verbose=False)
            logits, of_test = (tensor.cpu() for tensor in classification.scored)
            test = Evaluation.of(splits["test"], logits.sigmoid(), of_test)
    except Stopped as stopped:
        if str(stopped) == "SIGTERM":
            raise SystemExit(143) from None
        raise KeyboardInterrupt from None
    except Exception as error:
        if explained := explain(error, checkpoints):
            raise explained from error
        raise
    model.notes |= {
        "data": data.name,
        "data_protocol": data.protocol,
        "recipe": asdict(recipe),
        "runtime": asdict(runtime),
        "config": config or {},
        "best_epoch": max(classification.history, key=lambda row: row["val_mAP"]),
        "test": test.metrics() if test else None,
    }
    if trainer.is_global_zero:
        model.save(output / "model")
        if test:
            test.save(output / "test_scores.npz")
    return Run(classification.history, output, test)


def _freeze_unused(model: MultiLabelClassifier) -> None:
    """Freezes what makes no part of the logits, and so is never trained: the processes would wait for its gradients.

    Some timm models have such parameters, since their feature map leaves out what only their own classifier reads.
    """
    trial = copy.deepcopy(model).train()
    images = torch.zeros(2, *model.backbone.data_config["input_size"])
    names, parameters = zip(*((n, p) for n, p in trial.named_parameters() if p.requires_grad), strict=True)
    gradients = torch.autograd.grad(trial(images).sum() + trial.head.penalty(), parameters, allow_unused=True)
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is None:
            model.get_parameter(name).requires_grad_(False)


def _digest(data: ImageDataset) -> str:
    """The names of the labels and what is known of which image, in short; not the pixels, which may lie far away."""
    digest = hashlib.blake2b("\0".join(data.label_names).encode(), digest_size=8)
    stored = data.annotations.stored
    for array in (stored.indptr, stored.indices, stored.data):
        digest.update(np.ascontiguousarray(array).data)
    return f"{len(data)} with {digest.hexdigest()}"


def image_loader(
    model: MultiLabelClassifier,
    data: ImageDataset,
    split: str,
    recipe: Recipe,
    *,
    workers: int,
    parts: int = 1,
    rank: int = 0,
    processes: int = 1,
) -> DataLoader:
    """Batches of one split's images, augmented and shuffled for ``train``, as they are for the others.

    Args:
        model: whose backbone says what an image must become.
        data: images of all splits.
        split: train, val or test.
        recipe: batch size, augmentation, seed.
        workers: processes that read images.
        parts: parts of a training batch that are computed one after the other.
        rank: of the process that the batches are for.
        processes: how many of them share the images.
    """
    images = data.split(split)
    options: dict[str, Any] = {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "pin_memory": torch.cuda.is_available(),
    }
    if split == "train":
        order = _order(torch.from_numpy(images.targets), recipe, parts=parts, rank=rank, processes=processes)
        images = images.with_transform(build_augmentation(recipe.augment, model.backbone.data_config))
        return DataLoader(Batches(images, recipe.seed), sampler=order, batch_size=None, **options)
    return DataLoader(
        images.with_transform(model.backbone.transform()).with_purpose("ap"),
        sampler=own_rows(len(images), rank, processes),
        batch_size=-(-recipe.batch_size // (parts * processes)),
        **options,
    )


def feature_loader(
    features: Tensor, data: ImageDataset, split: str, recipe: Recipe, *, parts: int = 1
) -> DataLoader:
    """Batches of one split's frozen features, of all N images of the data, shuffled for ``train``."""
    rows = torch.from_numpy((data.splits == split).nonzero()[0])
    purpose = "loss" if split == "train" else "ap"
    targets = torch.from_numpy(data.split(split).with_purpose(purpose).targets)
    return tensor_loader(features[rows], targets, recipe, shuffle=split == "train", parts=parts)
