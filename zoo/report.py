"""What a comparison leaves to look at: a terminal table, Markdown, CSV files and plots."""

from __future__ import annotations

import csv
import datetime
import hashlib
import importlib.metadata
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import table as rich_table
from rich.text import Text
from torch import Tensor
from torch_geometric.data import Data

from zoo._version import __version__, commit
from zoo.breakdown import THIRDS, by_frequency, chance, frequency_thirds, mean_ap_of_labels, train_gap
from zoo.counts import label_pairs
from zoo.data import ImageDataset
from zoo.document import Block, Heading, Listing, Picture, Table, write_document
from zoo.graph_files import save_graph
from zoo.metrics import mean_interval
from zoo.plots import plot_comparison, plot_contact_sheet, plot_embeddings, plot_label_graph, plot_per_label
from zoo.significance import RESAMPLES, Gain, paired_gains

SHOWN = {"mAP": "mAP", "macro_f1": "macro F1", "micro_f1": "micro F1", "samples_f1": "samples F1"}


@dataclass(frozen=True)
class Result:
    """One entry's trials and runs.

    Attributes:
        name: the entry.
        kind: ``baseline``, ``graph`` or ``control``.
        trials: one row each of the search.
        runs: one row each seed of the winner, with ``test_*`` metrics.
        scores: (N, L) of the test images, one for each run.
    """

    name: str
    kind: str
    trials: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    scores: list[Tensor]

    def values(self, metric: str = "mAP", split: str = "test") -> list[float]:
        """The metric of each seed."""
        return [float(run[f"{split}_{metric}"]) for run in self.runs]

    def interval(self, metric: str = "mAP") -> tuple[float, float]:
        """Mean over the seeds, and half the width of its 95 % t-interval (NaN for one seed)."""
        return mean_interval(self.values(metric))

    @property
    def val_mAP(self) -> float:
        """Mean over the seeds: what choices between entries are made by."""
        return sum(self.values(split="val")) / len(self.runs)


def provenance(data: ImageDataset) -> dict[str, str]:
    """Versions, machine and data: what a number needs beside it to be worth keeping."""
    libraries = ("torch", "timm", "torch-geometric", "lightning")
    return {
        "data": data.name,
        "fingerprint": data.fingerprint(),
        "split_hash": hashlib.blake2b("".join(data.splits.tolist()).encode(), digest_size=8).hexdigest(),
        "data_protocol": data.protocol,
        "date": datetime.date.today().isoformat(),
        "zoo": __version__,
        "commit": commit(),
        **{library: importlib.metadata.version(library) for library in libraries},
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"cpu ({platform.machine()})",
        "threads": str(torch.get_num_threads()),
    }


