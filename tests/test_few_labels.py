"""What the benchmark of few labels takes away, and how it sums up; its heads and training have tests of their own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.annotations import Annotations
from zoo.data import ImageDataset
from zoo.metrics import mean_interval

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "few_labels.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("few_labels", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks for it there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def data() -> ImageDataset:
    """300 images with four labels, of which the last is on two training images only."""
    targets = (np.random.default_rng(0).random((300, 4)) < 0.3).astype(np.int8)
    targets[:, 3] = 0
    targets[[0, 1, 299], 3] = 1
    splits = np.repeat(["train", "val", "test"], [200, 50, 50])
    return ImageDataset(
        "made up",
        [Path(f"{i}.jpg") for i in range(300)],
        Annotations.from_array(targets),
        list("abcd"),
        splits,
    )


def test_ample_takes_nothing(script, data):
    drawn = script.draw("ample", data, 0)
    assert drawn.rows.tolist() == list(range(200))
    assert np.array_equal(drawn.targets, data.targets)
    assert drawn.concerned.tolist() == [0, 1, 2, 3]


def test_few_photos(script, data):
    drawn = script.draw("100 photos", data, 0)
    assert len(set(drawn.rows.tolist())) == 100
    assert drawn.rows.max() < 200
    assert np.array_equal(drawn.targets, data.targets)


@pytest.mark.parametrize(("regime", "positives"), [("5 positives", 5), ("2 positives", 2), ("unseen", 0)])
def test_few_positives(script, data, regime, positives):
    drawn = script.draw(regime, data, 1)
    assert len(drawn.concerned) == 1, "half of the common labels"
    (label,) = drawn.concerned
    assert label != 3, "a label that is rare already is left alone"
    column, truth = drawn.targets[:200, label].numpy(), data.targets[:200, label]
    assert (column == 1).sum() == positives
    assert (truth[column == 1] == 1).all()
    if positives:  # what is known to be absent stays known
        assert (column[truth == 0] == 0).all()
    else:
        assert (column == -1).all()
    others = [other for other in range(4) if other != label]
    assert np.array_equal(drawn.targets[:, others], data.targets[:, others])
    assert np.array_equal(drawn.targets[200:], data.targets[200:])


def test_draws_differ_by_seed_and_repeat(script, data):
    first, again, other = (script.draw("100 photos", data, seed).rows for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_gains_are_paired_by_draw(script):
    def row(value: float) -> dict[str, float]:
        chance = {"none_chance": 0.1, "half_chance": 0.2}
        return {"none": value, "half": value + 0.1, "strength": 0.5, "lr": 0.1, "weight_decay": 0.2, **chance}

    runs = {("ample", "linear"): [row(0.2), row(0.4)], ("ample", "coupled"): [row(0.25), row(0.46)]}
    table = list(script.summarised(runs, 6, {"data": "made up"}))
    assert [(r["entry"], r["known"]) for r in table] == [
        ("linear", "none"),
        ("linear", "half"),
        ("coupled", "none"),
        ("coupled", "half"),
    ]
    mean, half = mean_interval([0.05, 0.06])
    assert table[2]["gain_over_linear"] == pytest.approx(mean, abs=1e-4)
    assert table[2]["gain_half_width"] == pytest.approx(half, abs=1e-4)
    assert table[3]["mAP"] == pytest.approx(0.455)
    assert table[3]["chance"] == 0.2
    assert {r["data"] for r in table} == {"made up"}
