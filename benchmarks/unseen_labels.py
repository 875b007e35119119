"""What does a model know of labels that it has no photo of? Trained on some labels, tested on all of them.

    python benchmarks/unseen_labels.py --data photos/coco18          4,000 photos: ten minutes of one core

In each of several random partitions a few labels are held out. Heads are trained on frozen features with the other
labels alone, learning rate and L2 chosen by validation mAP on those; then ``model.add_labels`` adds the held-out
ones, from their vectors and their neighbours. Who these are is counted on the annotations of all training images,
held-out labels included: labels without photos, of which statistics are known. The decoder reads no edges, and to
be trained on a CPU it is small and sees feature maps averaged to a few positions.

Beside the heads stand their controls (neighbours at random, vectors at random), and a linear head whose score of a
held-out label is that of the trained label with the most similar vector. What average precision is by chance is the
label's share of the test images.
"""

from __future__ import annotations

import csv
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command import run_command
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Data

import zoo
from zoo.backbones import Backbone
from zoo.controls import control
from zoo.data import ImageDataset
from zoo.embeddings import label_embeddings
from zoo.entry import BACKBONE, Entry, split_names
from zoo.evaluate import compute_scores
from zoo.features import OnFeatures, features_kind, frozen_features, standardize_features
from zoo.heads import build_head, graph_edges
from zoo.lookup import InputError
from zoo.metrics import mean_average_precision, mean_interval
from zoo.model import MultiLabelClassifier, assemble
from zoo.protocol import Protocol
from zoo.report import provenance
from zoo.train import Recipe, feature_loader, fit_in_memory

RESULTS = Path(__file__).parent / "results" / "unseen_labels.csv"
DECODER = (
    "mldecoder_words:width=128:attention_heads=4:feedforward_width=256"  # small, for a machine without a GPU
)
HEADS = (
    "linear",  # knows nothing of other labels: the nearest one answers
    "mlgcn",
    "mlgcn:graph=shuffled",
    "mlgcn:graph=random_vectors",
    "sgc",
    "sgc:graph=shuffled",
    "sgc:graph=random_vectors",
    DECODER,
    f"{DECODER}:graph=random_vectors",
    "coupled",
    "coupled:graph=shuffled",
)
PROTOCOL = Protocol(trials=4, seeds=1, epochs=10)  # one run a trial: what spreads are the partitions


@dataclass(frozen=True)
class Partition:
    """Which labels are held out, and what every run on them shares.

    Attributes:
        data: the images, with the trained labels first.
        seen: how many these are.
        vectors: (L, E) of all labels.
        seed: of the partition, of controls and of training.
    """

    data: ImageDataset
    seen: int
    vectors: Tensor
    seed: int

    def graph(self, entry: Entry, num_labels: int, protocol: Protocol, normalization: str = "mlgcn") -> Data:
        """The label graph of the first labels, counted on the training images, under the entry's control."""
        train = self.data.split("train")
        graph = zoo.label_graph(
            train.targets[:, :num_labels],
            train.label_names[:num_labels],
            edges=graph_edges(head_name(entry)),
            threshold=protocol.threshold,
            p=protocol.p,
            normalization=normalization,
            embeddings=self.vectors[:num_labels],
        )
        return graph if entry.graph == "real" else control(graph, entry.graph, self.seed)


def head_name(entry: Entry) -> str:
    """``mlgcn`` of ``mlgcn-resnet18``."""
    return entry.model.partition("-")[0]


