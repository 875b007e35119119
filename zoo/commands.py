"""The commands of ``zoo``, one function each: their signatures are the options, their docstrings the help.

Each imports what it needs when it runs, so that asking for help costs nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.lookup import InputError, lookup

if TYPE_CHECKING:
    from rich.table import Table


def compare(
    data: str = "openmoji",
    models: str | list[str] | None = None,
    controls: bool = True,
    pretrained: bool | str = True,
    output: str | None = None,
    workers: int = 2,
    **protocol: Any,
) -> None:
    """Compare models on one data set: table, report, plots. A second call goes on where the first stopped.

    Args:
        data: a data set by name (openmoji), a CSV file, or a folder with labels.csv.
        models: names such as mlgcn-resnet18,linear-resnet18:pooling=max; options follow a colon.
        controls: add baselines and controls to models that use a label graph.
        pretrained: the backbones' weights: true (timm's), false, or a file.
        output: folder of the report; runs/compare/<data> unless given.
        workers: processes that read images.
    """
    from zoo.comparison import Protocol
    from zoo.comparison import compare as run
    from zoo.data import open_dataset

    dataset = open_dataset(data)
    folder = Path(output or f"runs/compare/{dataset.name}")
    print(dataset.describe())
    result = run(
        dataset,
        models,
        controls=controls,
        protocol=Protocol(**protocol),
        pretrained=pretrained,
        output=folder,
        workers=workers,
    )
    _show(result.table())
    print(f"\n{result.verdict()}\nReport: {folder / 'report.md'}   Model: {folder / 'best_model'}")


def list_(kind: str = "all", pattern: str = "*") -> None:
    """List heads, convolutions, label spaces, data sets, backbones or models by name.

    Args:
        kind: all, heads, convs, label_spaces, datasets, losses, backbones or models.
        pattern: shell pattern on the names, such as '*gcn-resnext*'.
    """
    import fnmatch

    import zoo
    from zoo.backbones import list_backbones
    from zoo.data import DATASETS
    from zoo.losses import LOSSES

    kinds = {
        "heads": zoo.list_heads,
        "convs": zoo.list_convs,
        "label_spaces": zoo.list_label_spaces,
        "datasets": lambda: sorted(DATASETS),
        "losses": lambda: sorted(LOSSES),
        "backbones": list_backbones,
        "models": zoo.list_models,
    }
    if kind != "all":
        names = fnmatch.filter(lookup("kind", kind, kinds)(), pattern)
        print("\n".join(names) if names else f"no {kind} match {pattern!r}")
        return
    for name, entries in kinds.items():
        found = fnmatch.filter(entries(), pattern)
        shown = ", ".join(found[:40]) if len(found) <= 40 else f"{len(found):,}; zoo list {name} '*pattern*'"
        print(f"{name}: {shown}")


def graph(
    data: str | None = None,
    labels: str | None = None,
    threshold: float = 0.1,
    p: float = 0.2,
    normalization: str = "mlgcn",
    embeddings: str = "glove",
    unknown_words: str = "error",
    output: str | None = None,
) -> None:
    """Show the label graph of annotations: edges at several thresholds, the strongest, the removed.

    Args:
        data: a data set by name, a CSV file or a folder; its training split is counted.
        labels: a shipped label space instead, such as coco2014.
        threshold: tau: an edge needs P(label | given label) of at least this.
        p: share of a label's features that comes from its neighbours.
        normalization: mlgcn, sym, row or none.
        embeddings: glove, onehot, random, or a file of word vectors.
        unknown_words: what to do with labels that have no vector: error, or a fallback.
        output: folder for label_graph.json and label_graph.png; runs/graph/<name> unless given.
    """
    from zoo.counts import count_labels, describe_counts
    from zoo.data import open_dataset
    from zoo.graph import label_graph
    from zoo.graph_files import save_graph
    from zoo.label_spaces import label_counts
    from zoo.plots import plot_label_graph

    if (data is None) == (labels is None):
        raise InputError(
            "zoo graph needs one of --data (your annotations) and --labels (a shipped label space)"
        )
    if labels is not None:
        name, counts = labels, label_counts(labels)
    else:
        dataset = open_dataset(data)  # type: ignore[arg-type]
        name, train = dataset.name, dataset.split("train")
        counts = count_labels(train.targets, train.label_names)
    print(describe_counts(counts, threshold))
    result = label_graph(
        counts,
        threshold=threshold,
        p=p,
        normalization=normalization,
        embeddings=embeddings,
        unknown_words=unknown_words,
    )
    folder = Path(output or f"runs/graph/{name}")
    saved = save_graph(result, folder / "label_graph.json")
    picture = plot_label_graph(result, folder / "label_graph.png", counts=counts.counts)
    print(f"Label vectors: {result.recipe['embeddings']}\nGraph: {saved}   Picture: {picture}")


def train(
    model: str,
    data: str = "openmoji",
    output: str | None = None,
    pretrained: bool | str = True,
    img_size: int | None = None,
    freeze_backbone: bool = False,
    threshold: float = 0.1,
    p: float = 0.2,
    embeddings: str = "glove",
    unknown_words: str = "error",
    resume: bool = False,
    workers: int = 2,
    **recipe: Any,
) -> None:
    """Train one model, keep the best epoch, and test it.

    Args:
        model: such as mlgcn-resnet18, or with options mlgcn-resnet18:conv=GATConv:pooling=avg.
        data: a data set by name, a CSV file or a folder.
        output: folder of the run; runs/train/<data>/<model> unless given.
        pretrained: the backbone's weights: true (timm's), false, or a file.
        img_size: for backbones of a fixed input size.
        freeze_backbone: compute its features once and train the head alone.
        threshold: tau of the label graph, which is counted from the training split.
        p: share of a label's features that comes from its neighbours.
        embeddings: glove, onehot, random, or a file of word vectors.
        unknown_words: what to do with labels that have no vector: error, or a fallback.
        resume: go on from the last checkpoint in the output folder.
        workers: processes that read images.
    """
    import torch

    from zoo.controls import control
    from zoo.data import open_dataset
    from zoo.entry import Entry
    from zoo.graph import label_graph, unlinked_labels
    from zoo.heads import uses_graph
    from zoo.model import build
    from zoo.plots import plot_curves
    from zoo.train import Recipe, fit

    entry, settings, dataset = Entry.parse(model), Recipe(**recipe), open_dataset(data)
    folder = Path(output or f"runs/train/{dataset.name}/{entry.name.replace(':', '-')}")
    print(dataset.describe())
    labels = unlinked_labels(dataset.label_names)
    if uses_graph(entry.model.partition("-")[0]):
        targets = dataset.split("train").targets
        labels = label_graph(
            targets,
            dataset.label_names,
            threshold=threshold,
            p=p,
            embeddings=embeddings,
            unknown_words=unknown_words,
        )
    if entry.graph != "real":
        labels = control(labels, entry.graph, settings.seed)
    torch.manual_seed(settings.seed)
    classifier = build(entry.model, labels, pretrained=pretrained, img_size=img_size, **entry.options)
    run = fit(
        classifier,
        dataset,
        settings,
        folder,
        freeze_backbone=freeze_backbone,
        resume=resume,
        workers=workers,
        progress=sys.stdout.isatty(),  # a bar in a file is noise
    )
    plot_curves(run.history, folder / "curves.png")
    if run.test is not None:
        print(f"{entry.name} on {dataset.name}, test split")
        _show(_metrics_table(run.test.metrics()))
    print(f"Model: {folder / 'model'}   Curves: {folder / 'curves.png'}")


def evaluate(
    data: str,
    model: str = "runs/compare/openmoji/best_model",
    split: str = "test",
    threshold: float = 0.5,
    output: str | None = None,
    workers: int = 2,
) -> None:
    """Test a saved model on a data set.

    Args:
        data: a data set by name, a CSV file or a folder, with the model's labels in any order.
        model: folder of a saved model.
        split: train, val, test or all.
        threshold: scores at or above it are predictions.
        output: a .npz file for the scores of every image.
        workers: processes that read images.
    """
    from rich.table import Table

    from zoo.data import open_dataset
    from zoo.evaluate import evaluate as run
    from zoo.model import load

    classifier, dataset = load(model), open_dataset(data)
    images = dataset if split == "all" else dataset.split(split)
    evaluation = run(classifier, images, workers=workers, progress=sys.stdout.isatty())
    print(f"{classifier.name} on {dataset.name}, {split} split, {len(evaluation.images):,} images")
    _show(_metrics_table(evaluation.metrics(threshold)))
    table = Table(box=None, pad_edge=False)
    columns = evaluation.per_label(threshold)
    table.add_column("label", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    for i, label in enumerate(evaluation.label_names):
        cells = (f"{v[i]:.0f}" if name == "positives" else f"{v[i]:.3f}" for name, v in columns.items())
        table.add_row(label, *cells)
    _show(table)
    if output:
        print(f"Scores: {evaluation.save(output)}")


def predict(
    images: list[str],
    model: str = "runs/compare/openmoji/best_model",
    threshold: float = 0.5,
    top_k: int | None = None,
    output: str | None = None,
) -> None:
    """Say which labels images have.

    Args:
        images: files, or folders of them.
        model: folder of a saved model.
        threshold: labels at or above this score are named.
        top_k: name this many labels instead, whatever their scores.
        output: a CSV file for the predictions: image, label, score.
    """
    import csv

    from zoo.data.images import find_images
    from zoo.model import load

    classifier, files = load(model), find_images(images)
    rows = []
    for file, labels in zip(files, classifier.predict(files, threshold=threshold, top_k=top_k), strict=True):
        named = ", ".join(f"{label} {score:.2f}" for label, score in labels.items())
        print(f"{file}: {named or f'no label at or above {threshold}'}")
        rows += [(file, label, f"{score:.6f}") for label, score in labels.items()]
    if output:
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        with open(output, "w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("image", "label", "score"), *rows])


def _show(table: Table) -> None:
    from rich.console import Console

    console = Console(markup=False, emoji=False)  # names are names, also in [brackets]
    if not console.is_terminal:
        console.width = 100  # a file has no width of its own, and rich's 80 would cut numbers
    console.print(table)


def _metrics_table(metrics: dict[str, float]) -> Table:
    from rich.table import Table

    table = Table("metric", box=None, pad_edge=False)
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4f}")
    return table
