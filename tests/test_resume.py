"""Runs that are stopped at any step, or killed, end with the weights of the run that was not."""

from __future__ import annotations

import csv
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import COLOURS
from torch import Tensor

from zoo.checkpoints import BEST, LAST, PREVIOUS, SafeCheckpointIO, read_checkpoint
from zoo.lookup import InputError
from zoo.model import MultiLabelClassifier, build
from zoo.recipe import Recipe
from zoo.runtime import Runtime
from zoo.train import Classification, fit

HERE = Runtime(workers=0)
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
RECIPE = Recipe(epochs=3, batch_size=6, lr=1e-2, ema=0.9, optimizer="adamw", augment="crop")


def tiny() -> MultiLabelClassifier:
    torch.manual_seed(0)
    return build("linear-test_efficientnet", COLOURS, img_size=32, dropout=0.2)


def state(folder: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / "model" / "model.safetensors")


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("recipe", "runtime"),
    [
        (RECIPE, Runtime(workers=0, checkpoint_every=1)),
        (RECIPE, Runtime(workers=2, checkpoint_every=1)),
        (
            replace(RECIPE, ema=0.0, resample=True, optimizer="sgd"),
            Runtime(workers=0, checkpoint_every=1, accumulate=2),
        ),
    ],
    ids=["averaged", "workers", "in parts"],
)
def test_a_run_goes_on_from_any_checkpoint_as_if_it_had_not_stopped(
    recipe, runtime, colours, tmp_path, monkeypatch
):
    """Every state that is written is kept; the run is then taken up from each of them."""
    saved: list[Path] = []
    save = SafeCheckpointIO.save_checkpoint

    def keep(self, checkpoint, path, storage_options=None):
        save(self, checkpoint, path)
        if Path(path).name == LAST and not resumed:
            saved.append(shutil.copytree(Path(path).parent, tmp_path / f"{len(saved)}" / "checkpoints"))

    monkeypatch.setattr(SafeCheckpointIO, "save_checkpoint", keep)
    resumed = False
    whole = fit(tiny(), colours, recipe, tmp_path / "whole", runtime=runtime, progress=False)
    resumed = True
    assert len(saved) == 9, "three steps an epoch, after each of them"
    for checkpoints in saved:
        folder = checkpoints.parent
        run = fit(tiny(), colours, recipe, folder, runtime=runtime, progress=False, resume=True)
        assert run.history == whole.history, folder
        assert same(state(folder), state(tmp_path / "whole")), folder
        assert same(
            torch.load(folder / "checkpoints" / LAST, weights_only=True)["state_dict"],
            torch.load(tmp_path / "whole" / "checkpoints" / LAST, weights_only=True)["state_dict"],
        ), folder


# --- signals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
@pytest.mark.parametrize("where", ["on_train_batch_start", "on_validation_start"])
def test_a_signal_stops_a_run_after_its_step(number, raised, where, colours, tmp_path, monkeypatch):
    """In the second step of the second epoch, or in its validation. Then it goes on as if nothing had been."""
    whole = fit(tiny(), colours, RECIPE, tmp_path / "whole", runtime=HERE, progress=False)

    def signalled(self, *arguments):
        own(self, *arguments)
        if self.current_epoch == 1 and (where == "on_validation_start" or arguments[1] == 1):
            os.kill(os.getpid(), number)

    own = getattr(Classification, where)
    before = signal.getsignal(number)
    monkeypatch.setattr(Classification, where, signalled)
    with pytest.raises(raised):
        fit(tiny(), colours, RECIPE, tmp_path / "run", runtime=HERE, progress=False)
    monkeypatch.setattr(Classification, where, own)
    assert signal.getsignal(number) == before
    last = torch.load(tmp_path / "run" / "checkpoints" / LAST, weights_only=True)
    assert last["run"]["steps"] == (5 if where == "on_train_batch_start" else 6)
    run = fit(tiny(), colours, RECIPE, tmp_path / "run", runtime=HERE, progress=False, resume="auto")
    assert run.history == whole.history
    assert same(state(tmp_path / "run"), state(tmp_path / "whole"))


