"""Where does a label graph help? Few photos, few positives, labels never seen, labels known: ``coupled`` and rivals.

    python benchmarks/few_labels.py --data photos/a,photos/b        [--seeds 5] [--trials 6]

Each regime takes something away from the training split; validation and test split stay whole. A seed draws the
photos, the labels that are made rare, and which labels are known at test time. Learning rate and L2 of each entry
are searched on the validation split of a draw of its own. ``given`` graphs are counted from all training
annotations, ``own`` ones from what the regime leaves. mAP is over the labels that the regime concerns, with half of
the labels known over those that are hidden. Heads that cannot take known labels are scored without them.
"""

from __future__ import annotations

import csv
import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli
from rich.progress import track
from torch import Tensor

import zoo
from zoo.backbones import Backbone
from zoo.controls import control
from zoo.data import ImageDataset
from zoo.entry import BACKBONE
from zoo.features import OnFeatures, frozen_features, standardize_features
from zoo.graph import label_graph
from zoo.heads import Head, build_head, overrides
from zoo.lookup import InputError
from zoo.metrics import average_precision, mean_interval
from zoo.protocol import Protocol
from zoo.report import provenance
from zoo.run_store import RunStore
from zoo.train import Recipe, fit_in_memory, tensor_loader

RESULTS = Path(__file__).parent / "results" / "few_labels.csv"
REGIMES = ("ample", "100 photos", "5 positives", "2 positives", "unseen")
STEPS = 7  # an epoch, whatever the number of photos, so that all regimes train as long
COMMON = 20  # positives in training that a label must have to be made rare

# Entry -> head, whose annotations its graph counts, and the control applied to that graph.
ENTRIES: dict[str, tuple[str, str, str | None]] = {
    "linear": ("linear", "given", None),
    "mlp": ("mlp", "given", None),
    "coupled, given graph": ("coupled", "given", None),
    "coupled, own graph": ("coupled", "own", None),
    "coupled, shuffled": ("coupled", "given", "shuffled"),
    "coupled, identity": ("coupled", "given", "identity"),
}


@dataclass(frozen=True)
class Draw:
    """What a regime leaves: training images, their targets, and the labels that count.

    Attributes:
        rows: indices of the training images.
        targets: (N, L) of all images, some of the training images' made unknown.
        concerned: indices of the labels whose mAP is reported.
    """

    rows: Tensor
    targets: Tensor
    concerned: np.ndarray


