"""The report against slow statements, on comparisons whose scores are made up, so that the result is known."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from scipy import stats

import zoo
from zoo.graph import label_graph
from zoo.metrics import multilabel_metrics
from zoo.report import Comparison, Result, provenance


def made_up(data, gains, *, seeds=3, spread=0.01, validation=None, best_epoch=10):
    """A comparison in which each entry's test mAP is 0.5 plus its gain, give or take the spread, seed by seed.

    Args:
        gains: entry -> gain; an entry's kind follows from its name.
        validation: entry -> validation mAP, where that is not the test mAP.
    """
    test = data.split("test")
    targets = torch.from_numpy(test.targets)
    noise = torch.Generator().manual_seed(0)
    results = []
    for name, gain in gains.items():
        graph = not name.startswith(("linear", "mlp"))
        kind = "control" if "graph=" in name else "graph" if graph else "baseline"
        scores = [torch.rand(targets.shape, generator=noise) for _ in range(seeds)]
        runs = [
            {
                "entry": name,
                "seed": seed,
                "lr": 0.01,
                "weight_decay": 0.1,
                "parameters": 128,
                "seconds": 2.0 + seed,
                "best_epoch": best_epoch,
                "val_mAP": (validation or {}).get(name, 0.5 + gain),
                **{f"test_{key}": value for key, value in multilabel_metrics(scores[seed], targets).items()},
                "test_mAP": 0.5 + gain + spread * (seed - 1) * (1 if graph else -1),
            }
            for seed in range(seeds)
        ]
        results.append(Result(name, kind, [{"entry": name, "lr": 0.01, "val_mAP": 0.4}] * 2, runs, scores))
    train = data.split("train")
    return Comparison(
        data=data,
        results=results,
        protocol={"trials": 2, "seeds": seeds, "epochs": 20, "lr": (1e-4, 0.1), "threshold": 0.1},
        graph=label_graph(train.targets, train.label_names, embeddings="random"),
        targets=[targets] * seeds,
        provenance=provenance(data),
    )


GAINS = {
    "linear-resnet18": 0.0,
    "linear-resnet18:pooling=max": 0.02,
    "mlgcn-resnet18": 0.06,
    "gat-resnet18": 0.03,
    "mlgcn-resnet18:graph=shuffled": 0.09,
}


@pytest.fixture
def comparison(colours):
    return made_up(colours, GAINS)


def result(comparison, name):
    return next(result for result in comparison.results if result.name == name)


# --- arithmetic --------------------------------------------------------------------------------------------


def t_interval(values):
    """Mean and half-width, written out."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, stats.t.ppf(0.975, len(values) - 1) * math.sqrt(variance / len(values))


def test_intervals_are_t_intervals_over_the_seeds(comparison):
    for entry in comparison.results:
        values = [run["test_mAP"] for run in entry.runs]
        assert entry.values() == values
        assert entry.interval() == pytest.approx(t_interval(values))
        assert entry.interval() == pytest.approx(
            (
                np.mean(values),
                np.mean(values) - stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))[0],
            )
        )


def test_differences_are_paired_by_seed(comparison):
    baseline = comparison.baseline
    for entry in comparison.results:
        if entry is baseline:
            assert comparison.difference(entry) is None
            continue
        pairs = zip(entry.runs, baseline.runs, strict=True)
        expected = t_interval([own["test_mAP"] - other["test_mAP"] for own, other in pairs])
        assert comparison.difference(entry) == pytest.approx(expected, abs=1e-12)
    # Both baselines move with the seed in the same way, so that their difference does not move at all.
    assert comparison.difference(result(comparison, "linear-resnet18")) == pytest.approx(
        (-0.02, 0.0), abs=1e-12
    )


def test_the_validation_split_chooses_and_the_test_split_ranks(colours):
    validation = {
        "linear-resnet18": 0.7,
        "linear-resnet18:pooling=max": 0.6,
        "mlgcn-resnet18": 0.6,
        "gat-resnet18": 0.8,
    }
    comparison = made_up(colours, GAINS, validation=validation)
    assert comparison.baseline.name == "linear-resnet18"
    assert comparison.winner.name == "gat-resnet18"
    assert "Best graph head on validation: gat-resnet18." in comparison.verdict()
    assert [entry.name for entry in comparison.ranking] == sorted(GAINS, key=GAINS.get, reverse=True)


