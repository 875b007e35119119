"""Where and how a training runs: devices, precision's speed, logs, checkpoints. None of it decides the result."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.lookup import InputError

if TYPE_CHECKING:
    from lightning import Callback, Trainer
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.strategies import Strategy

    from zoo.recipe import Recipe


@dataclass(frozen=True)
class Runtime:
    """Where and how to train. Two trainings of one recipe that differ in this alone give the same up to rounding.

    Attributes:
        accelerator: Lightning's name of it: auto, cpu, gpu, ...
        devices: how many of them on this machine, one process each.
        num_nodes: machines, each with so many devices.
        strategy: Lightning's name of it: auto (ddp on several devices), ddp, fsdp, ...
        accumulate: parts in which a batch is computed one after the other, where the memory holds no more.
        workers: processes that read images, for each device.
        checkpoint_every: optimizer steps between checkpoints within an epoch; 0 for those after each epoch alone.
        compile: compile the model with torch.compile.
        channels_last: images in the memory format that convolutions on GPUs prefer.
        deterministic: refuse operations whose result differs from run to run, on a GPU, and take slower ones.
        logger: tensorboard, csv, wandb, mlflow or none; the history is written as CSV in any case.
        profiler: simple, advanced or pytorch: where the time goes, in logs/.
    """

    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    accumulate: int = 1
    workers: int = 2
    checkpoint_every: int = 0
    compile: bool = False
    channels_last: bool = False
    deterministic: bool = False
    logger: Literal["tensorboard", "csv", "wandb", "mlflow", "none"] = "tensorboard"
    profiler: Literal["simple", "advanced", "pytorch"] | None = None

    def __post_init__(self) -> None:
        for name in ("devices", "num_nodes", "accumulate"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("workers", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative, not {getattr(self, name)}")

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return self.devices * self.num_nodes


def is_first_process() -> bool:
    """Whether this is the one, of the processes that train together, that prints and writes."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return int(next((rank for rank in ranks if rank), 0)) == 0


def build_trainer(runtime: Runtime, recipe: Recipe, folder: Path, callbacks: list[Callback]) -> Trainer:
    """Lightning's trainer for a recipe: where, in which precision, with which logs.

    Raises:
        InputError: no such device or precision here, a logger that is not installed, averaged weights under fsdp.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.plugins.environments import SLURMEnvironment

    from zoo.checkpoints import SafeCheckpointIO
    from zoo.evaluate import quiet_trainer

    if recipe.ema and "fsdp" in runtime.strategy:
        raise InputError(
            "weights that are spread over devices (fsdp) cannot be averaged: choose ddp, or ema 0"
        )
    plugins: list[Any] = [SafeCheckpointIO()]
    if SLURMEnvironment.detect():
        # Requeued jobs go on from our own checkpoints, which are written at SIGTERM.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    logs = folder / "logs"
    try:
        return quiet_trainer(
            accelerator=runtime.accelerator,
            devices=runtime.devices,
            num_nodes=runtime.num_nodes,
            strategy=_strategy(runtime),
            max_epochs=recipe.epochs,
            precision=recipe.precision,
            gradient_clip_val=recipe.gradient_clip or None,
            accumulate_grad_batches=runtime.accumulate,
            deterministic=runtime.deterministic,
            logger=_logger(runtime, folder) or False,
            profiler=_profiler(runtime, logs),
            # Each process takes its own images; Lightning's sampler would repeat some.
            use_distributed_sampler=False,
            enable_checkpointing=True,
            enable_progress_bar=any(type(c).__name__ == "TQDMProgressBar" for c in callbacks),
            default_root_dir=folder,
            plugins=plugins,
            callbacks=callbacks,
        )
    except (
        ValueError,
        RuntimeError,
        MisconfigurationException,
    ) as error:  # Lightning's words on what this machine does not have
        raise InputError(" ".join(str(error).split())) from error


def _strategy(runtime: Runtime) -> str | Strategy:
    if runtime.processes == 1 or runtime.strategy not in ("auto", "ddp"):
        return runtime.strategy
    from lightning.pytorch.strategies import DDPStrategy

    # Sent with every batch, buffers would wait for the processes that have one batch more to validate. Classification
    # averages them before they are used.
    return DDPStrategy(broadcast_buffers=False)


def _logger(runtime: Runtime, folder: Path) -> Logger | None:
    from lightning.pytorch import loggers

    try:
        match runtime.logger:
            case "tensorboard":
                return loggers.TensorBoardLogger(folder, name="logs", version="")
            case "csv":
                return loggers.CSVLogger(folder, name="logs", version="")
            case "wandb":
                return loggers.WandbLogger(name=folder.name, save_dir=folder, project="label-graph-zoo")
            case "mlflow":
                logs = folder.absolute() / "logs"
                logs.mkdir(parents=True, exist_ok=True)
                # A file of SQLite: MLflow has given up its own plain files.
                server = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{logs / 'mlflow.db'}"
                return loggers.MLFlowLogger("label-graph-zoo", folder.name, tracking_uri=server)
    except ModuleNotFoundError as error:
        raise InputError(
            f"the logger {runtime.logger} is not installed: pip install 'label-graph-zoo[{runtime.logger}]'"
        ) from error
    return None


def _profiler(runtime: Runtime, logs: Path) -> Any:
    from lightning.pytorch import profilers

    kinds = {
        "simple": profilers.SimpleProfiler,
        "advanced": profilers.AdvancedProfiler,
        "pytorch": profilers.PyTorchProfiler,
    }
    return kinds[runtime.profiler](dirpath=logs, filename="profile") if runtime.profiler else None
