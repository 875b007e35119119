"""The states of a run on disk: written whole or not at all, checked before they are trusted, the one before kept."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
import warnings
import zipfile
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from zoo.lookup import InputError

# The order of images is resumable, in zoo.order; Lightning looks for that in the loader.
warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before")

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


class Stopped(Exception):
    """A signal asked the run to stop, and its state is saved."""


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, and moves it there once it is on the disk.

    The last checkpoint becomes the previous one first, and a last one is there whenever the process is killed. Nothing
    that is read runs code.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Writes a checkpoint.

        Raises:
            InputError: it could not be written: the disk is full, or gone. What was there before still is.
        """
        place = Path(path)
        part = place.with_suffix(".part")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
            if place.name == LAST and place.exists():
                _give_second_name(place, place.with_name(PREVIOUS))
            os.replace(part, place)
        except (OSError, RuntimeError) as error:  # torch tells of a full disk by a RuntimeError
            part.unlink(missing_ok=True)
            reason = next((e for e in (error, error.__context__) if isinstance(e, OSError)), error)
            raise InputError(f"{place}: the checkpoint could not be written ({reason})") from error

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Reads a checkpoint; whoever made it, no code in it is run."""
        return read_checkpoint(Path(path))


def _give_second_name(place: Path, other: Path) -> None:
    """Another name for a file, which keeps its own: there is no moment without a last checkpoint."""
    aside = other.with_suffix(".aside")
    aside.unlink(missing_ok=True)
    try:
        os.link(place, aside)
    except OSError:  # not every file system has links
        shutil.copyfile(place, aside)
    os.replace(aside, other)
    # A move between two names of one file does nothing: so they are after a run that was killed here.
    aside.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds.

    Raises:
        InputError: it is cut off or damaged, or holds more than tensors and plain values.
    """
    if problem := damage(path):
        raise InputError(f"{path}: {problem}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a forged pickle can fail in any way
        found = re.search(r"GLOBAL (\S+)", str(error))
        held = f"{found[1]}, and reading that would run code" if found else "something else than a checkpoint"
        raise InputError(f"{path}: refused, it holds {held}") from error


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's file, or None if each of its checksums is right."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        return f"not a whole checkpoint ({error})"
    return f"damaged, {broken} has another checksum" if broken else None


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a run that is whole, or None where the run has none. Says so if it is not the last.

    Raises:
        InputError: there are some, and none is whole.
    """
    found = [path for path in (folder / LAST, folder / PREVIOUS) if path.is_file()]
    problems: list[str] = []
    for path in found:
        problem = damage(path)
        if problem is None:
            for other in problems:
                print(f"{other}; going on from {path.name}, the one before", file=sys.stderr)
            return path
        problems.append(f"{path}: {problem}")
    if problems:
        raise InputError("; ".join(problems))
    return None


class SaveState(Checkpoint):
    """Keeps the state of a run: after each epoch, every few steps if asked to, and when a signal stops the run.

    After a first Ctrl-C, or SIGTERM, the step (or the validation) at hand is finished first, because within it the
    weights are neither those before nor those after. A second one stops at once.

    Args:
        folder: for the checkpoints.
        every: optimizer steps between checkpoints within an epoch; 0 for none there.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every = folder, every
        self._signal: signal.Signals | None = None
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM)}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        # Every process has to stop at the same step.
        stop = trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False)
        last = batch_idx + 1 == trainer.num_training_batches  # saved after the validation that follows
        if not last and (stop or (self.every and trainer.global_step % self.every == 0)):
            self._save(trainer, stop)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":
            # What has been best so far is part of the history, which a resumed run has from its checkpoint.
            values = [row["val_mAP"] for row in pl_module.history]  # type: ignore[union-attr]
            if values.index(max(values)) == len(values) - 1:
                trainer.save_checkpoint(self.folder / BEST)
            self._save(trainer, trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restore()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._restore()

    def _save(self, trainer: L.Trainer, stop: bool) -> None:
        trainer.save_checkpoint(self.folder / LAST)
        if stop:
            raise Stopped((self._signal or signal.SIGTERM).name)

    def _note(self, number: int, frame: Any) -> None:
        if self._signal is not None:
            self._restore()
            raise KeyboardInterrupt
        self._signal = signal.Signals(number)
        print(
            f"\n{self._signal.name}: saving after this step; once more stops at once",
            file=sys.stderr,
            flush=True,
        )

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
