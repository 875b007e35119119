"""What the zoo costs, always as a ratio to a peer that does the same work in the same run.

    python benchmarks/speed.py [--sections '[inference]'] [--smoke true] [--output benchmarks/results/speed.csv]

Both sides of a ratio run in turn, round by round; the table has the median of the rounds' ratios with its quartiles.
Where a section claims that both compute the same, ``equal_to`` holds the largest difference. Goals that need a GPU are
measured where there is one. A row of the table is replaced when the same work is measured on the same device again.
``--scatter`` names a folder with torch-scatter, for the section that compares PyG with and without it.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import torch
from command import run_command
from rich.console import Console
from speed_ratio import SMOKE, Sizes
from table import provenance, record

from zoo.lookup import InputError, lookup

COLUMNS = (
    *("section", "work", "against", "size", "device", "seconds", "against_seconds", "ratio", "ratio_low"),
    *("ratio_high", "rounds", "goal", "met", "equal_to", "note"),
)
RESULTS = Path(__file__).parent / "results" / "speed.csv"

# Section -> the module of that name's function.
SECTIONS = {
    "inference": "speed_models",
    "training_step": "speed_models",
    "mixed_precision": "speed_models",
    "graph_head": "speed_heads",
    "heads": "speed_heads",
    "scatter": "speed_heads",
    "metrics": "speed_process",
    "imports": "speed_process",
}


def speed(
    sections: list[str] | None = None,
    smoke: bool = False,
    scatter: Path | None = None,
    output: Path | None = None,
) -> None:
    """Measures, and writes one CSV row for each piece of work and device.

    Args:
        sections: which; all by default.
        smoke: whether everything is tiny, to see that it runs; nothing is written unless an output is given.
        scatter: a folder that torch-scatter was installed to (``pip install --target``); without it, and where it is
            not installed, the section ``scatter`` is left out.
        output: where the table goes; benchmarks/results/speed.csv by default.
    """
    chosen = {name: lookup("section", name, SECTIONS) for name in sections or SECTIONS}
    if scatter and not (scatter / "torch_scatter").is_dir():
        raise InputError(f"{scatter} holds no torch_scatter: pip install --target {scatter} torch-scatter")
    sizes = replace(SMOKE if smoke else Sizes(), scatter=scatter)
    output = output or (None if smoke else RESULTS)
    cuda = torch.cuda.is_available()
    made = {**provenance(), "threads": torch.get_num_threads()}
    console = Console(stderr=True)
    for section, module in chosen.items():
        measured = getattr(importlib.import_module(module), section)
        with console.status(section) as status:
            for device in ("cpu", "cuda") if cuda else ("cpu",):
                name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
                rows = ({"section": section, "device": name, **row} for row in measured(sizes, device))
                for row in record(rows, output, made, ("section", "work", "size", "device"), COLUMNS):
                    status.update(f"{section}: after {row['work']}, {row['size']}")
    if output:
        print(f"written to {output}")


if __name__ == "__main__":
    run_command(speed)