def test_killed_five_times(colours, tmp_path):
    """The command itself, with kill -9 at random moments, every time after some new checkpoint."""
    table = tmp_path / "labels.csv"
    with table.open("w", newline="") as stream:
        rows = zip(colours.images, colours.splits, colours.targets.tolist(), strict=True)
        csv.writer(stream).writerows([["image", "split", *COLOURS], *([p, s, *t] for p, s, t in rows)])
    command = [sys.executable, "-m", "zoo", "train", "--model=linear-test_efficientnet", f"--data={table}"]
    command += [
        "--pretrained=false",
        "--img_size=32",
        "--epochs=30",
        "--batch_size=6",
        "--ema=0.9",
        "--lr=0.01",
    ]
    command += ["--checkpoint_every=1", "--workers=1", "--logger=none", "--resume=auto"]
    subprocess.run([*command, f"--output={tmp_path / 'whole'}"], check=True, capture_output=True)

    def saved() -> int:
        file = tmp_path / "run" / "checkpoints" / LAST
        return file.stat().st_mtime_ns if file.is_file() else 0

    for _ in range(5):
        process = subprocess.Popen(
            [*command, f"--output={tmp_path / 'run'}"], start_new_session=True, **QUIET
        )
        before, deadline = saved(), time.monotonic() + 120
        while saved() == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(random.random() * 0.2)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "killed, not finished"
    last = torch.load(tmp_path / "run" / "checkpoints" / LAST, weights_only=True)
    assert 0 < last["run"]["steps"] < 90
    subprocess.run([*command, f"--output={tmp_path / 'run'}"], check=True, capture_output=True)
    assert same(state(tmp_path / "run"), state(tmp_path / "whole"))
    histories = [(tmp_path / name / "logs" / "history.csv").read_text() for name in ("run", "whole")]
    assert histories[0] == histories[1]


# --- checkpoints that cannot be trusted, or not be written ---------------------------------------------------


@pytest.fixture
def run(colours, tmp_path) -> Path:
    """A run that is finished, whose checkpoint of the second epoch is still there."""
    fit(tiny(), colours, RECIPE, tmp_path / "run", runtime=HERE, progress=False)
    return tmp_path / "run"


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "spoil", [cut, flip, lambda file: file.write_bytes(b"")], ids=["cut", "flipped", "empty"]
)
def test_where_the_last_checkpoint_is_damaged_the_one_before_is_used(spoil, run, colours, capsys):
    expected = state(run)
    spoil(run / "checkpoints" / LAST)
    fit(tiny(), colours, RECIPE, run, runtime=HERE, progress=False, resume=True)
    told = capsys.readouterr().err
    assert "last.ckpt: " in told
    assert "going on from previous.ckpt, the one before" in told
    assert same(state(run), expected)
    assert torch.load(run / "checkpoints" / LAST, weights_only=True)["run"]["steps"] == 9


def test_where_both_are_damaged_nothing_is_lost_in_silence(run, colours):
    cut(run / "checkpoints" / LAST)
    cut(run / "checkpoints" / PREVIOUS)
    for resume in (True, "auto", False):
        with pytest.raises(
            InputError, match=r"last\.ckpt: not a whole checkpoint .*previous\.ckpt: not a whole"
        ):
            fit(tiny(), colours, RECIPE, run, runtime=HERE, progress=False, resume=resume)


@pytest.mark.parametrize("links", [True, False])
def test_there_is_no_moment_without_a_last_checkpoint(links, tmp_path, monkeypatch):
    """The process may be killed before or after any call that changes the folder."""
    writer = SafeCheckpointIO()
    writer.save_checkpoint({"step": 1}, tmp_path / LAST)
    seen = []

    def watched(call):
        def note(*arguments, **options):
            seen.append(read_checkpoint(tmp_path / LAST)["step"])
            result = call(*arguments, **options)
            seen.append(read_checkpoint(tmp_path / LAST)["step"])
            return result

        return note

    def no_links(*arguments):
        raise OSError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", watched(os.replace))
        patch.setattr(os, "link", watched(os.link) if links else no_links)
        for step in (2, 3):
            writer.save_checkpoint({"step": step}, tmp_path / LAST)
            assert read_checkpoint(tmp_path / PREVIOUS)["step"] == step - 1
    assert seen == sorted(seen)
    assert set(seen) == {1, 2, 3}


def test_one_file_under_both_names_does_no_harm(tmp_path):
    """So a run leaves it that is killed between its two renames."""
    writer = SafeCheckpointIO()
    writer.save_checkpoint({"step": 1}, tmp_path / LAST)
    (tmp_path / PREVIOUS).hardlink_to(tmp_path / LAST)
    writer.save_checkpoint({"step": 2}, tmp_path / LAST)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, PREVIOUS]
    assert read_checkpoint(tmp_path / LAST)["step"] == 2


