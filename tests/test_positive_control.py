"""The positive control is made of COCO's annotations, and a label graph helps there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def module(benchmark_module):
    return benchmark_module("positive_control")


def test_the_label_vectors_are_cocos(module):
    file = Path(os.environ.get("ZOO_DATA", "")) / ".." / "statistics" / "coco2014_targets.npz"
    if not file.is_file():
        pytest.skip("ZOO_DATA holds no published annotations of COCO 2014")
    with np.load(file) as arrays:
        expected = module.sample(arrays["targets"], arrays["is_train"])
    data = module.simulated(1.0)
    assert np.array_equal(data.targets, expected)
    assert {split: int((data.splits == split).sum()) for split in module.SIZES} == module.SIZES


def test_the_evidence_of_a_label_is_its_own_and_as_strong_as_it_says(module):
    data = module.simulated(2.0)
    logits = module.log_odds(data, 2.0, seed=0).numpy()
    share = data.split("train").targets.mean(0)
    evidence = (logits - np.log(share / (1 - share))) / 2.0 + 1.0
    present = data.targets == 1
    assert evidence[present].mean() == pytest.approx(2.0, abs=0.03)
    assert evidence[~present].mean() == pytest.approx(0.0, abs=0.03)
    noise = evidence - 2.0 * data.targets
    assert np.corrcoef(noise.T)[np.triu_indices(80, 1)] == pytest.approx(0.0, abs=0.05)


def test_the_real_graph_helps_and_its_controls_do_not(module):
    comparison = module.positive_control(2.5, seeds=2)
    base, *others = (result.interval()[0] for result in comparison.results)
    real, shuffled, identity = (value - base for value in others)
    assert real > 0.05
    assert abs(shuffled) < 0.005
    assert identity == 0
    assert [result.kind for result in comparison.results] == ["baseline", "graph", "control", "control"]
    assert comparison.baseline is comparison.results[0]