def draw(regime: str, data: ImageDataset, seed: int) -> Draw:
    """Takes away what the regime says."""
    generator = np.random.default_rng(seed)
    rows, targets = np.flatnonzero(data.splits == "train"), data.targets.copy()
    concerned = np.arange(targets.shape[1])
    if regime == "100 photos":
        rows = generator.permutation(rows)[:100]
    elif regime != "ample":
        positives = 0 if regime == "unseen" else int(regime.split()[0])
        common = np.flatnonzero((targets[rows] == 1).sum(0) >= COMMON)
        concerned = generator.permutation(common)[: len(common) // 2]
        for label in concerned:
            having = rows[targets[rows, label] == 1]
            targets[rows if not positives else generator.permutation(having)[positives:], label] = -1
    return Draw(torch.from_numpy(rows), torch.from_numpy(targets), concerned)


class Bench:
    """One data set: its frozen features, and the runs on them."""

    def __init__(self, data: ImageDataset, store: RunStore, workers: int) -> None:
        self.data, self.store = data, store
        self.backbone = Backbone(BACKBONE, pretrained=True).eval()
        self.features = frozen_features(self.backbone, data, "avg", workers=workers)
        self.split = {name: torch.from_numpy(np.flatnonzero(data.splits == name)) for name in ("val", "test")}
        self.targets = torch.from_numpy(data.targets)

    def head(self, entry: str, drawn: Draw, seed: int) -> Head:
        name, counted, taken_away = ENTRIES[entry]
        left = drawn.targets[drawn.rows].numpy()
        annotations = self.data.split("train").targets if counted == "given" else left
        graph = label_graph(annotations, self.data.label_names, edges="couplings", embeddings="onehot")
        if taken_away:
            graph = control(graph, taken_away, seed)
        torch.manual_seed(seed)
        head = build_head(name, self.backbone.num_features, graph)
        standardize_features(head, self.features, drawn.targets, drawn.rows)
        return head

    def run(self, regime: str, entry: str, *, seed: int, lr: float, weight_decay: float) -> dict[str, Any]:
        """Trains once, and tests with nothing known and with half of the labels known; finished runs are kept."""
        identity = {
            "data": self.data.fingerprint(),
            "regime": regime,
            "entry": entry,
            "seed": seed,
            "lr": lr,
            "weight_decay": weight_decay,
            "zoo": zoo.__version__,
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        if (row := self.store.get(key)) is not None:
            return row
        drawn = draw(regime, self.data, seed)
        head = self.head(entry, drawn, seed)
        recipe = Recipe(batch_size=-(-len(drawn.rows) // STEPS), lr=lr, weight_decay=weight_decay, seed=seed)
        own = drawn.targets[drawn.rows]
        history = fit_in_memory(
            OnFeatures(head),
            tensor_loader(self.features[drawn.rows], own, recipe, shuffle=True),
            tensor_loader(self.features[self.split["val"]], self.targets[self.split["val"]], recipe),
            recipe,
            own,
        )
        row = {
            "run": key,
            **identity,
            "val_mAP": max(epoch["val_mAP"] for epoch in history),
            "strength": float(getattr(head, "strength", 0.0)),
            **dict(self.test(head, drawn.concerned, seed)),
        }
        self.store.put(row, None, None)
        return row

    @torch.inference_mode()
    def test(self, head: Head, concerned: np.ndarray, seed: int) -> Iterator[tuple[str, float]]:
        features, targets = self.features[self.split["test"]], self.targets[self.split["test"]]
        hidden = torch.rand(targets.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
        facts = torch.where(hidden, -1, targets)
        head.eval()
        takes_facts = overrides(type(head), "refine")
        for name, known, asked in (
            ("none", None, targets),
            ("half", facts if takes_facts else None, torch.where(hidden, targets, -1)),
        ):
            scores = head.from_pooled(features, known).sigmoid()
            yield name, float(average_precision(scores, asked)[concerned].nanmean())
            present = (asked == 1).sum(0) / (asked >= 0).sum(0)
            yield f"{name}_chance", float(present[concerned].mean())


Runs = dict[tuple[str, str], list[dict[str, Any]]]  # (regime, entry) -> a row for each seed


def summarised(runs: Runs, trials: int, made: dict[str, str]) -> Iterator[dict[str, Any]]:
    """A row for each regime and entry, with nothing known and with half of the labels known."""
    for (regime, entry), rows in runs.items():
        for known in ("none", "half"):
            mean, half = mean_interval([row[known] for row in rows])
            # Paired: the draws are the same for all entries.
            pairs = zip(rows, runs[regime, "linear"], strict=True)
            gain, gain_half = mean_interval([row[known] - linear[known] for row, linear in pairs])
            yield {
                "regime": regime,
                "known": known,
                "entry": entry,
                "mAP": round(mean, 4),
                "mAP_half_width": round(half, 4),
                "gain_over_linear": round(gain, 4),
                "gain_half_width": round(gain_half, 4),
                "chance": round(float(np.mean([row[f"{known}_chance"] for row in rows])), 4),
                "strength": round(float(np.mean([row["strength"] for row in rows])), 3),
                "lr": rows[0]["lr"],
                "weight_decay": rows[0]["weight_decay"],
                "seeds": len(rows),
                "trials": trials,
                **made,
            }


def few_labels(
    data: str,
    regimes: list[str] = list(REGIMES),  # noqa: B006 (never changed, and jsonargparse reads the default)
    seeds: int = 5,
    trials: int = 6,
    output: str = "runs/few_labels",
    results: str = str(RESULTS),
    workers: int = 2,
) -> None:
    """Runs every entry in every regime.

    Args:
        data: data sets, by name or path, separated by commas.
        regimes: which of ample, 100 photos, 5 positives, 2 positives, unseen.
        seeds: draws a regime, the same for all entries.
        trials: points of each entry's search in each regime.
        output: where finished runs are kept; a second call goes on from there.
        results: where the table is written.
        workers: processes that read images.
    """
    protocol = Protocol(trials=trials, seeds=seeds)
    table: list[dict[str, Any]] = []
    for source in data.split(","):
        dataset = zoo.open_dataset(source)
        bench = Bench(dataset, RunStore(Path(output) / dataset.name), workers)
        jobs = [(regime, entry) for regime in regimes for entry in ENTRIES]
        runs: Runs = {}
        for regime, entry in track(jobs, description=dataset.name, transient=True):
            tried: list[dict[str, Any]] = []
            for _ in range(trials):
                lr, decay = protocol.next_point(tried)
                # A draw that is none of those reported.
                tried.append(bench.run(regime, entry, seed=1000, lr=lr, weight_decay=decay))
            best = max(tried, key=lambda row: row["val_mAP"])
            point = {"lr": best["lr"], "weight_decay": best["weight_decay"]}
            runs[regime, entry] = [bench.run(regime, entry, seed=seed, **point) for seed in range(seeds)]
        table += summarised(runs, trials, provenance(dataset))
    for row in table:
        print("{data:10} {regime:12} known {known:4} {entry:22}".format(**row), end="")
        print("{mAP:.3f}  {gain_over_linear:+.3f} ± {gain_half_width:.3f}".format(**row))
    Path(results).parent.mkdir(parents=True, exist_ok=True)
    with open(results, "w", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)
    print(f"Table: {results}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        auto_cli(few_labels, as_positional=False)
    except InputError as error:
        raise SystemExit(f"few_labels: {error}") from None
