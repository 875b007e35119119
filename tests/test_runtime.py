"""Where a training runs: what is refused, and what each option leaves or changes."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import partialmethod

import pytest
import torch
from conftest import COLOURS
from torch._dynamo.utils import counters

from zoo.lookup import InputError
from zoo.model import build
from zoo.recipe import Recipe
from zoo.runtime import Runtime, is_first_process
from zoo.train import fit

RECIPE = Recipe(epochs=2, batch_size=8, lr=1e-2)
HERE = Runtime(workers=0, accelerator="cpu")


def trained(colours, folder, recipe: Recipe = RECIPE, runtime: Runtime = HERE):
    torch.manual_seed(0)
    model = build("linear-test_efficientnet", COLOURS, img_size=32)
    return model, fit(model, colours, recipe, folder, runtime=runtime, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 0}, "devices must be at least 1, not 0"),
        ({"accumulate": 0}, "accumulate must be at least 1, not 0"),
        ({"workers": -1}, "workers must not be negative, not -1"),
        ({"checkpoint_every": -1}, "checkpoint_every must not be negative, not -1"),
    ],
)
def test_numbers_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        Runtime(**options)


@pytest.mark.parametrize(
    ("recipe", "runtime", "message"),
    [
        (RECIPE, replace(HERE, accelerator="abacus"), "abacus"),
        pytest.param(
            RECIPE,
            replace(HERE, accelerator="gpu"),
            "[Nn]o supported gpu backend found",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
        (RECIPE, replace(HERE, strategy="telepathy"), "telepathy"),
        (replace(RECIPE, precision="3-bit"), HERE, "3-bit"),
        (
            replace(RECIPE, ema=0.9),
            replace(HERE, strategy="fsdp"),
            r"\(fsdp\) cannot be averaged: choose ddp, or ema 0",
        ),
        (
            replace(RECIPE, batch_size=3),
            replace(HERE, accumulate=4),
            "batch of 3 images cannot be shared among 1 dev",
        ),
    ],
)
def test_what_there_is_not(recipe, runtime, message, colours, tmp_path):
    with pytest.raises(InputError, match=message):
        trained(colours, tmp_path, recipe, runtime)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("logger", ["wandb", "mlflow"])
def test_a_logger_that_is_not_installed(logger, colours, tmp_path):
    if importlib.util.find_spec(logger):
        pytest.skip(f"{logger} is installed")
    with pytest.raises(
        InputError, match=rf"logger {logger} is not installed: pip install 'label-graph-zoo\[{logger}\]'"
    ):
        trained(colours, tmp_path, runtime=replace(HERE, logger=logger))


def test_mlflow_without_a_server_writes_a_file(colours, tmp_path, monkeypatch):
    if not importlib.util.find_spec("mlflow"):
        pytest.skip("mlflow is an extra and not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    trained(colours, tmp_path, runtime=replace(HERE, logger="mlflow"))
    assert (tmp_path / "logs" / "mlflow.db").is_file()


def test_compiled_the_training_is_the_same(colours, tmp_path, monkeypatch):
    # Traced like any other, but run as it is: code for this machine would take a minute to make.
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="eager"))
    counters.clear()
    plain, compiled = (
        trained(colours, tmp_path / str(on), runtime=replace(HERE, compile=on)) for on in (False, True)
    )
    assert counters["stats"]["unique_graphs"], "something was compiled"
    losses = [[row["train_loss"] for row in done.history] for _, done in (plain, compiled)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert plain[0].state_dict().keys() == compiled[0].state_dict().keys()


@pytest.mark.parametrize(
    ("logger", "file"), [("csv", "metrics.csv"), ("tensorboard", "events*"), ("none", None)]
)
def test_loggers(logger, file, colours, tmp_path):
    trained(colours, tmp_path, runtime=replace(HERE, logger=logger))
    assert (tmp_path / "logs" / "history.csv").is_file(), "in any case"
    if file:
        assert list((tmp_path / "logs").rglob(file))
    else:
        assert [path.name for path in (tmp_path / "logs").iterdir()] == ["history.csv"]


@pytest.mark.parametrize("profiler", ["simple", "advanced"])
def test_profilers_write_where_the_time_went(profiler, colours, tmp_path):
    trained(colours, tmp_path, runtime=replace(HERE, profiler=profiler))
    (report,) = (tmp_path / "logs").glob("fit*profile*")
    assert "optimizer_step" in report.read_text()


def test_patience_ends_a_run(colours, tmp_path):
    """With a learning rate that changes nothing, the second epoch is not better."""
    _, run = trained(colours, tmp_path, replace(RECIPE, epochs=9, lr=1e-12, patience=2, optimizer="sgd"))
    assert len(run.history) < 9


@pytest.mark.parametrize(
    ("recipe", "runtime"),
    [
        (RECIPE, replace(HERE, channels_last=True)),
        (replace(RECIPE, precision="bf16-mixed"), HERE),
        (RECIPE, replace(HERE, workers=2)),
        (RECIPE, replace(HERE, deterministic=True)),
    ],
    ids=["channels_last", "bf16", "workers", "deterministic"],
)
def test_they_give_the_same_up_to_rounding(recipe, runtime, colours, tmp_path):
    plain, run = trained(colours, tmp_path / "plain")
    other, again = trained(colours, tmp_path / "other", recipe, runtime)
    torch.use_deterministic_algorithms(False)  # Lightning sets it for the process
    exact = runtime.workers == 2 or runtime.deterministic
    tolerance = 0.0 if exact else 0.05 if recipe.precision != "32-true" else 1e-3
    for row, expected in zip(again.history, run.history, strict=True):
        assert row["train_loss"] == pytest.approx(expected["train_loss"], abs=tolerance)
    for name, value in plain.state_dict().items():
        if exact:
            assert torch.equal(other.state_dict()[name], value), name


def test_which_process_speaks(monkeypatch):
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert is_first_process()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not is_first_process(), "started by Lightning on one machine"
    monkeypatch.setenv("RANK", "0")
    assert is_first_process()
    monkeypatch.setenv("RANK", "8")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert not is_first_process(), "the first of the second machine"
