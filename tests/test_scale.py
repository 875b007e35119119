"""A smoke size of benchmarks/scale.py, run as a user would run it."""

from __future__ import annotations

import csv
import os
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


def test_it_says_what_is_wrong(tmp_path):
    done = run("--sections", "[label_row]", cwd=tmp_path)
    assert done.returncode != 0
    assert "unknown section 'label_row'. Did you mean label_rows?" in done.stderr