def partitions(data: ImageDataset, held_out: int, count: int, embeddings: str) -> list[Partition]:
    """Random choices of held-out labels, none twice before all have been held out; those on no test image never are."""
    vectors = label_embeddings(data.label_names, embeddings).vectors
    candidates = np.flatnonzero((data.split("test").targets == 1).any(0))
    if not 0 < held_out < len(candidates):
        raise InputError(f"held_out must lie between 1 and {len(candidates) - 1}, not {held_out}")
    made = []
    for seed in range(count):
        round_, place = divmod(seed, len(candidates) // held_out)
        chosen = np.random.default_rng(round_).permutation(candidates)[place * held_out :][:held_out]
        order = [*np.setdiff1d(np.arange(len(data.label_names)), chosen), *chosen]
        reordered = data.with_labels([data.label_names[i] for i in order])
        made.append(Partition(reordered, len(order) - held_out, vectors[order], seed))
    return made


@dataclass(frozen=True)
class Bench:
    """Frozen features, and the runs on them.

    Attributes:
        backbone: what the features come from.
        features: of all images, by kind.
        protocol: search and training.
    """

    backbone: Backbone
    features: dict[str, Tensor]
    protocol: Protocol

    def run(self, entry: Entry, partition: Partition) -> dict[str, Any]:
        """Trains an entry on the trained labels, adds the others, and tests: a row of the table of runs."""
        seen = partition.seen
        model, trial = self.train(entry, partition)
        if entry.kind != "baseline":
            self.add_held_out(model, entry, partition)
        features = self.features[features_kind(model.head)]
        loader = feature_loader(features, partition.data, "test", Recipe(batch_size=self.protocol.batch_size))
        scores, targets = compute_scores(OnFeatures(model.head), loader)
        if entry.kind == "baseline":
            unit = F.normalize(partition.vectors)
            nearest = (unit[seen:] @ unit[:seen].T).argmax(1)
            scores = torch.cat([scores, scores[:, nearest]], dim=1)
        share = (targets == 1).sum(0) / (targets >= 0).sum(0)
        return {
            "entry": entry.name,
            "kind": "nearest label" if entry.kind == "baseline" else entry.kind,
            "partition": partition.seed,
            "held_out": "|".join(partition.data.label_names[seen:]),
            "seen_mAP": mean_average_precision(scores[:, :seen], targets[:, :seen]),
            "unseen_mAP": mean_average_precision(scores[:, seen:], targets[:, seen:]),
            "unseen_chance": float(share[seen:].mean()),
            **trial,
        }

    def train(self, entry: Entry, partition: Partition) -> tuple[MultiLabelClassifier, dict[str, float]]:
        """The best model of the entry's search, and its learning rate, L2 and validation mAP."""
        seen, whole = partition.seen, partition.data
        data = replace(
            whole,
            label_names=whole.label_names[:seen],
            annotations=whole.annotations.columns(np.arange(seen)),
        )
        rows = torch.from_numpy((data.splits == "train").nonzero()[0])
        targets = torch.from_numpy(data.targets)
        graph = partition.graph(entry, seen, self.protocol)
        models: list[MultiLabelClassifier] = []
        trials: list[dict[str, float]] = []
        for _ in range(self.protocol.trials):
            lr, weight_decay = self.protocol.next_point(trials)
            recipe = Recipe(
                loss=self.protocol.loss,
                epochs=self.protocol.epochs,
                batch_size=self.protocol.batch_size,
                lr=lr,
                weight_decay=weight_decay,
                seed=partition.seed,
            )
            torch.manual_seed(partition.seed)
            model = assemble(self.backbone, head_name(entry), graph, **entry.options)
            features = self.features[features_kind(model.head)]
            standardize_features(model.head, features, targets, rows)
            history = fit_in_memory(
                OnFeatures(model.head),
                feature_loader(features, data, "train", recipe),
                feature_loader(features, data, "val", recipe),
                recipe,
                targets[rows],
            )
            models.append(model)
            val_mAP = max(row["val_mAP"] for row in history)
            trials.append({"lr": lr, "weight_decay": weight_decay, "val_mAP": val_mAP})
        best = max(range(len(trials)), key=lambda i: trials[i]["val_mAP"])
        return models[best], trials[best]

    def add_held_out(self, model: MultiLabelClassifier, entry: Entry, partition: Partition) -> None:
        """Adds the held-out labels, with what they hear in the graph of all labels, and how frequent they are."""
        names, seen = partition.data.label_names, partition.seen
        # Not normalised: adding labels does that, or takes couplings as they are.
        graph = partition.graph(entry, len(names), self.protocol, normalization="none")
        heard = [
            (names[i], names[j], weight)
            for (i, j), weight in zip(graph.edge_index.T.tolist(), graph.edge_weight.tolist(), strict=True)
            if j >= seen and i != j
        ]
        targets = partition.data.split("train").targets[:, seen:]
        share = ((targets == 1).sum(0) + 0.5) / ((targets >= 0).sum(0) + 1)
        model.add_labels(
            names[seen:],
            edges=heard if hasattr(model.head, "edge_index") else None,
            embeddings=graph.x[seen:],
            frequency=dict(zip(names[seen:], share.tolist(), strict=True)),
        )


def load_features(
    backbone: Backbone,
    partition: Partition,
    entries: list[Entry],
    protocol: Protocol,
    positions: int,
    workers: int,
) -> dict[str, Tensor]:
    """Frozen features of the kinds that the entries' heads take; feature maps averaged to so many rows and columns."""
    features: dict[str, Tensor] = {}
    for entry in entries:
        graph = partition.graph(entry, partition.seen, protocol)
        kind = features_kind(build_head(head_name(entry), backbone.num_features, graph, **entry.options))
        if kind not in features:
            found = frozen_features(backbone, partition.data, kind, workers=workers)
            if kind == "map":
                parts = [F.adaptive_avg_pool2d(part.float(), positions) for part in found.split(256)]
                found = torch.cat(parts)
            features[kind] = found
    return features


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row an entry: means over the partitions with half the width of their 95 % t-interval; gains are paired."""
    table = []
    for entry in dict.fromkeys(row["entry"] for row in runs):
        rows = [row for row in runs if row["entry"] == entry]
        values = {
            "seen_mAP": [row["seen_mAP"] for row in rows],
            "unseen_mAP": [row["unseen_mAP"] for row in rows],
            "gain_over_chance": [row["unseen_mAP"] - row["unseen_chance"] for row in rows],
        }
        line: dict[str, Any] = {"entry": entry, "kind": rows[0]["kind"]}
        for name, numbers in values.items():
            line[name], line[f"{name}_half_width"] = (round(x, 4) for x in mean_interval(numbers))
        chance = sum(row["unseen_chance"] for row in rows) / len(rows)
        table.append(line | {"unseen_chance": round(chance, 4), "partitions": len(rows)})
    return table


def unseen_labels(
    data: str,
    heads: str = ",".join(HEADS),
    backbone: str = BACKBONE,
    held_out: int = 4,
    repeats: int = 5,
    embeddings: str = "glove",
    positions: int = 2,
    protocol: Protocol = PROTOCOL,
    results: str = str(RESULTS),
    pretrained: bool | str = True,
    workers: int = 2,
) -> None:
    """Runs every head on every partition.

    Args:
        data: a data set, by name or path.
        heads: heads with their options and controls after colons, separated by commas. A head without a label
            graph stands for its nearest trained label.
        backbone: timm name.
        held_out: how many labels are not trained.
        repeats: random partitions.
        embeddings: label vectors, as for ``zoo.label_graph``.
        positions: rows and columns that feature maps are averaged to, for heads that take them.
        protocol: search and training, the same for all.
        results: where the table of means goes; the table of runs goes beside it.
        pretrained: the backbone's weights: true (timm's), false, or a file.
        workers: processes that read images.
    """
    dataset = zoo.open_dataset(data)
    entries = []
    for head in split_names(heads):
        name, colon, options = head.partition(":")
        entries.append(Entry.parse(f"{name}-{backbone}{colon}{options}"))
    network = Backbone(backbone, pretrained=pretrained).eval()
    drawn = partitions(dataset, held_out, repeats, embeddings)
    features = load_features(network, drawn[0], entries, protocol, positions, workers)
    bench = Bench(network, features, protocol)
    pairs = [(entry, partition) for partition in drawn for entry in entries]
    runs = [bench.run(*pair) for pair in track(pairs, dataset.name, transient=True)]

    more = {
        "trials": protocol.trials,
        "epochs": protocol.epochs,
        "positions": positions,
        **provenance(dataset),
    }
    lines = summary(runs)
    file = Path(results)
    file.parent.mkdir(parents=True, exist_ok=True)
    for path, rows in ((file, lines), (file.with_stem(f"{file.stem}_runs"), runs)):
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, [*rows[0], *more], lineterminator="\n")
            writer.writeheader()
            writer.writerows(row | more for row in rows)
    console = Console()
    console.print(_table(lines, network.name))
    console.print(
        f"{dataset.name}: {drawn[0].seen} labels trained, {held_out} held out, {repeats} random partitions (mean ± "
        f"half of the 95 % interval over them), {protocol.trials} trials an entry and partition.\nNeighbours and "
        "couplings are counted on the annotations of all training images, held-out labels included: labels without "
        "photos.\n"
        f"Tables: {file}, {file.with_stem(f'{file.stem}_runs')}"
    )


def _table(lines: list[dict[str, Any]], backbone: str) -> Table:
    table = Table(title=f"Labels never seen, {backbone}")
    for column in ("entry", "seen mAP", "unseen mAP", "over chance"):
        table.add_column(column, overflow="fold", no_wrap=column != "entry")
    for line in lines:
        intervals = (
            f"{line[name]:.3f} ± {line[f'{name}_half_width']:.3f}"
            for name in ("seen_mAP", "unseen_mAP", "gain_over_chance")
        )
        name = line["entry"].replace(f"-{backbone}", "")
        table.add_row(f"{name}, nearest label" if line["kind"] == "nearest label" else name, *intervals)
    return table


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning)
    run_command(unseen_labels)
