"""How the zoo scales: time and memory of each step, up to the size of Open Images and to 100,000 labels.

    python benchmarks/scale.py [--sections '[labels]'] [--smoke true] [--output benchmarks/results/scale.csv]

Each measurement runs in a process of its own, whose peak memory is its own (Python, torch and libraries included);
``increase_MiB`` is what the work added to it. A row of the table is replaced when the same work of the same size is
measured again.
"""

from __future__ import annotations

import importlib
import tempfile
from dataclasses import replace
from pathlib import Path

from command import run_command
from scale_process import SMOKE, Sizes
from table import LIBRARIES, provenance, read_rows, record

from zoo.lookup import lookup

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


def scale(
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
    made = provenance([*LIBRARIES, "pyarrow"])
    for section, module in chosen.items():
        measured = getattr(importlib.import_module(module), section)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            rows_of_section = ({"section": section, **row} for row in measured(sizes, Path(temporary)))
            for _ in record(rows_of_section, output, made, ("work", "size"), COLUMNS):
                pass
    if output:
        print(f"written to {output}")
        if "labels" in chosen:
            from scale_labels import plot_labels

            rows_of_labels = [row for row in read_rows(output) if row["section"] == "labels"]
            print(f"and {plot_labels(rows_of_labels, output.with_suffix('.png'))}")


if __name__ == "__main__":
    run_command(scale)