@dataclass(frozen=True)
class Comparison:
    """Several models on one data set, and everything that is known of how they did.

    Attributes:
        data: the data set.
        results: one an entry, in the order they were given.
        protocol: what was the same for all.
        graph: the label graph that graph heads saw, if there was one.
        targets: (N, L) of the test images for each seed, -1 where nothing is asked.
        provenance: versions, machine and data.
    """

    data: ImageDataset
    results: list[Result]
    protocol: dict[str, Any]
    graph: Data | None
    targets: list[Tensor]
    provenance: dict[str, str]

    @property
    def ranking(self) -> list[Result]:
        """Best test mAP first."""
        return sorted(self.results, key=lambda result: -result.interval()[0])

    @property
    def winner(self) -> Result:
        """The entry with the best validation mAP, controls aside: the test split chooses nothing."""
        return _best([result for result in self.results if result.kind != "control"] or self.results)

    @property
    def baseline(self) -> Result | None:
        """The entry without a graph that is best on validation: what a graph has to beat."""
        baselines = [result for result in self.results if result.kind == "baseline"]
        return _best(baselines) if baselines else None

    def difference(self, result: Result, metric: str = "mAP") -> tuple[float, float] | None:
        """Gain over :attr:`baseline`, paired by seed, with half its 95 % interval; None for the baseline itself."""
        if self.baseline is None or result is self.baseline:
            return None
        pairs = zip(result.values(metric), self.baseline.values(metric), strict=True)
        return mean_interval([own - base for own, base in pairs])

    @cached_property
    def gains(self) -> dict[str, Gain]:
        """Gain of every entry over :attr:`baseline`, over photos (or groups of them) and seeds."""
        others = [result for result in self.results if result is not self.baseline]
        if self.baseline is None or not others:
            return {}
        scores = [result.scores for result in others]
        found = paired_gains(
            scores, self.baseline.scores, self.targets, groups=self.data.split("test").groups
        )
        return {result.name: gain for result, gain in zip(others, found, strict=True)}

    @cached_property
    def by_frequency(self) -> dict[str, dict[str, float]]:
        """mAP of every entry on rare, medium and frequent labels."""
        thirds = frequency_thirds(self.data.split("train").annotations.positives())
        return {result.name: by_frequency(result.scores, self.targets, thirds) for result in self.results}

    def rows(self) -> list[dict[str, Any]]:
        """One flat row an entry: what ``results.csv`` holds."""
        rows = []
        for result in self.ranking:
            first, difference = result.runs[0], self.difference(result)
            row: dict[str, Any] = {"data": self.data.name, "entry": result.name, "kind": result.kind}
            for metric in (key.removeprefix("test_") for key in first if key.startswith("test_")):
                row[metric], row[f"{metric}_half_width"] = (round(v, 6) for v in result.interval(metric))
            row["mAP_seeds"] = [round(value, 6) for value in result.values()]
            row["gain_over_baseline"], row["gain_half_width"] = (
                (round(v, 6) for v in difference) if difference else ("", "")
            )
            gain = self.gains.get(result.name)
            for key in ("low", "high", "p", "holm"):
                row[f"gain_{key}"] = round(getattr(gain, key), 6) if gain else ""
            row |= {f"mAP_{third}": round(v, 6) for third, v in self.by_frequency[result.name].items()}
            gap = train_gap(result.runs)
            row |= {
                "chance": round(chance(self.targets), 6),
                "train_test_gap": "" if gap is None else round(gap, 6),
                "label_similarity": first.get("label_similarity", ""),
                "val_mAP": round(result.val_mAP, 6),
                "seeds": len(result.runs),
                "trials": len(result.trials),
                "chosen_lr": first["lr"],
                "chosen_weight_decay": first["weight_decay"],
                "head_parameters": first["parameters"],
                "seconds_per_run": round(sum(run["seconds"] for run in result.runs) / len(result.runs), 2),
                **{k: v for k, v in self.protocol.items() if k not in ("seeds", "trials")},
                **self.provenance,
                "config_hash": self._config_hash(result),
            }
            rows.append(row)
        return rows

    def _config_hash(self, result: Result) -> str:
        """Names everything that an entry's result follows from, beside the data and the code."""
        config = [result.name, result.runs[0].get("settings"), self.protocol]
        return hashlib.blake2b(json.dumps(config, sort_keys=True).encode(), digest_size=8).hexdigest()

    def table(self) -> rich_table.Table:
        """The result for a terminal; 80 columns hold it where one backbone goes without saying."""
        seeds = len(self.results[0].runs)
        title = f"{self.data.name}: test results, {_mean_of(seeds)}"
        # Text and not strings: rich would read [brackets] as markup.
        table = rich_table.Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
        table.add_column("model", overflow="fold")
        for header in [*SHOWN.values(), "vs best baseline"]:
            # A header may take two lines, a number may not.
            table.add_column("\n".join(header.rsplit(" ", 1)), justify="right", no_wrap=True)
        styles = {"baseline": "", "graph": "bold", "control": "dim"}
        for result, (name, _, *cells) in zip(self.ranking, self._cells(), strict=True):
            table.add_row(*map(Text, [name, *cells]), style=styles[result.kind])
        return table

    def _cells(self) -> list[list[str]]:
        backbones = {result.name.partition("-")[2].partition(":")[0] for result in self.results}
        cells = []
        for result in self.ranking:
            # One backbone for all goes without saying, and without half of the table's width.
            name = (
                result.name.replace(f"-{next(iter(backbones))}", "") if len(backbones) == 1 else result.name
            )
            others = [f"{result.interval(metric)[0]:.3f}" for metric in list(SHOWN)[1:]]
            difference = self.difference(result)
            gain = _with_interval(*difference, sign="+") if difference else "-"
            cells.append([name, result.kind, _with_interval(*result.interval()), *others, gain])
        return cells

    def verdict(self) -> str:
        """One sentence on the question that the comparison asks, whichever way it came out."""
        graphs = [result for result in self.results if result.kind == "graph"]
        if not graphs or self.baseline is None:
            return f"Best on validation: {self.winner.name}."
        best = _best(graphs)
        difference = self.difference(best)
        assert difference is not None  # a graph head is not the baseline
        gain, half = difference
        outcome = "the graph head is better" if gain > 0 else "the graph head is worse"
        basis = "The interval is over seeds, on one split."
        if math.isnan(half):
            outcome, basis = "no difference that one seed can show", "An interval needs two seeds or more."
        elif half >= abs(gain):
            outcome = "no difference that these seeds can show"
        return (
            f"Best graph head on validation: {best.name}. Against the best baseline, {self.baseline.name}: "
            f"{_with_interval(gain, half, sign='+')} test mAP, so {outcome}. {basis}{self._over_photos(best)}"
            f"{self._unfinished()}"
        )

    def _over_photos(self, result: Result) -> str:
        gain = self.gains[result.name]
        return f" Over photos and seeds: {gain.low:+.3f} to {gain.high:+.3f}, Holm's p {gain.holm:.2g}."

    def _unfinished(self) -> str:
        """Which entries the budget cut short: every seed was at its best in the last epoch or the one before."""
        late = self.protocol["epochs"] - 2
        names = [r.name for r in self.results if all(run["best_epoch"] >= late > 0 for run in r.runs)]
        return f" Still improving when the budget ended: {', '.join(names)}." if names else ""

    def write(self, folder: str | Path) -> Path:
        """Writes the report as Markdown and HTML, its numbers as CSV, ``label_graph.json`` and plots."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _write_csv(folder / "results.csv", self.rows())
        _write_csv(folder / "runs.csv", [run for result in self.results for run in result.runs])
        _write_csv(folder / "trials.csv", [trial for result in self.results for trial in result.trials])
        if self.graph is not None:
            save_graph(self.graph, folder / "label_graph.json")
        pictures = self._plots(folder)
        write_document(self.blocks(pictures), folder / "report", f"Comparison on {self.data.name}")
        return folder

    def _plots(self, folder: Path) -> dict[str, Path]:
        bars = [
            {
                "name": result.name,
                "kind": result.kind,
                "values": result.values(),
                "mean": result.interval()[0],
                "half_width": result.interval()[1],
            }
            for result in self.results
        ]
        seeds = len(self.results[0].runs)
        title = f"{self.data.name}: test mAP, {_mean_of(seeds)}"
        pictures = {"Test mAP": plot_comparison(bars, folder / "comparison.png", title=title)}
        counts = self.data.split("train").label_counts()
        if self.graph is not None:
            pictures["Label graph of the training split"] = plot_label_graph(
                self.graph, folder / "label_graph.png", counts=counts.counts
            )
            if self.graph.x is not None and self.graph.num_nodes > 2:
                pictures["Label vectors, t-SNE"] = plot_embeddings(
                    self.graph.x, self.data.label_names, folder / "label_vectors.png"
                )
        shown = {result.name: result for result in (self.winner, self.baseline) if result is not None}
        for result in self.ranking:  # and the best graph heads, up to four in all
            if result.kind == "graph" and len(shown) < 4:
                shown[result.name] = result
        per_label = {
            name: mean_ap_of_labels(result.scores, self.targets).numpy() for name, result in shown.items()
        }
        positives = (torch.from_numpy(self.data.split("test").targets) == 1).sum(0).numpy()
        pictures["AP of each label"] = plot_per_label(
            self.data.label_names, per_label, positives, folder / "per_label_ap.png"
        )
        pictures["What the best model says of test images"] = self._contact_sheet(folder / "predictions.png")
        return pictures

    def _contact_sheet(self, path: Path, images: int = 18) -> Path:
        test, scores, names = self.data.split("test"), self.winner.scores[0], self.data.label_names
        rows = torch.linspace(0, len(test) - 1, min(images, len(test))).round().long().tolist()
        true = [[names[j] for j in np.flatnonzero(test.targets[i] == 1)] for i in rows]
        predicted = []
        for i in rows:
            values, order = scores[i].sort(descending=True)
            keep = int((values >= 0.5).sum())
            best = zip(order[:keep].tolist(), values[:keep].tolist(), strict=True)
            predicted.append([(names[j], value) for j, value in best])
        return plot_contact_sheet([test.images[i] for i in rows], true, predicted, path)

    def blocks(self, pictures: dict[str, Path]) -> list[Block]:
        """The report: results, what their means hide, the protocol and the pictures."""
        blocks: list[Block] = [
            Heading(f"Comparison on {self.data.name}", 1),
            self.verdict(),
            f"Test results, {_mean_of(len(self.results[0].runs))}:",
            Table(["model", "", *SHOWN.values(), "vs best baseline"], self._cells()),
            *self._breakdown(),
            Heading("Protocol"),
            Listing(
                [
                    *(line.strip() for line in self.data.describe().splitlines()),
                    f"for every entry {self.protocol['trials']} trials of (learning rate, L2) over the same ranges, "
                    "chosen by validation mAP; the test split is read by the winner's seeds alone",
                    "label graph, label vectors and controls are made from the training split",
                    *(f"{key}: {value}" for key, value in self.protocol.items()),
                    *(f"{key}: {value}" for key, value in self.provenance.items() if key != "data_protocol"),
                ]
            ),
        ]
        if self.graph is not None:
            counts = self.data.split("train").label_counts()
            pairs = label_pairs(counts, at_least=self.protocol["threshold"])
            blocks += [Heading("Strongest edges"), Listing([str(pair) for pair in pairs[:12]])]
        for caption, path in pictures.items():
            blocks += [Heading(caption), Picture(caption, path)]
        return blocks

    def _breakdown(self) -> list[Block]:
        blocks: list[Block] = []
        names = {result.name: cells[0] for result, cells in zip(self.ranking, self._cells(), strict=True)}
        if self.gains:
            assert self.baseline is not None
            blocks += [
                Heading(f"Against {names[self.baseline.name]}, over photos and seeds"),
                f"Bootstrap of {RESAMPLES:,} draws of the test photos"
                f"{', group by group,' if self.data.groups is not None else ''} and of the seeds; Holm's p is "
                f"corrected for {len(self.gains)} comparisons, and a star says that it is below 0.05.",
                Table(
                    ["model", "gain in mAP", "95 % interval", "p", "Holm's p"],
                    [
                        [
                            shown,
                            f"{gain.mean:+.3f}",
                            f"{gain.low:+.3f} to {gain.high:+.3f}",
                            f"{gain.p:.3f}",
                            f"{gain.holm:.3f}" + " *" * gain.significant,
                        ]
                        for name, shown in names.items()
                        if (gain := self.gains.get(name))
                    ],
                ),
            ]
        gaps = {result.name: train_gap(result.runs) for result in self.results}
        return [
            *blocks,
            Heading("By label frequency, and over-fitting"),
            "Test mAP of the third of the labels with the fewest positives in training, the middle one, and the one "
            "with the most; last, how much higher the mAP of the training photos is.",
            Table(
                ["model", *THIRDS, "training less test"],
                [
                    [
                        shown,
                        *(f"{value:.3f}" for value in self.by_frequency[name].values()),
                        "" if (gap := gaps[name]) is None else f"{gap:+.3f}",
                    ]
                    for name, shown in names.items()
                ],
            ),
        ]


def _best(results: Sequence[Result]) -> Result:
    return max(results, key=lambda result: result.val_mAP)


def _mean_of(seeds: int) -> str:
    return f"mean of {seeds} seeds ± half of the 95 % t-interval over them" if seeds > 1 else "one seed"


def _with_interval(value: float, half_width: float, sign: str = "") -> str:
    """``0.512 ±0.010``; one seed has no interval."""
    return f"{value:{sign}.3f}" + ("" if math.isnan(half_width) else f" ±{half_width:.3f}")


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = dict.fromkeys(key for row in rows for key in row)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)
