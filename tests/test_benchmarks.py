"""A smoke size of each benchmark script, run as a user would run it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.lookup import InputError

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


def colours(folder: Path) -> Path:
    """A label file of 24 plain pictures, red, blue, both or neither, in three splits."""
    rows = []
    for i in range(24):
        red, blue = i & 1, i >> 1 & 1
        Image.fromarray(np.full((32, 32, 3), (200 * red, 20, 200 * blue), np.uint8)).save(folder / f"{i}.png")
        rows.append((f"{i}.png", red, blue, ("train", "train", "val", "test")[i // 4 % 4]))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "red", "blue", "split"), *rows])
    return folder / "labels.csv"


def test_accuracy_runs_a_grid_and_keeps_its_tables(tmp_path):
    done = run(
        "accuracy.py", "--data", str(colours(tmp_path)), "--heads", "linear,mlgcn:widths=[8]",
        "--backbones", "test_efficientnet", "--pretrained", "false",
        "--protocol.trials", "1", "--protocol.seeds", "1", "--protocol.epochs", "1",
        "--output", str(tmp_path / "runs"), "--results", str(tmp_path / "results"),
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (tmp_path / "results" / "accuracy.csv").open() as file:
        table = [row for row in csv.DictReader(file) if row["section"] == "overall"]
    entries = {row["entry"] for row in table}
    assert {"linear-test_efficientnet", "mlgcn-test_efficientnet:widths=[8]"} <= entries
    assert "mlgcn-test_efficientnet:widths=[8]:graph=shuffled" in entries
    assert all(row["torch"] and row["fingerprint"] and row["seeds"] == "1" for row in table)


def test_accuracy_asks_each_section_of_its_own_grid(tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "known:\n  heads: [linear, coupled]\n  protocol: {known: 0.5}\n"
        "depth:\n  question: How deep?\n  layers: true\n  heads: ['mlgcn:widths=[8]']\n"
    )
    done = run(
        "accuracy.py", "--data", str(colours(tmp_path)), "--grid", str(grid),
        "--backbones", "test_efficientnet", "--pretrained", "false",
        "--protocol.trials", "1", "--protocol.seeds", "2", "--protocol.epochs", "1",
        "--output", str(tmp_path / "runs"), "--results", str(tmp_path / "results"),
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (tmp_path / "results" / "accuracy.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["section"] for row in table] == ["known", "known", "depth"]
    assert {row["known"] for row in table[:2]} == {"0.5"}
    report = (tmp_path / "runs" / "accuracy.md").read_text()
    assert "depth: How deep?" in report
    assert "## Over-smoothing" in report
    page = (tmp_path / "runs" / "accuracy.html").read_text()
    assert page.count("data:image/png;base64") == 3, (
        "a picture of each section that is asked of photos, and of all"
    )


def test_accuracy_says_in_one_line_what_is_wrong(tmp_path):
    done = run("accuracy.py", "--data", "openmojo", cwd=tmp_path)
    assert done.returncode != 0
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("accuracy: unknown data set 'openmojo'. Did you mean openmoji?")
    )


def test_unseen_labels_tests_what_it_did_not_train(tmp_path):
    rows = []
    for i in range(32):
        colours = [i >> bit & 1 for bit in range(3)]
        pixels = np.full((32, 32, 3), [20 + 180 * colour for colour in colours], np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        rows.append((f"{i}.png", *colours, ("train", "train", "val", "test")[i // 8]))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "red", "green", "blue", "split"), *rows])
    heads = (
        "linear",
        "mlgcn:widths=[8]:graph=shuffled",
        "coupled",
        "mldecoder_words:width=8:feedforward_width=8",
    )
    done = run(
        "unseen_labels.py", "--data", str(tmp_path / "labels.csv"), "--heads", ",".join(heads),
        "--backbone", "test_efficientnet", "--pretrained", "false", "--embeddings", "random",
        "--held_out", "1", "--repeats", "2", "--protocol.trials", "1", "--protocol.epochs", "1",
        "--results", str(tmp_path / "results" / "unseen.csv"),
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "held-out labels included: labels without photos" in " ".join(done.stdout.split())
    with (tmp_path / "results" / "unseen.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["kind"] for row in table] == ["nearest label", "control", "graph", "graph"]
    assert all(row["torch"] and row["fingerprint"] and row["partitions"] == "2" for row in table)
    assert all(row["unseen_chance"] == "0.5" for row in table)
    with (tmp_path / "results" / "unseen_runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert len(runs) == 8
    for row, line in zip(runs[:4], table, strict=True):
        own = [run for run in runs if run["entry"] == row["entry"]]
        assert len({run["partition"] for run in own}) == 2
        assert {run["held_out"] for run in own} <= {"red", "green", "blue"}
        for name in ("seen_mAP", "unseen_mAP"):
            mean = sum(float(run[name]) for run in own) / 2
            assert abs(mean - float(line[name])) < 1e-4
            assert 0 < mean <= 1


def test_unseen_labels_says_in_one_line_what_is_wrong(tmp_path):
    done = run("unseen_labels.py", "--data", "openmojo", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith("unseen_labels: unknown data set 'openmojo'.")


def test_coverage_writes_a_row_for_each_name(tmp_path):
    done = run(
        "coverage.py", "--filter", "test_vit*", "--output", str(tmp_path / "coverage.csv"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "coverage.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) >= 3
    assert {row["status"] for row in table} == {"ok"}


def test_input_pipeline_measures_each_piece_of_work(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (470, 500, 3), np.uint8)).save(tmp_path / f"{i}.jpg")
    output = tmp_path / "results" / "pipeline.csv"
    small = ["--photos", str(tmp_path), "--rounds", "1", "--entries", "1000", "--output", str(output)]
    done = run("input_pipeline.py", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with output.open() as file:
        table = list(csv.DictReader(file))
    works = {
        section: [row["work"] for row in table if row["section"] == section]
        for section in ("decoding", "loading", "memory")
    }
    assert works == {
        "decoding": ["Pillow", "Pillow, draft mode", "torchvision"],
        "loading": ["zoo, 0 workers", "timm, 0 workers", "zoo, 2 workers", "timm, 2 workers"],
        "memory": ["zoo", "list of pairs"] * 2,
    }
    assert all(float(row["images_per_second"]) > 0 for row in table if row["section"] != "memory")
    assert all(float(row["start_MiB"]) > 1 for row in table if row["section"] == "memory")
    decoders = {row["work"]: row for row in table}
    assert decoders["Pillow"]["largest_difference"] == "0"
    assert int(decoders["Pillow, draft mode"]["largest_difference"]) > 0, "decoded at half the size"
    assert all(row["torch"] and row["pillow"] and row["date"] for row in table)


def test_fine_tuning_trains_tests_the_winner_and_goes_on(tmp_path):
    entries = '["linear-test_efficientnet","mlgcn-test_efficientnet:widths=[8]"]'
    arguments = [
        "--data", str(colours(tmp_path)), "--entries", entries,
        "--pretrained", "false", "--lrs", "[0.01,0.001]", "--seeds", "2", "--epochs", "2", "--img_size", "64",
        "--output", str(tmp_path / "runs"), "--results", str(tmp_path / "results"), "--workers", "0",
    ]  # fmt: skip
    done = run("fine_tuning.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "results" / "fine_tuning.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 2 * 3 * 2, "entries, runs, epochs"
    for entry in ("linear-test_efficientnet", "mlgcn-test_efficientnet:widths=[8]"):
        of_entry = [row for row in table if row["entry"] == entry]
        kept = [row for row in of_entry if row["kept"] == "True"]
        assert len({row["lr"] for row in kept}) == 1
        assert {row["seed"] for row in kept} == {"0", "1"}
        best = max(float(row["val_mAP"]) for row in of_entry if row["seed"] == "0")
        assert best == max(float(row["val_mAP"]) for row in kept if row["seed"] == "0")
        assert sum(row["test_mAP"] != "" for row in of_entry) == 2, (
            "one a run of the winner, none of the others"
        )
    assert (tmp_path / "results" / "fine_tuning.png").stat().st_size > 10_000
    before = (tmp_path / "results" / "fine_tuning.csv").read_text()
    again = run("fine_tuning.py", *arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "results" / "fine_tuning.csv").read_text() == before, "nothing is trained twice"


def test_accuracy_runs_the_sections_of_a_grid_into_one_report(tmp_path):
    (tmp_path / "grid.yaml").write_text(
        "few:\n  question: With 6 photos?\n  heads: [linear, 'mlgcn:widths=[8]:graph.annotations=all']\n"
        "  protocol: {regime: 'photos:count=6'}\n"
        "tau:\n  heads: [linear, 'mlgcn:widths=[8]:graph.threshold=0.8']\n"
    )
    done = run(
        "accuracy.py", "--data", str(colours(tmp_path)), "--grid", str(tmp_path / "grid.yaml"),
        "--backbones", "test_efficientnet", "--pretrained", "false", "--protocol.embeddings", "random",
        "--protocol.trials", "1", "--protocol.seeds", "2", "--protocol.epochs", "1",
        "--output", str(tmp_path / "runs"), "--results", str(tmp_path / "results"),
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (tmp_path / "results" / "accuracy.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["section"], row["regime"]) for row in table] == [("few", "photos:count=6")] * 2 + [
        ("tau", "all")
    ] * 2
    assert all(
        row["split_hash"] and row["config_hash"] and row["mAP_rare"] and row["train_test_gap"]
        for row in table
    )
    assert len({row["config_hash"] for row in table}) == 4
    page = (tmp_path / "runs" / "accuracy.html").read_text()
    assert "few: With 6 photos?" in page
    assert page.count("data:image/png;base64,") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tau:\n  head: [linear]\n", "section 'tau' has no list of heads"),
        ("tau:\n  heads: [linear]\n  control: true\n", r"Did you mean controls\?"),
        ("tau:\n  heads: [linear]\n  protocol: {regimes: all}\n", r"Did you mean regime\?"),
        ("tau: [", "is no YAML"),
        ("", "expected sections by name"),
    ],
)
def test_accuracy_names_what_is_wrong_in_a_grid(text, message, tmp_path, benchmark_module):
    (tmp_path / "grid.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        benchmark_module("accuracy").read_grid(tmp_path / "grid.yaml")
