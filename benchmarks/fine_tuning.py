"""Whole networks fine-tuned: a head with a label graph against a linear one, on the same photos.

    python benchmarks/fine_tuning.py --data photos        [--epochs 4] [--img_size 128] [--seeds 2]

The learning rate of each entry is the best of a few by validation mAP with seed 0; that run counts as the first seed,
and only the winner's runs are tested. A run that was stopped goes on where it was. Writes one row an epoch and run, and
the learning curves.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from command import run_command

import zoo
from zoo.data import ImageDataset
from zoo.entry import BACKBONE, Entry
from zoo.graph import label_graph, unlinked_labels
from zoo.heads import graph_edges, uses_graph
from zoo.metrics import mean_interval
from zoo.plots import plot_learning
from zoo.recipe import Recipe
from zoo.report import provenance
from zoo.runtime import Runtime
from zoo.train import fit

RESULTS = Path(__file__).parent / "results"


def run(
    entry: str,
    data: ImageDataset,
    recipe: Recipe,
    folder: Path,
    runtime: Runtime,
    *,
    img_size: int | None,
    pretrained: bool | str,
) -> list[dict[str, Any]]:
    """One training, or what is left of it: a row an epoch, with the test mAP of the best."""
    parsed = Entry.parse(entry)
    head = parsed.model.partition("-")[0]
    labels = unlinked_labels(data.label_names)
    if uses_graph(head):
        labels = label_graph(data.split("train").label_counts(), edges=graph_edges(head))
    torch.manual_seed(recipe.seed)
    model = zoo.build(parsed.model, labels, pretrained=pretrained, img_size=img_size, **parsed.options)
    done = fit(model, data, recipe, folder, runtime=runtime, resume="auto", progress=False)
    best = max(done.history, key=lambda row: row["val_mAP"])
    assert done.test is not None
    test = done.test.metrics()["mAP"]
    same = {"entry": parsed.name, "lr": recipe.lr, "seed": recipe.seed}
    return [same | row | {"test_mAP": test if row is best else ""} for row in done.history]


def fine_tuning(
    data: str,
    entries: Sequence[str] = (f"linear-{BACKBONE}", f"mlgcn-{BACKBONE}"),
    lrs: Sequence[float] = (1e-3, 3e-3),
    seeds: int = 2,
    epochs: int = 4,
    batch_size: int = 32,
    img_size: int | None = 128,
    pretrained: bool | str = True,
    output: str = "runs/fine_tuning",
    results: str = str(RESULTS),
    workers: int = 2,
) -> None:
    """Trains every entry at every learning rate, and the best of each with further seeds.

    Args:
        data: a data set, by name or path.
        entries: models, with options after colons.
        lrs: learning rates of the head; the backbone has a tenth.
        seeds: runs of the best learning rate.
        epochs: of every run.
        batch_size: images a step.
        img_size: pixels.
        pretrained: the backbones' weights: true (timm's), false, or a file.
        output: folder of the runs; a second call goes on from there.
        results: folder for fine_tuning.csv and fine_tuning.png.
        workers: processes that read images.
    """
    dataset, runtime = zoo.open_dataset(data), Runtime(workers=workers, logger="none")
    rows: list[dict[str, Any]] = []
    for entry in entries:

        def trained(lr: float, seed: int, entry: str = entry) -> list[dict[str, Any]]:
            recipe = Recipe(lr=lr, seed=seed, epochs=epochs, batch_size=batch_size)
            folder = Path(output) / dataset.name / f"{entry}-{img_size}px-lr{lr:g}-seed{seed}"
            found = run(entry, dataset, recipe, folder, runtime, img_size=img_size, pretrained=pretrained)
            print(
                entry,
                f"lr {lr:g} seed {seed}: val mAP {max(row['val_mAP'] for row in found):.4f}",
                flush=True,
            )
            return found

        tried = {lr: trained(lr, 0) for lr in lrs}
        best = max(lrs, key=lambda lr: max(row["val_mAP"] for row in tried[lr]))
        of_winner = [tried[best], *(trained(best, seed) for seed in range(1, seeds))]
        for lr in lrs:
            if lr != best:  # a trial of the search; nobody has looked at its test score
                rows += [row | {"test_mAP": "", "kept": False} for row in tried[lr]]
        rows += [row | {"kept": True} for found in of_winner for row in found]
        mean, half = mean_interval(
            [row["test_mAP"] for found in of_winner for row in found if row["test_mAP"] != ""]
        )
        print(f"{entry}: test mAP {mean:.4f} ± {half:.4f} over {seeds} seeds, lr {best:g}", flush=True)
    write(rows, Path(results), {"of_epochs": epochs, "img_size": img_size, **provenance(dataset)})


def write(rows: Sequence[Mapping[str, Any]], folder: Path, made: Mapping[str, Any]) -> None:
    """The table with its provenance, and the learning curves of the kept runs."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "fine_tuning.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *made])
        writer.writeheader()
        writer.writerows({**row, **made} for row in rows)
    picture = plot_learning([row for row in rows if row["kept"]], folder / "fine_tuning.png")
    print(f"Table: {folder / 'fine_tuning.csv'}   Curves: {picture}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning)
    run_command(fine_tuning)
