"""What the runs of one comparison share, and how one of them runs: the same wherever it does."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch_geometric.data import Data

from zoo.backbones import Backbone
from zoo.controls import control
from zoo.data import ImageDataset
from zoo.entry import Entry, entry_graph
from zoo.evaluate import compute_scores
from zoo.features import OnFeatures, features_kind, frozen_features, standardize_features
from zoo.graph import unlinked_labels
from zoo.heads import graph_edges, overrides
from zoo.heads.graph_head import GraphHead
from zoo.metrics import mean_average_precision, multilabel_metrics
from zoo.model import MultiLabelClassifier, assemble, split_name
from zoo.over_smoothing import label_similarities
from zoo.protocol import Protocol
from zoo.regimes import Drawn, draw
from zoo.run_identity import RunRequest, file_digest, run_identity
from zoo.train import Recipe, feature_loader, fit_in_memory, image_loader, tensor_loader


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    Attributes:
        measured: metrics, the best epoch, parameters and seconds: a row, together with the run's identity.
        scores: (N, L) of the test images, if the run was tested.
        weights: of what was trained, for the first seed.
    """

    measured: dict[str, Any]
    scores: torch.Tensor | None
    weights: dict[str, torch.Tensor] | None


@dataclass(frozen=True)
class Question:
    """What a test asks of N images.

    Attributes:
        targets: (N, L) of {1, 0, -1}, for AP: -1 is not asked, or not known.
        f1_targets: those for precision, recall and F1, where they are others.
        facts: (N, L) what may be known beforehand, 1, 0 or -1 for nothing; None where nothing is.
    """

    targets: torch.Tensor
    f1_targets: torch.Tensor | None
    facts: torch.Tensor | None


