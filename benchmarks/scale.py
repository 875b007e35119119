"""How the zoo scales: time and memory of each step, up to the size of Open Images and to 100,000 labels.

    python benchmarks/scale.py [--sections '[labels]'] [--smoke true] [--output benchmarks/results/scale.csv]

Each measurement runs in a process of its own, whose peak memory is its own (Python, torch and libraries included);
``increase_MiB`` is what the work added to it. A row of the table is replaced when the same work of the same size is
measured again.
"""

from __future__ import annotations

import csv
import datetime
import importlib
import importlib.metadata
import os
import platform
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from scale_process import SMOKE, Sizes

import zoo
from zoo.lookup import lookup

LIBRARIES = ("torch", "torch-geometric", "numpy", "scipy", "pyarrow")
COLUMNS = (
    *("section", "work", "size", "seconds", "cpu_seconds", "peak_MiB", "increase_MiB"),
    *("time_exponent", "memory_exponent", "note"),
)
RESULTS = Path("benchmarks/results/scale.csv")

# Section -> the module of that name's function, imported in its turn: a measured process begins with what is imported.
SECTIONS = {
    "label_rows": "scale_counts",
    "label_counts": "scale_counts",
    "labels": "scale_labels",
    "train_labels": "scale_labels",
    "evaluation": "scale_evaluation",
}


def main(
    sections: list[str] | None = None,
    smoke: bool = False,
    rows: int | None = None,
    folder: Path | None = None,
    output: Path | None = None,
) -> None:
    """Measures, and writes one CSV row for each piece of work and size, with machine and versions, and a picture.

    Args:
        sections: which; all by default.
        smoke: whether everything is tiny, to see that it runs; nothing is written unless an output is given.
        rows: of the label CSV, 60 million by default: they make 2.6 GB, which are removed again.
        folder: where temporary files go.
        output: where the table goes, and the picture beside it; benchmarks/results/scale.csv by default.
    """
    chosen = {name: lookup("section", name, SECTIONS) for name in sections or SECTIONS}
    sizes = SMOKE if smoke else Sizes()
    sizes = replace(sizes, rows=rows or sizes.rows)
    output = output or (None if smoke else RESULTS)
    provenance = {
        "machine": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),  # of the last minute: what else ran beside
        "zoo": zoo.__version__,
        **{library: importlib.metadata.version(library) for library in LIBRARIES},
        "date": datetime.date.today().isoformat(),
    }
    for section, module in chosen.items():
        measured = getattr(importlib.import_module(module), section)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            for row in measured(sizes, Path(temporary)):
                print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
                if output:
                    replace_rows(output, [{"section": section, **row, **provenance}])
    if output:
        print(f"written to {output}")
        if "labels" in chosen:
            from scale_labels import plot_labels

            print(f"and {plot_labels(output, output.with_suffix('.png'))}")


def replace_rows(output: Path, measured: list[dict[str, Any]], columns: tuple[str, ...] = COLUMNS) -> None:
    """Puts rows into the table in the place of those of the same work and size; these columns come first."""
    kept: list[dict[str, Any]] = []
    if output.is_file():
        with output.open(newline="") as file:
            kept = list(csv.DictReader(file))
    same = {(row["work"], row["size"]) for row in measured}
    table = [row for row in kept if (row["work"], row["size"]) not in same] + measured
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="") as file:
        names = list(dict.fromkeys([*columns, *(name for row in table for name in row)]))
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    auto_cli(main)
