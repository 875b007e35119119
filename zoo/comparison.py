"""The main job: several models on one data set, under one protocol, with the controls that keep it honest.

The protocol. The label graph is counted from the training split alone. For each entry the learning rate and the
L2 strength are searched on the validation split, over the same ranges and with the same number of trials.
The winner is then trained with several seeds, and only these runs ever see the test split. Results are means
with 95 % t-intervals over the seeds, and differences to the best baseline are paired by seed.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.utils.data import DataLoader
from torch_geometric.data import Data

from zoo._version import __version__
from zoo.backbones import Backbone
from zoo.controls import control
from zoo.convs import conv_spec
from zoo.data import SPLITS, ImageDataset, open_dataset
from zoo.entry import Entry, default_entries, entry_graph, parse_entries, with_controls
from zoo.evaluate import compute_scores
from zoo.features import OnFeatures, features_kind, frozen_features, standardize_features
from zoo.graph import unlinked_labels
from zoo.heads import HEADS, graph_edges, head_options
from zoo.heads.graph_head import GraphHead
from zoo.lookup import InputError
from zoo.losses import LOSSES, parse_loss
from zoo.metrics import mean_average_precision, multilabel_metrics
from zoo.model import MultiLabelClassifier, assemble, split_name
from zoo.over_smoothing import label_similarities
from zoo.protocol import Protocol
from zoo.regimes import draw
from zoo.report import Comparison, Result, provenance
from zoo.run_store import RunStore
from zoo.train import Recipe, feature_loader, fit_in_memory, image_loader, tensor_loader


def compare(
    data: str | Path | ImageDataset = "openmoji",
    models: str | Sequence[str] | None = None,
    *,
    controls: bool = True,
    protocol: Protocol | None = None,
    pretrained: bool | str | Path = True,
    output: str | Path = "runs/compare",
    workers: int = 2,
) -> Comparison:
    """Compares models on one data set and writes a report. A second call goes on where the first one stopped.

    Args:
        data: a data set by name, a label file or folder, or a data set object.
        models: entries such as ``mlgcn-resnet18`` or ``mlgcn-resnet18:conv=GATConv``, as a list or separated
            by commas; by default :func:`zoo.entry.default_entries`.
        controls: whether baselines and controls are added to models that use a label graph.
        protocol: search, seeds and training, the same for all.
        pretrained: the backbones' weights, as :func:`zoo.build` takes them.
        output: the report's folder, which also keeps every finished run.
        workers: processes that read images.

    Raises:
        InputError: an unknown name, data that cannot be read, a split without images or without positives.
    """
    protocol = protocol or Protocol()
    dataset = data if isinstance(data, ImageDataset) else open_dataset(data)
    given = default_entries(controls=False) if models is None else parse_entries(models)
    if not given:
        raise InputError("no model to compare; without models, the default ones are compared")
    entries = with_controls(given) if controls else given
    for split in SPLITS:  # raises now, not after an hour
        if not dataset.split(split).annotations.positives().any():
            raise InputError(f"{dataset.name}: no image of split {split!r} is positive for any label")
    bench = _Bench(dataset, protocol, pretrained, workers)
    bench.prepare(entries)
    store = RunStore(Path(output) / "runs")
    results = []
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=len(entries) * (protocol.trials + protocol.seeds))
        for entry in entries:
            trials: list[dict[str, Any]] = []
            for i in range(protocol.trials):
                progress.update(task, description=f"{entry.name}: search {i + 1}/{protocol.trials}")
                lr, weight_decay = protocol.next_point(trials)
                trials.append(bench.run(entry, store, lr=lr, weight_decay=weight_decay, seed=0, test=False))
                progress.advance(task)
            best = max(trials, key=lambda row: row["val_mAP"])
            runs = []
            for seed in range(protocol.seeds):
                progress.update(task, description=f"{entry.name}: seed {seed + 1}/{protocol.seeds}")
                run = bench.run(
                    entry, store, lr=best["lr"], weight_decay=best["weight_decay"], seed=seed, test=True
                )
                runs.append(run)
                progress.advance(task)
            scores = [store.scores(run) for run in runs]
            results.append(Result(entry.name, entry.kind, trials, runs, scores))
    test = dataset.split("test")
    comparison = Comparison(
        data=dataset,
        results=results,
        protocol=asdict(protocol),
        # The protocol's own, whatever an entry made of it.
        graph=bench.graph(Entry("mlgcn-")) if any(entry.kind != "baseline" for entry in entries) else None,
        targets=torch.from_numpy(test.with_purpose("ap").targets),
        provenance=provenance(dataset),
    )
    comparison.write(output)
    winner = comparison.winner
    entry = next(entry for entry in entries if entry.name == winner.name)
    model = bench.model(entry, seed=0)
    weights = safetensors.torch.load_file(store.weights(winner.runs[0]))
    (model.head if protocol.freeze_backbone else model).load_state_dict(weights)
    model.notes = {"data": dataset.name, "data_protocol": dataset.protocol, "run": winner.runs[0]}
    model.save(Path(output) / "best_model")
    return comparison


class _Bench:
    """What the runs of one comparison share: data, backbones, frozen features, the label graph."""

    def __init__(
        self, data: ImageDataset, protocol: Protocol, pretrained: bool | str | Path, workers: int
    ) -> None:
        self.data, self.protocol, self.pretrained, self.workers = data, protocol, pretrained, workers
        self._weights = str(pretrained) if isinstance(pretrained, bool) else _digest(Path(pretrained))
        self._backbones: dict[str, Backbone] = {}
        self._features: dict[tuple[str, str], torch.Tensor] = {}
        self._graphs: dict[str, Data] = {}
        self._drawn: dict[int, tuple[torch.Tensor, ImageDataset]] = {}

    def prepare(self, entries: Sequence[Entry]) -> None:
        """Everything that is slow, or can fail, before the first run."""
        for entry in entries:
            model = self.model(entry, seed=0)
            if self.protocol.freeze_backbone:
                kind = features_kind(model.head)
                if (model.backbone.name, kind) not in self._features:
                    features = frozen_features(model.backbone, self.data, kind, workers=self.workers)
                    self._features[model.backbone.name, kind] = features

    def drawn(self, seed: int) -> tuple[torch.Tensor, ImageDataset]:
        """What the regime leaves to train on: indices into the whole data set, and these images."""
        if self.protocol.regime == "all":
            seed = 0
        if seed not in self._drawn:
            rows, left = draw(self.protocol.regime, self.data.split("train"), seed)
            of_all = np.flatnonzero(self.data.splits == "train")[rows]
            self._drawn[seed] = torch.from_numpy(of_all), left
        return self._drawn[seed]

    def graph(self, entry: Entry, seed: int = 0) -> Data:
        """The label graph of an entry, before any control, from the annotations of training images."""
        protocol = self.protocol
        whole = entry.graph_options.get("annotations") == "all" or protocol.regime == "all"
        data = self.data.split("train") if whole else self.drawn(seed)[1]
        edges = graph_edges(entry.model.partition("-")[0])
        key = json.dumps([edges, entry.graph_options, None if whole else seed])
        if key not in self._graphs:
            defaults = {
                "threshold": protocol.threshold,
                "p": protocol.p,
                "embeddings": protocol.embeddings,
                "unknown_words": protocol.unknown_words,
            }
            self._graphs[key] = entry_graph(entry, data, defaults)
        return self._graphs[key]

    def model(self, entry: Entry, seed: int) -> MultiLabelClassifier:
        head, backbone_name = split_name(entry.model)
        graph = unlinked_labels(self.data.label_names)
        if entry.kind != "baseline":
            graph = self.graph(entry, seed)
        if entry.graph != "real":
            graph = control(graph, entry.graph, seed)
        frozen = self.protocol.freeze_backbone
        if backbone_name not in self._backbones or not frozen:
            torch.manual_seed(0 if frozen else seed)  # what is not pretrained is random
            self._backbones[backbone_name] = Backbone(backbone_name, pretrained=self.pretrained)
        torch.manual_seed(seed)
        model = assemble(self._backbones[backbone_name], head, graph, **entry.options)
        key = (model.backbone.name, features_kind(model.head))
        if frozen and key in self._features:
            rows, left = self.drawn(seed)
            targets = torch.full(self.data.annotations.shape, -1, dtype=torch.int8)
            targets[rows] = torch.from_numpy(left.targets)
            standardize_features(model.head, self._features[key], targets, rows)
        return model

    def run(
        self, entry: Entry, store: RunStore, *, lr: float, weight_decay: float, seed: int, test: bool
    ) -> dict[str, Any]:
        """One training, or its row from the store if it was finished before."""
        protocol = self.protocol
        identity = {
            "entry": entry.name,
            "settings": entry.settings,
            "lr": lr,
            "weight_decay": weight_decay,
            "seed": seed,
            "test": test,
            "data": self.data.fingerprint(),
            "pretrained": self._weights,
            "zoo": __version__,
            "user_code": [*_user_code(entry, protocol.loss), *_graph_file(entry)],
            **{key: value for key, value in asdict(protocol).items() if key not in _SEARCH},
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        if (row := store.get(key)) is not None:
            return row
        rows, left = self.drawn(seed)
        all_rows = int((self.data.splits == "train").sum())
        recipe = Recipe(
            loss=protocol.loss,
            epochs=protocol.epochs,
            # As many steps as with all photos.
            batch_size=max(round(protocol.batch_size * len(rows) / all_rows), 2),
            lr=lr,
            weight_decay=weight_decay,
            seed=seed,
        )
        started = time.perf_counter()
        model = self.model(entry, seed)
        module = OnFeatures(model.head) if protocol.freeze_backbone else model
        history = fit_in_memory(
            module,
            self._loader(model, "train", recipe),
            self._loader(model, "val", recipe),
            recipe,
            torch.from_numpy(left.targets),
        )
        best = max(history, key=lambda row: row["val_mAP"])
        row = {
            "run": key,
            **identity,
            "val_mAP": best["val_mAP"],
            "best_epoch": best["epoch"],
            "parameters": sum(p.numel() for p in model.head.parameters()),
        }
        scores = None
        if test:
            scores, targets = compute_scores(module, self._loader(model, "test", recipe))
            scores = scores.nan_to_num(0.0)  # a run that diverged says nothing; its seed counts all the same
            f1_targets = self.data.split("test").f1_targets()
            metrics = multilabel_metrics(
                scores, targets, f1_targets=None if f1_targets is None else torch.from_numpy(f1_targets)
            )
            row |= {f"test_{name}": value for name, value in metrics.items()}
            if protocol.freeze_backbone:  # else it would cost an epoch
                row["train_mAP"] = self._train_map(module, model, rows, left)
            if isinstance(model.head, GraphHead):
                row["label_similarity"] = label_similarities(model.head)
        row["seconds"] = round(time.perf_counter() - started, 2)
        part = model.head if protocol.freeze_backbone else model
        weights = part.state_dict() if test and seed == 0 else None
        store.put(row, scores, weights)
        return row

    def _train_map(
        self, module: torch.nn.Module, model: MultiLabelClassifier, rows: torch.Tensor, left: ImageDataset
    ) -> float:
        """mAP of the images that it was trained on: the gap to the test split is what over-fitting means."""
        features = self._features[model.backbone.name, features_kind(model.head)][rows]
        targets = torch.from_numpy(left.with_purpose("ap").targets)
        scores, targets = compute_scores(module, tensor_loader(features, targets, Recipe()))
        return mean_average_precision(scores.nan_to_num(0.0), targets)

    def _loader(self, model: MultiLabelClassifier, split: str, recipe: Recipe) -> DataLoader:
        rows, left = self.drawn(recipe.seed)
        if not self.protocol.freeze_backbone:
            return image_loader(
                model, left if split == "train" else self.data, split, recipe, workers=self.workers
            )
        features = self._features[model.backbone.name, features_kind(model.head)]
        if split == "train":
            return tensor_loader(features[rows], torch.from_numpy(left.targets), recipe, shuffle=True)
        return feature_loader(features, self.data, split, recipe)


def _graph_file(entry: Entry) -> list[str]:
    return [_digest(Path(entry.graph_options["file"]))] if "file" in entry.graph_options else []


def _digest(file: Path) -> str:
    if not file.is_file():
        raise InputError(f"pretrained={str(file)!r}: no such file of weights")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _user_code(entry: Entry, loss: str) -> list[str]:
    """Digests of the files that define an entry's head, its convolution and the loss, where they are the user's own.

    Their author changes them and compares again: that must not give the old results.
    """
    head = entry.model.partition("-")[0]
    makers: list[Callable[..., Any]] = [HEADS[head]]
    if conv := (head_options(head) | entry.options).get("conv"):
        makers.append(conv_spec(conv).make)
    makers.append(LOSSES[parse_loss(loss)[0]])
    modules = [sys.modules.get(getattr(maker, "func", maker).__module__) for maker in makers]
    files = [getattr(m, "__file__", None) for m in modules if m and not m.__name__.startswith("zoo.")]
    return [_digest(Path(file)) for file in files if file]


_SEARCH = ("trials", "seeds", "lr", "weight_decay")  # how many runs and which, but not what a run does