class Bench:
    """What the runs of one comparison share: data, backbones, frozen features, the label graph.

    Args:
        data: the images.
        protocol: what is the same for all runs.
        pretrained: the backbones' weights.
        workers: processes that read images.
    """

    def __init__(
        self, data: ImageDataset, protocol: Protocol, pretrained: bool | str | Path, workers: int
    ) -> None:
        self.data, self.protocol, self.pretrained, self.workers = data, protocol, pretrained, workers
        self._weights = str(pretrained) if isinstance(pretrained, bool) else file_digest(Path(pretrained))
        self._backbones: dict[str, Backbone] = {}
        self._features: dict[tuple[str, str], torch.Tensor] = {}
        self._graphs: dict[str, Data] = {}
        self._drawn: dict[int, Drawn] = {}
        self._questions: dict[tuple[int, str], Question] = {}

    def prepare(self, entries: Sequence[Entry]) -> None:
        """Everything that is slow, or can fail, before the first run."""
        for entry in entries:
            model = self.model(entry, seed=0)
            if self.protocol.freeze_backbone:
                kind = features_kind(model.head)
                if (model.backbone.name, kind) not in self._features:
                    features = frozen_features(model.backbone, self.data, kind, workers=self.workers)
                    self._features[model.backbone.name, kind] = features

    def drawn(self, seed: int) -> Drawn:
        """What the regime leaves to train on, with its rows as indices into the whole data set."""
        if self.protocol.regime == "all":
            seed = 0
        if seed not in self._drawn:
            drawn = draw(self.protocol.regime, self.data.split("train"), seed)
            of_all = np.flatnonzero(self.data.splits == "train")[drawn.rows]
            self._drawn[seed] = replace(drawn, rows=of_all)
        return self._drawn[seed]

    def question(self, seed: int, split: str = "test") -> Question:
        """What is asked of the images of a split, but for what is known: the labels that the regime is about.

        For validation these are all labels, since of those that it is about there may be none to choose a model by.
        """
        if (seed, split) not in self._questions:
            data = self.data.split(split).with_purpose("ap")
            targets, f1_targets = torch.from_numpy(data.targets), data.f1_targets()
            asked = torch.zeros(targets.shape, dtype=torch.bool)
            asked[:, self.drawn(seed).labels if split == "test" else slice(None)] = True
            facts = None
            if self.protocol.known:
                generator = torch.Generator().manual_seed(seed)
                known = torch.rand(asked.shape, generator=generator) < self.protocol.known
                facts, asked = targets.where(known, -1), asked & ~known
            of_f1 = None if f1_targets is None else torch.from_numpy(f1_targets).where(asked, -1)
            self._questions[seed, split] = Question(targets.where(asked, -1), of_f1, facts)
        return self._questions[seed, split]

    def graph(self, entry: Entry, seed: int = 0) -> Data:
        """The label graph of an entry, before any control, from the annotations of training images."""
        protocol = self.protocol
        whole = entry.graph_options.get("annotations") == "all" or protocol.regime == "all"
        data = self.data.split("train") if whole else self.drawn(seed).data
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
            drawn = self.drawn(seed)
            rows = torch.from_numpy(drawn.rows)
            targets = torch.full(self.data.annotations.shape, -1, dtype=torch.int8)
            targets[rows] = torch.from_numpy(drawn.data.targets)
            standardize_features(model.head, self._features[key], targets, rows)
        return model

    @cached_property
    def _fingerprint(self) -> str:
        return self.data.fingerprint()

    def identity(self, request: RunRequest) -> dict[str, Any]:
        """What :func:`zoo.run_identity.run_identity` says of a run here."""
        return run_identity(request, self.protocol, self._fingerprint, self._weights)

    def run(self, request: RunRequest) -> Outcome:
        """One training, and the test of it if that is asked for. :meth:`prepare` comes first."""
        protocol, seed = self.protocol, request.seed
        drawn = self.drawn(seed)
        all_rows = int((self.data.splits == "train").sum())
        recipe = Recipe(
            loss=protocol.loss,
            epochs=protocol.epochs,
            # As many steps as with all photos.
            batch_size=max(round(protocol.batch_size * len(drawn.rows) / all_rows), 2),
            lr=request.lr,
            weight_decay=request.weight_decay,
            seed=seed,
        )
        started = time.perf_counter()
        model = self.model(request.entry, seed)
        module = OnFeatures(model.head) if protocol.freeze_backbone else model
        history = fit_in_memory(
            module,
            self._loader(model, "train", recipe),
            self._loader(model, "val", recipe),
            recipe,
            torch.from_numpy(drawn.data.targets),
        )
        best = max(history, key=lambda row: row["val_mAP"])
        measured: dict[str, Any] = {
            "val_mAP": best["val_mAP"],
            "best_epoch": best["epoch"],
            "parameters": sum(p.numel() for p in model.head.parameters()),
        }
        scores = None
        if request.test:
            scores, metrics = self._answer(module, model, "test", recipe)
            if protocol.known:  # it is known when a model is chosen, too
                measured["val_mAP"] = self._answer(module, model, "val", recipe)[1]["mAP"]
            measured |= {f"test_{name}": value for name, value in metrics.items()}
            if protocol.freeze_backbone:  # else it would cost an epoch
                measured["train_mAP"] = self._train_map(module, model, drawn)
            if isinstance(model.head, GraphHead):
                measured["label_similarity"] = label_similarities(model.head)
        measured["seconds"] = round(time.perf_counter() - started, 2)
        part = model.head if protocol.freeze_backbone else model
        weights = part.state_dict() if request.test and seed == 0 else None
        return Outcome(measured, scores, weights)

    def _answer(
        self, module: torch.nn.Module, model: MultiLabelClassifier, split: str, recipe: Recipe
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Scores (N, L) of a split's images and what they are worth, for the :meth:`question` of the recipe's seed."""
        question = self.question(recipe.seed, split)
        facts = question.facts if overrides(type(model.head), "refine") else None
        scores, _ = compute_scores(module, self._loader(model, split, recipe), known=facts)
        scores = scores.nan_to_num(0.0)  # a run that diverged says nothing; its seed counts all the same
        return scores, multilabel_metrics(scores, question.targets, f1_targets=question.f1_targets)

    def _train_map(self, module: torch.nn.Module, model: MultiLabelClassifier, drawn: Drawn) -> float:
        """mAP of what it was trained on and is tested for: the gap to the test split is what over-fitting means."""
        features = self._features[model.backbone.name, features_kind(model.head)][drawn.rows]
        targets = torch.from_numpy(drawn.data.with_purpose("ap").targets)
        scores, targets = compute_scores(module, tensor_loader(features, targets, Recipe()))
        return mean_average_precision(scores.nan_to_num(0.0)[:, drawn.labels], targets[:, drawn.labels])

    def _loader(self, model: MultiLabelClassifier, split: str, recipe: Recipe) -> DataLoader:
        drawn = self.drawn(recipe.seed)
        if not self.protocol.freeze_backbone:
            return image_loader(
                model, drawn.data if split == "train" else self.data, split, recipe, workers=self.workers
            )
        features = self._features[model.backbone.name, features_kind(model.head)]
        if split == "train":
            targets = torch.from_numpy(drawn.data.targets)
            return tensor_loader(features[drawn.rows], targets, recipe, shuffle=True)
        return feature_loader(features, self.data, split, recipe)
