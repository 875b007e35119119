"""A smoke size of each benchmark script, run as a user would run it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent


def run(script, *arguments, cwd):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / script), *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_accuracy_runs_a_grid_and_keeps_its_tables(tmp_path):
    rows = []
    for i in range(24):
        red, blue = i & 1, i >> 1 & 1
        Image.fromarray(np.full((32, 32, 3), (200 * red, 20, 200 * blue), np.uint8)).save(
            tmp_path / f"{i}.png"
        )
        rows.append((f"{i}.png", red, blue, ("train", "train", "val", "test")[i // 4 % 4]))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "red", "blue", "split"), *rows])
    done = run(
        "accuracy.py", "--data", str(tmp_path / "labels.csv"), "--heads", "linear,mlgcn:widths=[8]",
        "--backbones", "test_efficientnet", "--pretrained", "false",
        "--protocol.trials", "1", "--protocol.seeds", "1", "--protocol.epochs", "1",
        "--output", str(tmp_path / "runs"), "--results", str(tmp_path / "results"),
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with next((tmp_path / "results").glob("*_results.csv")).open() as file:
        table = list(csv.DictReader(file))
    entries = {row["entry"] for row in table}
    assert {"linear-test_efficientnet", "mlgcn-test_efficientnet:widths=[8]"} <= entries
    assert "mlgcn-test_efficientnet:widths=[8]:graph=shuffled" in entries
    assert all(row["torch"] and row["fingerprint"] and row["seeds"] == "1" for row in table)


def test_accuracy_says_in_one_line_what_is_wrong(tmp_path):
    done = run("accuracy.py", "--data", "openmojo", cwd=tmp_path)
    assert done.returncode != 0
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("accuracy: unknown data set 'openmojo'. Did you mean openmoji?")
    )


def test_coverage_writes_a_row_for_each_name(tmp_path):
    done = run(
        "coverage.py", "--filter", "test_vit*", "--output", str(tmp_path / "coverage.csv"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "coverage.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) >= 3
    assert {row["status"] for row in table} == {"ok"}