def test_a_control_never_wins(colours):
    validation = dict.fromkeys(GAINS, 0.5) | {"mlgcn-resnet18:graph=shuffled": 0.99, "mlgcn-resnet18": 0.6}
    assert made_up(colours, GAINS, validation=validation).winner.name == "mlgcn-resnet18"


# --- words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gain", "spread", "words"),
    [
        (0.06, 0.001, r"\+0\.060 ±0\.005 test mAP, so the graph head is better\. The interval is over seeds"),
        (-0.06, 0.001, r"-0\.060 ±0\.005 test mAP, so the graph head is worse\. The interval is over seeds"),
        (0.02, 0.01, r"\+0\.020 ±0\.050 test mAP, so no difference that these seeds can show\. The interval"),
        (-0.02, 0.01, r"-0\.020 ±0\.050 test mAP, so no difference that these seeds can show\."),
        (0.0, 0.0, r"\+0\.000 ±0\.000 test mAP, so no difference that these seeds can show\."),
    ],
)
def test_verdict(colours, gain, spread, words):
    comparison = made_up(colours, {"linear-resnet18": 0.0, "mlgcn-resnet18": gain}, spread=spread)
    verdict = comparison.verdict()
    assert re.search(words, verdict)
    assert verdict.startswith(
        "Best graph head on validation: mlgcn-resnet18. Against the best baseline, linear-resnet18"
    )


def test_one_seed_shows_no_difference_and_has_no_interval(colours):
    comparison = made_up(colours, GAINS, seeds=1)
    assert (
        "so no difference that one seed can show. An interval needs two seeds or more."
        in comparison.verdict()
    )
    assert "nan" not in comparison.verdict()
    assert "nan" not in rendered(comparison)
    assert "one seed" in rendered(comparison)


@pytest.mark.parametrize(("best_epoch", "unfinished"), [(17, False), (18, True), (19, True)])
def test_verdict_says_which_entries_the_budget_cut_short(colours, best_epoch, unfinished):
    comparison = made_up(colours, {"linear-resnet18": 0.0, "mlgcn-resnet18": 0.1}, best_epoch=best_epoch)
    words = " Still improving when the budget ended: linear-resnet18, mlgcn-resnet18."
    assert comparison.verdict().endswith(words) == unfinished
    comparison.results[0].runs[1]["best_epoch"] = 3
    assert ("ended: mlgcn-resnet18." in comparison.verdict()) == unfinished


def test_verdict_without_graph_heads_or_baselines(colours):
    assert made_up(colours, {"linear-resnet18": 0.0, "mlp-resnet18": 0.1}).verdict() == (
        "Best on validation: mlp-resnet18."
    )
    assert made_up(colours, {"mlgcn-resnet18": 0.0}).verdict() == "Best on validation: mlgcn-resnet18."


# --- the terminal ------------------------------------------------------------------------------------------


def rendered(comparison, width=100):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(comparison.table())
    return console.file.getvalue()


LONG = [
    "mlgcn-convnext_tiny.fb_in22k:conv=TransformerConv:graph=random_vectors:widths=[2048,2048]",
    "mlp-vit_small_patch16_224.augreg_in21k_ft_in1k:dropout=0.25:widths=[512,512]",
    "linear-tf_efficientnet_lite0",
]


