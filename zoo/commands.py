"""The commands of ``zoo``, one function each: their signatures are the options, their docstrings the help.

Each imports what it needs when it runs, so that asking for help costs nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zoo.lookup import InputError, lookup
from zoo.tables import show, show_metrics

if TYPE_CHECKING:
    from zoo.protocol import Protocol
    from zoo.recipe import Recipe
    from zoo.runtime import Runtime


def compare(
    data: str = "openmoji",
    models: str | list[str] | None = None,
    controls: bool = True,
    pretrained: bool | str = True,
    output: str | None = None,
    workers: int = 2,
    on_error: Literal["raise", "skip"] = "raise",
    ray: str | None = None,
    gpus_per_run: float = 0.0,
    *,
    protocol: Protocol,
) -> None:
    """Compare models on one data set: table, report, plots. A second call goes on where the first stopped.

    Args:
        data: a data set by name (openmoji, coco2014:root=...), a label file, or a folder with one.
        models: names such as mlgcn-resnet18,linear-resnet18:pooling=max; options follow a colon.
        controls: add baselines and controls to models that use a label graph.
        pretrained: the backbones' weights: true (timm's), false, or a file.
        output: folder of the report; runs/compare/<data> unless given.
        workers: processes that read images.
        on_error: what to do with images that cannot be read: raise an error, or skip them and say how many.
        ray: run on Ray: local (on all cores of this machine), auto (the cluster that runs here), or host:port.
        gpus_per_run: share of a GPU that each run on Ray takes; 0 is CPU alone.
    """
    from zoo.comparison import compare as run
    from zoo.data import open_dataset, readable

    dataset = open_dataset(data)
    if on_error == "skip":
        dataset = readable(dataset, workers=workers)
    folder = Path(output or f"runs/compare/{dataset.name}")
    print(dataset.describe())
    result = run(
        dataset,
        models,
        controls=controls,
        protocol=protocol,
        pretrained=pretrained,
        output=folder,
        workers=workers,
        ray=ray,
        gpus_per_run=gpus_per_run,
    )
    show(result.table())
    print(f"\n{result.verdict()}\nReport: {folder / 'report.md'}   Model: {folder / 'best_model'}")


def list_(
    kind: str = "all",
    pattern: str = "*",
    verbose: bool = False,
    backbone: str = "resnet101",
    labels: str = "coco2014",
    map_size: int = 14,
) -> None:
    """List heads, convolutions, label spaces, data sets, losses, augmentations, backbones or models by name.

    Args:
        kind: all, heads, convs, label_spaces, datasets, losses, augmentations, backbones or models.
        pattern: shell pattern on the names, such as '*gcn-resnext*'.
        verbose: what each is, and what heads cost; backbones and models have names alone.
        backbone: whose feature map the costs of heads are counted on.
        labels: a shipped label space that they are counted for.
        map_size: height and width of the feature map; 14 is what stride 32 makes of 448 pixels.
    """
    import fnmatch

    import zoo
    from zoo import catalog
    from zoo.augment import AUGMENTATIONS
    from zoo.backbones import list_backbones
    from zoo.data import DATASETS
    from zoo.losses import LOSSES

    kinds = {
        "heads": zoo.list_heads,
        "convs": zoo.list_convs,
        "label_spaces": zoo.list_label_spaces,
        "datasets": lambda: sorted(DATASETS),
        "losses": lambda: sorted(LOSSES),
        "augmentations": lambda: sorted(AUGMENTATIONS),
        "backbones": list_backbones,
        "models": zoo.list_models,
    }
    described: dict[str, Callable[[list[str]], None]] = {
        "heads": lambda names: catalog.describe_heads(names, backbone, labels, map_size),
        "convs": catalog.describe_convs,
        "label_spaces": catalog.describe_label_spaces,
        "datasets": lambda names: catalog.say_what_it_is("data set", names, DATASETS),
        "losses": catalog.describe_losses,
        "augmentations": catalog.describe_augmentations,
    }
    if kind != "all":
        kinds = {kind: lookup("kind", kind, kinds)}
    for name, entries in kinds.items():
        found = fnmatch.filter(entries(), pattern)
        if verbose and found and name in described:
            described[name](found)
            if kind == "all":
                print()
        elif kind != "all":
            print("\n".join(found) if found else f"no {kind} match {pattern!r}")
        else:
            many = len(found) > 40
            print(f"{name}:", f"{len(found):,}; zoo list {name} '*pattern*'" if many else ", ".join(found))


def graph(
    data: str | None = None,
    labels: str | None = None,
    edges: str = "conditional",
    threshold: float = 0.1,
    p: float = 0.2,
    normalization: str = "mlgcn",
    knowledge: str | None = None,
    embeddings: str = "glove",
    unknown_words: str = "error",
    headroom: bool = False,
    output: str | None = None,
) -> None:
    """Show the label graph of annotations, which labels exclude or imply each other, and what may go wrong.

    Args:
        data: a data set by name, a label file or a folder; its training split is counted.
        labels: a shipped label space instead, such as coco2014.
        edges: conditional, topk, significant, ppmi, signed, or couplings, which the head coupled takes; options follow
            a colon: topk:k=5.
        threshold: tau: a conditional edge needs P(label | given label) of at least this.
        p: share of a label's features that comes from its neighbours.
        normalization: mlgcn, sym, row or none.
        knowledge: a CSV or TSV file with the columns source, target, weight: edges to add to the counted ones.
        embeddings: glove, glove50, minilm, spectral, asge, onehot, random, or a file of word vectors.
        unknown_words: what to do with labels that have no vector: error, or a fallback.
        headroom: estimate what a model could gain at most from knowing the other labels; takes seconds, no photos.
        output: folder for report.txt, label_graph.json and the pictures; runs/graph/<name> unless given.
    """
    from zoo.data import open_dataset
    from zoo.graph import label_graph
    from zoo.graph_files import save_graph
    from zoo.graph_report import describe_graph, describe_vectors, graph_report
    from zoo.headroom import estimate_headroom
    from zoo.label_spaces import label_counts
    from zoo.plots.graph_pictures import write_graph_pictures

    if (data is None) == (labels is None):
        raise InputError(
            "zoo graph needs one of --data (your annotations) and --labels (a shipped label space)"
        )
    annotations = None  # of a shipped label space there are counts alone
    hierarchy: tuple[tuple[str, str], ...] = ()
    if labels is not None:
        name, counts = labels, label_counts(labels)
        if headroom:
            raise InputError(
                f"--headroom needs annotations, image by image, and {labels} is shipped as counts: give --data"
            )
    else:
        dataset = open_dataset(data, check_images=False)  # type: ignore[arg-type]
        print(dataset.describe())
        name, train, hierarchy = dataset.name, dataset.split("train"), dataset.hierarchy
        counts, annotations = train.label_counts(), train.annotations.treated(train.difficult.counts)
    # First, since it is what wrong options fail in.
    result = label_graph(
        counts,
        edges=edges,
        threshold=threshold,
        p=p,
        normalization=normalization,
        knowledge=knowledge,
        embeddings=embeddings,
        unknown_words=unknown_words,
    )
    tau = threshold if edges.partition(":")[0] == "conditional" else None
    report = graph_report(counts, tau, annotations, hierarchy)
    print(report)
    if headroom:
        gain = f"headroom: {estimate_headroom(annotations)}"  # type: ignore[arg-type]
        print(gain)
        report += f"\n{gain}"
    folder = Path(output or f"runs/graph/{name}")
    saved = save_graph(result, folder / "label_graph.json")
    kind = describe_graph(result)
    (folder / "report.txt").write_text(f"{report}\n{kind}\n", encoding="utf-8")
    print(f"{kind}\n{describe_vectors(result)}\nGraph: {saved}")
    for line in write_graph_pictures(result, counts, folder):
        print(line)


def train(
    model: str,
    data: str = "openmoji",
    output: str | None = None,
    pretrained: bool | str = True,
    img_size: int | None = None,
    freeze_backbone: bool = False,
    graph: str | None = None,
    edges: str | None = None,
    threshold: float = 0.1,
    p: float = 0.2,
    embeddings: str = "glove",
    unknown_words: str = "error",
    resume: bool | Literal["auto"] = False,
    on_error: Literal["raise", "skip"] = "raise",
    *,
    recipe: Recipe,
    runtime: Runtime,
) -> None:
    """Train one model, keep the best epoch, and test it. --config modern takes a shipped recipe.

    Args:
        model: such as mlgcn-resnet18, or with options mlgcn-resnet18:conv=GATConv:pooling=avg.
        data: a data set by name, a label file or a folder.
        output: folder of the run; runs/train/<data>/<model> unless given.
        pretrained: the backbone's weights: true (timm's), false, or a file.
        img_size: for backbones of a fixed input size.
        freeze_backbone: compute its features once and train the head alone.
        graph: a label graph that zoo graph saved, counted from other annotations, say; without it, one is counted
            from the training split.
        edges: kind of the label graph that is counted, such as topk:k=5; the one that the head wants unless given.
        threshold: tau of the label graph that is counted.
        p: share of a label's features that comes from its neighbours.
        embeddings: glove, glove50, minilm, spectral, asge, onehot, random, or a file of word vectors.
        unknown_words: what to do with labels that have no vector: error, or a fallback.
        resume: go on from the last checkpoint in the output folder; auto if there is one.
        on_error: what to do with images that cannot be read: raise an error, or skip them and say how many.
    """
    # Before any other name is bound.
    config = locals() | {"recipe": asdict(recipe), "runtime": asdict(runtime)}

    import torch

    from zoo.controls import control
    from zoo.data import open_dataset, readable
    from zoo.entry import Entry, entry_graph
    from zoo.heads import graph_edges, uses_graph
    from zoo.model import build
    from zoo.plots import plot_curves
    from zoo.runtime import is_first_process
    from zoo.train import fit

    entry, dataset = Entry.parse(model), open_dataset(data)
    if on_error == "skip":
        dataset = readable(dataset, workers=runtime.workers)
    folder = Path(output or f"runs/train/{dataset.name}/{entry.name.replace(':', '-')}")
    first = is_first_process()
    if first:
        print(dataset.describe())
    head = entry.model.partition("-")[0]
    if (graph or edges) and not uses_graph(head):
        raise InputError(f"head {head!r} uses no label graph, so that {graph or edges} would be left out")
    if graph is not None and edges is not None:
        raise InputError(f"{graph} has edges already: give one of --graph and --edges")
    of_graph = {
        "edges": edges or graph_edges(head),
        "threshold": threshold,
        "p": p,
        "embeddings": embeddings,
        "unknown_words": unknown_words,
    }
    labels = entry_graph(entry, dataset.split("train"), of_graph if graph is None else {"file": graph})
    if entry.graph != "real":
        labels = control(labels, entry.graph, recipe.seed)
    torch.manual_seed(recipe.seed)
    classifier = build(entry.model, labels, pretrained=pretrained, img_size=img_size, **entry.options)
    run = fit(
        classifier,
        dataset,
        recipe,
        folder,
        runtime=runtime,
        freeze_backbone=freeze_backbone,
        resume=resume,
        progress=sys.stdout.isatty(),  # a bar in a file is noise
        config=config,
    )
    if not first:
        return
    plot_curves(run.history, folder / "curves.png")
    if run.test is not None:
        print(f"{entry.name} on {dataset.name}, test split")
        show_metrics(run.test.metrics())
    print(f"Model: {folder / 'model'}   Curves: {folder / 'curves.png'}")


def evaluate(
    data: str,
    model: str = "runs/compare/openmoji/best_model",
    split: str = "test",
    threshold: float | None = None,
    output: str | None = None,
    workers: int = 2,
    on_error: Literal["raise", "skip"] = "raise",
) -> None:
    """Test a saved model on a data set.

    Args:
        data: a data set by name, a label file or a folder, with the model's labels in any order.
        model: folder of a saved model.
        split: train, val, test or all.
        threshold: scores at or above it are predictions; the model's thresholds unless given, 0.5 where it has none.
        output: a .npz file for the scores of every image.
        workers: processes that read images.
        on_error: what to do with images that cannot be read: raise an error, or skip them and say how many.
    """
    from rich.table import Table

    from zoo.data import open_dataset, readable
    from zoo.evaluate import evaluate as run
    from zoo.predict_inputs import label_thresholds
    from zoo.saved_model import load

    classifier, dataset = load(model), open_dataset(data)
    own = classifier.thresholds if threshold is None else threshold
    limits = label_thresholds(own, classifier.label_names)
    images = dataset if split == "all" else dataset.split(split)
    if on_error == "skip":
        images = readable(images, workers=workers)
    evaluation = run(classifier, images, workers=workers, progress=sys.stdout.isatty())
    print(f"{classifier.name} on {dataset.name}, {split} split, {len(evaluation.images):,} images")
    print(f"protocol: {images.protocol}")
    low, high = limits.aminmax()
    print(f"threshold: {low:.3g}" + (f" to {high:.3g}, each label's own" if low < high else ""))
    show_metrics(evaluation.metrics(limits))
    table = Table(box=None, pad_edge=False)
    columns = evaluation.per_label(limits)
    table.add_column("label", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    for i, label in enumerate(evaluation.label_names):
        cells = (f"{v[i]:.0f}" if name == "positives" else f"{v[i]:.3f}" for name, v in columns.items())
        table.add_row(label, *cells)
    show(table)
    if output:
        print(f"Scores: {evaluation.save(output)}")


def predict(
    images: list[str],
    model: str = "runs/compare/openmoji/best_model",
    known: str | None = None,
    threshold: float | None = None,
    top_k: int | None = None,
    output: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> None:
    """Say which labels images have.

    Args:
        images: files, or folders of them.
        model: folder of a saved model.
        known: labels known already, for a head that reasons from them (coupled): beach or beach,snow=false.
        threshold: labels at or above this score are named; the model's thresholds unless given, 0.5 where it has none.
        top_k: name this many labels instead, whatever their scores.
        output: a CSV file for the predictions: image, label, score.
        on_error: what to do with images that cannot be read: raise an error, or skip them and name them at the end.
    """
    import csv

    from zoo.data.images import ImageError, find_images, read_image
    from zoo.predict_inputs import THRESHOLD
    from zoo.saved_model import load

    classifier, files = load(model), find_images(images)
    own = THRESHOLD if classifier.thresholds is None else "its threshold"
    classifier.predict([], threshold=threshold, top_k=top_k)  # wrong options are found before images are read
    rows, skipped = [], []
    for start in range(0, len(files), 32):  # so that no more pictures than these are in memory
        read, pictures = [], []
        for file in files[start : start + 32]:
            try:
                pictures.append(read_image(file))
                read.append(file)
            except ImageError as error:
                if on_error == "raise":
                    raise InputError(f"{error} (--on_error skip predicts the others)") from error
                skipped.append(str(error))
        predictions = classifier.predict(
            pictures, known=_known_labels(known), threshold=threshold, top_k=top_k
        )
        for file, labels in zip(read, predictions, strict=True):
            named = ", ".join(f"{label} {score:.2f}" for label, score in labels.items())
            print(f"{file}: {named or f'no label at or above {own if threshold is None else threshold}'}")
            rows += [(file, label, f"{score:.6f}") for label, score in labels.items()]
    if output:
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        with open(output, "w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("image", "label", "score"), *rows])
    if skipped:
        print(f"{len(skipped):,} of {len(files):,} images skipped:", *skipped, sep="\n  ", file=sys.stderr)


def scan(data: str, output: str | None = None, workers: int = 2) -> int:
    """Read every image of a data set: which ones cannot be read, and what is unusual about the others.

    Args:
        data: a data set by name, a label file or a folder.
        output: a CSV file for the images that cannot be read: file, kind, message.
        workers: processes that read images.
    """
    from zoo.data import open_dataset, scan_images

    result = scan_images(open_dataset(data), workers=workers)
    print(result.report())
    if output:
        print(f"Table: {result.save(output)}")
    return 1 if result.problems else 0


def convert(
    checkpoint: str,
    labels: list[str] | str = "coco2014",
    layout: str | None = None,
    backbone: str | None = None,
    embeddings: str = "glove",
    output: str | None = None,
) -> None:
    """Make a saved model of a published ML-GCN checkpoint.

    Args:
        checkpoint: a file of ML-GCN's code or of LearnOpenCV's tutorial, such as coco_checkpoint.pth.tar.
        labels: its labels in its order: coco2014, coco2014:label_order=category_id, voc2007, or all their names,
            as [cat,dog].
        layout: ml-gcn or learnopencv; recognised unless given.
        backbone: timm name of another ResNet than the layout's own.
        embeddings: the label vectors that it was trained with: glove, or a file of word vectors.
        output: folder of the model; runs/convert/<file name> unless given.
    """
    from zoo.published_weights import load_published

    model = load_published(checkpoint, labels, layout=layout, backbone=backbone, embeddings=embeddings)
    folder = model.save(output or f"runs/convert/{Path(checkpoint).name}")
    layout = model.notes["imported_from"]["layout"]
    print(f"{model.name}, {len(model.label_names)} labels, from a checkpoint of {layout}\nModel: {folder}")


def _known_labels(text: str | None) -> dict[str, bool] | None:
    """``beach,snow=false`` as ``{"beach": True, "snow": False}``."""
    if text is None:
        return None
    known = {}
    for part in text.split(","):
        label, _, value = map(str.strip, part.partition("="))
        known[label] = lookup(
            "value of a known label", value.lower() or "true", {"true": True, "false": False}
        )
    return known