def test_a_run_of_other_data_is_refused(run, colours):
    another = build("linear-test_resnet", COLOURS, img_size=32)
    other = replace(colours, annotations=colours.annotations.columns([1, 0, 2]))
    with pytest.raises(InputError, match=r"started with training images .16 with .*, not .16 with"):
        fit(tiny(), other, RECIPE, run, runtime=HERE, progress=False, resume=True)
    with pytest.raises(
        InputError, match=r"started with model .linear-test_efficientnet., not .linear-test_resnet"
    ):
        fit(another, colours, RECIPE, run, runtime=HERE, progress=False, resume=True)


def test_a_full_disk(colours, tmp_path, monkeypatch):
    """In the third epoch; half of a checkpoint fits."""

    def full(checkpoint, stream):
        if checkpoint["epoch"] == 2:
            stream.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(checkpoint, stream)

    save = torch.save
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(
            InputError, match=r"could not be written \(.*No space left.* --resume true"
        ) as caught:
            fit(tiny(), colours, RECIPE, tmp_path / "run", runtime=HERE, progress=False)
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == [BEST, LAST, PREVIOUS]
    fit(tiny(), colours, RECIPE, tmp_path / "run", runtime=HERE, progress=False, resume=True)
    fit(tiny(), colours, RECIPE, tmp_path / "whole", runtime=HERE, progress=False)
    assert same(state(tmp_path / "run"), state(tmp_path / "whole"))


# --- what else goes wrong in the middle ----------------------------------------------------------------------


def raise_in(epoch: int, error: BaseException):
    def step(self, batch, batch_idx):
        if self.current_epoch == epoch:
            raise error
        return own(self, batch, batch_idx)

    own = Classification.training_step
    return step


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            "out of memory: lower batch_size",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            "out of memory: lower batch_size, or keep it",
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "reads images was killed"),
        (
            RuntimeError("DataLoader worker (pid 7): bus error, shared memory"),
            "enlarge /dev/shm, or lower workers",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "logs/x"), "no space left on the disk of logs/x"),
    ],
)
def test_what_happens_in_a_step_is_explained(error, message, colours, tmp_path, monkeypatch):
    monkeypatch.setattr(Classification, "training_step", raise_in(1, error))
    with pytest.raises(InputError, match=f"{message}.*What is finished is kept in .*--resume true"):
        fit(tiny(), colours, RECIPE, tmp_path, runtime=HERE, progress=False)
    assert torch.load(tmp_path / "checkpoints" / LAST, weights_only=True)["run"]["steps"] == 3


def test_a_fault_of_the_program_is_not_explained_away(colours, tmp_path, monkeypatch):
    monkeypatch.setattr(Classification, "training_step", raise_in(0, ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError, match="ours"):
        fit(tiny(), colours, RECIPE, tmp_path, runtime=HERE, progress=False)


def test_a_lost_data_mount(colours, tmp_path, monkeypatch):
    photos = tmp_path / "mount"
    shutil.copytree(Path(colours.images[0]).parent, photos)
    data = replace(colours, images=[photos / Path(path).name for path in colours.images])
    epochs = []

    def unmount(self):
        epochs.append(self.current_epoch)
        if len(epochs) == 2:
            shutil.rmtree(photos)

    monkeypatch.setattr(Classification, "on_train_epoch_start", unmount)
    with pytest.raises(InputError, match=r"mount.*--resume true") as caught:
        fit(tiny(), data, RECIPE, tmp_path / "run", runtime=Runtime(workers=1), progress=False)
    assert "Traceback" not in str(caught.value)
    shutil.copytree(Path(colours.images[0]).parent, photos)
    assert (
        len(fit(tiny(), data, RECIPE, tmp_path / "run", runtime=HERE, progress=False, resume=True).history)
        == 3
    )


@pytest.mark.parametrize(
    "recipe", [replace(RECIPE, optimizer="sgd", lr=1e30), replace(RECIPE, lr=float("inf"))]
)
def test_a_training_that_diverges_leaves_no_broken_checkpoint(recipe, colours, tmp_path):
    with pytest.raises(InputError, match=r"in epoch \d, step \d: the training has diverged\. Lower lr"):
        fit(tiny(), colours, recipe, tmp_path, runtime=Runtime(workers=0, checkpoint_every=1), progress=False)
    for file in tmp_path.glob("checkpoints/*"):
        weights = torch.load(file, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in weights.values()), file
