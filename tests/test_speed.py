"""A smoke size of benchmarks/speed.py, run as a user would run it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "speed.py"), *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speed")
    sections = "[inference,training_step,mixed_precision,graph_head,metrics,heads,imports,scatter]"
    done = run("--sections", sections, "--smoke", "true", "--output", str(folder / "speed.csv"), cwd=folder)
    assert done.returncode == 0, done.stderr
    with (folder / "speed.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["device"] == "cpu"]


def of(table, section):
    return [row for row in table if row["section"] == section]


def test_each_row_is_a_ratio_with_its_spread_and_provenance(table):
    for row in table:
        low, ratio, high = (float(row[key]) for key in ("ratio_low", "ratio", "ratio_high"))
        assert 0 < low <= ratio <= high
        # The median of ratios lies between the extremes of the medians' ratio, with three rounds not far off.
        assert 0.2 < ratio / (float(row["seconds"]) / float(row["against_seconds"])) < 5
        assert all(
            row[name] for name in ("torch", "timm", "torch-geometric", "machine", "cores", "threads", "date")
        )
        if row["goal"].startswith("<= "):
            assert row["met"] == ("yes" if ratio <= float(row["goal"][3:]) else "no")


def test_what_claims_to_be_equal_is(table):
    for section, count in (("inference", 1), ("graph_head", 4), ("metrics", 1)):
        rows = of(table, section)
        assert len(rows) == count
        assert all(float(row["equal_to"]) <= 1e-5 for row in rows)
    assert float(of(table, "metrics")[0]["equal_to"]) <= 1e-6


def test_a_folded_model_calls_what_timms_own_classifier_calls(table):
    assert [row["note"] for row in of(table, "inference")] == ["the same list of operations: yes"]


def test_a_large_graph_is_faster_than_its_dense_formula(table):
    large = [row for row in of(table, "graph_head") if row["size"].startswith("200 labels")]
    assert {row["work"].split()[0] for row in large} == {"mlgcn", "sgc"}
    assert all(float(row["ratio"]) < 1 for row in large)


def test_heads_have_their_cost_beside_their_time(table):
    rows = {row["work"].split(",")[0]: row for row in of(table, "heads")}
    assert {*rows} == {"mlgcn", "csra"}
    assert all(int(row["parameters"]) > 0 and int(row["peak_MiB"]) > 0 for row in rows.values())
    assert int(rows["mlgcn"]["flops_once"]) > 0 == int(rows["csra"]["flops_once"])


def test_an_import_is_quick_and_help_quicker_than_what_it_leaves_out(table):
    rows = {row["work"]: row for row in of(table, "imports")}
    assert float(rows["zoo --help"]["ratio"]) < 0.5
    assert float(rows["import zoo"]["ratio"]) < 0.5


def test_the_reference_loop_agrees_with_scikit_learn(benchmark_module):
    import numpy as np
    import torch
    from sklearn.metrics import average_precision_score

    loop_metrics = benchmark_module("speed_process").loop_metrics

    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(60, 3, generator=generator) < 0.4).to(torch.int8)
    scores = torch.rand(60, 3, generator=generator, dtype=torch.float64)
    expected = average_precision_score(np.asarray(targets), np.asarray(scores), average="macro")
    assert loop_metrics(scores, targets)["mAP"] == pytest.approx(expected)


def test_a_head_is_timed_without_torch_scatter_in_a_process_of_its_own(benchmark_module):
    with benchmark_module("speed_heads").Worker("linear", "cpu") as worker:
        assert worker.peak_MiB > 0
        worker.step()
        assert worker.process.poll() is None
    assert worker.process.poll() is not None


def test_it_says_what_is_wrong(tmp_path):
    done = run("--sections", "[inferrence]", cwd=tmp_path)
    assert done.returncode != 0
    assert "speed: unknown section 'inferrence'. Did you mean inference?" in done.stderr


def test_it_says_where_there_is_no_torch_scatter(tmp_path):
    done = run("--sections", "[scatter]", "--smoke", "true", "--scatter", str(tmp_path), cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith(f"speed: {tmp_path} holds no torch_scatter")
