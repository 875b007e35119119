"""A smoke size of benchmarks/scale.py, run as a user would run it."""

from __future__ import annotations

import csv
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
    size = ("--rows", "2000", "--folder", str(tmp_path), "--output", str(output))
    done = run("--sections", "[label_counts]", *size, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with output.open(newline="") as file:
        table = {row["work"]: row for row in csv.DictReader(file)}
    assert {work: row["size"] for work, row in table.items()} == {
        "count_labels": "300 images, 20,000 labels",
        "coupling_edges": "300 images, 20,000 labels",
        "label_graph": "33 images, 100,000 labels",
    }
    # 28 pairs on each image, of which some are on more than one.
    pairs = int(re.search(r"([\d,]+) pairs of labels", table["count_labels"]["note"])[1].replace(",", ""))
    assert 0.5 * 300 * 28 < pairs <= 300 * 28
    assert "label graph in" in table["label_graph"]["note"]
    assert [path.name for path in tmp_path.iterdir()] == ["scale.csv"]


def test_it_says_what_is_wrong(tmp_path):
    done = run("--sections", "[label_row]", cwd=tmp_path)
    assert done.returncode != 0
    assert "unknown section 'label_row'. Did you mean label_rows?" in done.stderr
