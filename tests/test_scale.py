"""A smoke size of benchmarks/scale.py, run as a user would run it."""

from __future__ import annotations

import csv
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
ROOT = Path(__file__).parent.parent


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "scale.py"), *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_both_readers_see_the_same(tmp_path):
    output = tmp_path / "results" / "scale.csv"
    # A hundredth of 20,000 rows has other labels: the same rows for both are those of two runs.
    for rows in ("20000", "200", "20000"):
        done = run(
            "--sections",
            "[label_rows]",
            "--rows",
            rows,
            "--folder",
            str(tmp_path),
            "--output",
            str(output),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
    with output.open(newline="") as file:
        table = list(csv.DictReader(file))
    found = {(row["work"], row["size"]): row for row in table}
    assert len(table) == len(found) == 4
    ours, theirs = found["read_label_rows", "200 rows"], found["read_with_csv_module", "200 rows"]
    assert ours["note"] in theirs["note"]  # images, labels and entries
    assert "extrapolated to 20,000 rows" in theirs["note"]
    for row in table:
        assert float(row["cpu_seconds"]) > 0
        assert float(row["peak_MiB"]) > 10
        assert all(row[name] for name in ("numpy", "pyarrow", "machine", "cores", "date"))
    assert [path.name for path in tmp_path.iterdir()] == ["results"]  # the CSV is removed


def test_labels_are_counted_and_made_a_graph_of(tmp_path):
    output = tmp_path / "scale.csv"
    options = ("--smoke", "true", "--folder", str(tmp_path), "--output", str(output))
    done = run("--sections", "[label_counts]", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with output.open(newline="") as file:
        table = {row["work"]: row for row in csv.DictReader(file)}
    assert {work: row["size"] for work, row in table.items()} == {
        "count_labels": "300 images, 200 labels",
        "coupling_edges": "300 images, 200 labels",
        "label_graph": "33 images, 1,000 labels",
    }
    # 28 pairs on each image, of which some are on more than one.
    pairs = int(re.search(r"([\d,]+) pairs of labels", table["count_labels"]["note"])[1].replace(",", ""))
    assert 0.3 * 300 * 28 < pairs <= 300 * 28
    assert "label graph in" in table["label_graph"]["note"]
    assert [path.name for path in tmp_path.iterdir()] == ["scale.csv"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The table of the sections that grow with the labels, and where it was written."""
    folder = tmp_path_factory.mktemp("scale")
    sections = ("--sections", "[labels,train_labels,evaluation]")
    done = run(*sections, "--smoke", "true", "--output", str(folder / "scale.csv"), cwd=folder)
    assert done.returncode == 0, done.stderr
    with (folder / "scale.csv").open(newline="") as file:
        return list(csv.DictReader(file)), folder


def test_cost_is_measured_for_each_number_of_labels_and_exponents_fitted(smoke):
    table, folder = smoke
    works = {"graph_building", "mlgcn_step", "linear_step", "folded_inference"}
    rows = [row for row in table if row["section"] == "labels"]
    assert {row["work"] for row in rows} == works
    for work in works:
        *measured, fit = (row for row in rows if row["work"] == work)
        assert [row["size"] for row in measured] == ["80 labels", "1,000 labels", "2,000 labels"]
        assert fit["size"] == "1,000 to 2,000 labels"
        for key, name in (("seconds", "time_exponent"), ("increase_MiB", "memory_exponent")):
            first, last = (float(row[key]) for row in measured[1:])
            assert float(fit[name]) == pytest.approx(math.log2(last / first), abs=1e-3)
    found = {(row["work"], row["size"]): row for row in rows}
    assert "average degree 9.9" in found["graph_building", "1,000 labels"]["note"]
    # Weights and gradients of float32, and what comes on top; a second copy of them would be seen.
    needed = 2 * 2_000 * 1280 * 4 / 2**20
    assert needed < float(found["linear_step", "2,000 labels"]["increase_MiB"]) < 3 * needed
    assert (folder / "scale.png").stat().st_size > 10_000


def test_a_training_learns_and_an_evaluation_ends(smoke):
    table, _ = smoke
    (trained,) = (row for row in table if row["section"] == "train_labels")
    first, last = map(float, re.search(r"loss (\S+), then ([^;\s]+);", trained["note"]).groups())
    assert last < first
    assert trained["size"] == "64 images, 300 labels"
    (evaluated,) = (row for row in table if row["section"] == "evaluation")
    assert evaluated["size"] == "500 images, 40 labels"
    # Eight labels drawn of forty: random scores are right as often as a label is there.
    assert float(re.search(r"mAP (\S+) of random", evaluated["note"])[1]) == pytest.approx(0.19, abs=0.03)
    assert all(float(row["peak_MiB"]) > 100 for row in (trained, evaluated))


def test_the_readme_shows_it(smoke, benchmark_module, monkeypatch):
    table, folder = smoke
    readme = benchmark_module("readme")
    monkeypatch.setattr(benchmark_module("readme_tables"), "RESULTS", folder)
    text = readme.rendered("<!-- labels: all -->\n<!-- end -->\n<!-- scale: evaluation -->\n<!-- end -->")
    assert "| time, memory | 80 labels | 1,000 labels | 2,000 labels | exponents |" in text
    # Those of the table, whatever they are: sizes of a smoke run may fit a falling cost.
    fit = next(row for row in table if row["work"] == "mlgcn_step" and row["time_exponent"])
    exponents = f"{float(fit['time_exponent']):.2f}, {float(fit['memory_exponent']):.2f}"
    assert (
        len(
            re.findall(
                rf"^\| mlgcn step \|(?: [\d.]+ m?s, [\d.]+ MiB \|){{3}} {re.escape(exponents)} \|$",
                text,
                re.MULTILINE,
            )
        )
        == 1
    )
    assert "| evaluate labels | 500 images, 40 labels |" in text


def test_it_says_what_is_wrong(tmp_path):
    done = run("--sections", "[label_row]", cwd=tmp_path)
    assert done.returncode != 0
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("scale: unknown section 'label_row'. Did you mean label_rows?")
    )