@pytest.mark.parametrize(("names", "width"), [(list(GAINS), 80), (LONG, 80), (LONG, 100)])
def test_the_table_fits_a_terminal_and_cuts_nothing(colours, names, width):
    comparison = made_up(colours, dict(zip(names, (0.01, 0.02, 0.03, 0.04, 0.05), strict=False)))
    text = rendered(comparison, width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    column = min(line.index(found[0]) for line in lines if (found := re.search(r"\d\.\d{3} ±", line)))
    shown = "".join(line[:column].strip() for line in lines)  # a long name goes on in the line below
    one_backbone = len({name.partition("-")[2].partition(":")[0] for name in names}) == 1
    for entry in comparison.ranking:
        name = entry.name.replace("-resnet18", "") if one_backbone else entry.name
        assert name in shown
        assert f"{entry.interval()[0]:.3f} ±{entry.interval()[1]:.3f}" in text
    for word in ("mAP", "macro", "micro", "samples", "F1", "vs best", "baseline"):
        assert word in text


def test_names_are_not_read_as_markup(colours):
    comparison = made_up(replace(colours, name="[bold]:cat:"), {"linear-x:a=[b,c]": 0.0, "linear-y": 0.1})
    assert "linear-x:a=[b,c]" in rendered(comparison)
    assert "[bold]:cat:: test results" in rendered(comparison)


# --- the folder --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(colours, tmp_path_factory):
    comparison = made_up(colours, GAINS)
    return comparison, comparison.write(tmp_path_factory.mktemp("report") / "made" / "here")


def table(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_results_csv(written, colours):
    comparison, folder = written
    rows = {row["entry"]: row for row in table(folder / "results.csv")}
    assert list(rows) == [entry.name for entry in comparison.ranking]
    for name, row in rows.items():
        entry = result(comparison, name)
        assert row["kind"] == entry.kind
        for metric in ("mAP", "CF1", "OF1", "CF1_top3", "macro_f1", "micro_f1", "samples_f1"):
            mean, half = t_interval(entry.values(metric))
            assert float(row[metric]) == pytest.approx(mean, abs=1e-6)
            assert float(row[f"{metric}_half_width"]) == pytest.approx(half, abs=1e-6)
        if entry is comparison.baseline:
            assert row["gain_over_baseline"] == row["gain_half_width"] == ""
        else:
            assert float(row["gain_over_baseline"]) == pytest.approx(
                comparison.difference(entry)[0], abs=1e-6
            )
            assert float(row["gain_half_width"]) == pytest.approx(comparison.difference(entry)[1], abs=1e-6)
        assert float(row["val_mAP"]) == pytest.approx(entry.val_mAP, abs=1e-6)
        assert float(row["seconds_per_run"]) == 3.0
        assert (row["seeds"], row["trials"], row["epochs"]) == ("3", "2", "20")
        assert (row["chosen_lr"], row["chosen_weight_decay"], row["lr"]) == ("0.01", "0.1", "(0.0001, 0.1)")


def test_results_csv_says_where_it_comes_from(written, colours):
    for row in table(written[1] / "results.csv"):
        assert row["data"] == "colours"
        assert row["fingerprint"] == colours.fingerprint()
        assert row["zoo"] == zoo.__version__
        for library in ("torch", "timm", "torch-geometric", "lightning"):
            assert row[library] == importlib.metadata.version(library)
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", row["date"])
        assert row["device"]
        assert row["threads"] == str(torch.get_num_threads())


def test_every_run_and_every_trial_is_kept(written):
    comparison, folder = written
    assert len(table(folder / "runs.csv")) == 5 * 3
    assert len(table(folder / "trials.csv")) == 5 * 2
    assert {row["entry"] for row in table(folder / "runs.csv")} == set(GAINS)
    assert float(table(folder / "runs.csv")[1]["test_mAP"]) == comparison.results[0].runs[1]["test_mAP"]


def test_the_label_graph_can_be_loaded(written):
    comparison, folder = written
    graph = zoo.load_graph(folder / "label_graph.json")
    assert graph.label_names == comparison.graph.label_names
    assert torch.equal(graph.edge_index, comparison.graph.edge_index)
    torch.testing.assert_close(graph.edge_weight, comparison.graph.edge_weight)


def test_report_md(written):
    comparison, folder = written
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert report.startswith("# Comparison on colours\n")
    assert comparison.verdict() in report
    pictures = re.findall(r"!\[([^]]+)\]\(([^)]+)\)", report)
    assert len(pictures) == 5
    for _, file in pictures:
        with Image.open(folder / file) as picture:
            picture.verify()
            assert min(picture.size) > 100
    assert {file for _, file in pictures} == {path.name for path in folder.glob("*.png")}
    results, _, breakdown = report.partition("## Against")
    assert "Holm" in breakdown
    assert "| model | rare | medium | frequent | training less test |" in breakdown
    lines = [line for line in results.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(GAINS)
    assert {line.count("|") for line in lines} == {8}
    for entry in comparison.results:
        mean, half = entry.interval()
        short = entry.name.replace("-resnet18", "")
        assert any(f"| {short} |" in line and f"{mean:.3f} ±{half:.3f}" in line for line in lines)
    assert "- fingerprint: " in report
    assert "red -> green" in report


def test_without_a_graph_there_is_none_to_show(colours, tmp_path):
    made_up_one = replace(made_up(colours, {"linear-resnet18": 0.0, "mlp-resnet18": 0.1}), graph=None)
    folder = made_up_one.write(tmp_path)
    assert not (folder / "label_graph.json").exists()
    assert not (folder / "label_graph.png").exists()
    assert "Strongest edges" not in (folder / "report.md").read_text(encoding="utf-8")
