"""Does the label graph help, and which convolution? Grids over ``zoo.compare``, one report of all.

    python benchmarks/accuracy.py                                    the embedded data set, the whole grid
    python benchmarks/accuracy.py --data photos/a,photos/b --sections '[overall, tau]' --protocol.seeds 5
    python benchmarks/accuracy.py --data photos/a --heads linear,mlgcn,mlgcn:conv=TAGConv --backbones resnet18

The grid is sections x heads x backbones x data sets; ``accuracy.yaml`` holds the sections, each a question with the
heads that answer it. What is finished is kept under ``--output`` and never run again, whichever section asks for it.
``--results`` gets the rows of all (``accuracy.csv``), and of the section ``overall`` a table, the trials of the search
and a plot for each data set; the report of everything is ``accuracy.md`` and ``accuracy.html`` in ``--output``.
"""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import auto_cli
from rich.console import Console
from table import replace_rows

import zoo
from zoo.document import Block, Heading, write_document
from zoo.entry import BACKBONE, split_names
from zoo.lookup import InputError, lookup, unknown
from zoo.protocol import Protocol
from zoo.report import Comparison

RESULTS = Path(__file__).parent / "results"
GRID = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class Section:
    """One question of the grid.

    Attributes:
        heads: entries without their backbone: ``mlgcn:conv=GATConv``.
        question: what they answer, for the report.
        controls: whether ``zoo.compare`` adds baselines and controls.
        protocol: what differs from the common protocol.
    """

    heads: list[str]
    question: str = ""
    controls: bool = False
    protocol: dict[str, Any] = field(default_factory=dict)


def read_grid(path: Path) -> dict[str, Section]:
    """The sections of a YAML file.

    Raises:
        InputError: no such file, no YAML, or keys that a section does not have.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{path}: no such file of sections") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, Mapping) or not found:
        raise InputError(f"{path}: expected sections by name, each with its heads")
    for name, section in found.items():
        known = list(Section.__dataclass_fields__)
        if not isinstance(section, Mapping) or "heads" not in section:
            raise InputError(f"{path}: section {name!r} has no list of heads")
        for key in section:
            if key not in known:
                raise unknown(f"key of section {name!r} in {path}:", key, known)
        for key in section.get("protocol", {}):
            if key not in Protocol.__dataclass_fields__:
                raise unknown(
                    f"option of the protocol in section {name!r}", key, [*Protocol.__dataclass_fields__]
                )
    return {name: Section(**section) for name, section in found.items()}


def entries(heads: list[str], backbones: str) -> list[str]:
    """Every head on every backbone: ``mlgcn:conv=GATConv`` and ``resnet18`` make ``mlgcn-resnet18:conv=GATConv``."""
    names = []
    for backbone in backbones.split(","):
        for head in heads:
            name, colon, options = head.partition(":")
            names.append(f"{name}-{backbone}{colon}{options}")
    return names


def accuracy(
    data: str = "openmoji",
    sections: list[str] | None = None,
    heads: str | None = None,
    backbones: str = BACKBONE,
    protocol: Protocol = Protocol(seeds=5),  # noqa: B008 (frozen, and jsonargparse reads the default)
    grid: str = str(GRID),
    output: str = "runs/accuracy",
    results: str = str(RESULTS),
    pretrained: bool | str = True,
    workers: int = 2,
    ray: str | None = None,
    gpus_per_run: float = 0.0,
) -> None:
    """Runs the grid.

    Args:
        data: data sets, by name or path, separated by commas.
        sections: of the grid; all by default.
        heads: in place of the grid's sections, one of these heads with baselines and controls.
        backbones: timm names, separated by commas.
        protocol: search, seeds and training, the same for all but what a section changes.
        grid: YAML file of the sections.
        output: where reports and finished runs are kept.
        results: where the tables are kept.
        pretrained: the backbones' weights: true (timm's), false, or a file.
        workers: processes that read images.
        ray: address of a Ray cluster to run on, auto, or local for one on this machine.
        gpus_per_run: share of a GPU that each run on Ray takes; 0 is CPU alone.
    """
    chosen = {"overall": Section(split_names(heads), controls=True)} if heads else read_grid(Path(grid))
    if sections:
        chosen = {name: lookup("section", name, chosen) for name in sections}
    console, blocks = Console(), list[Block]()
    with on_ray(ray, gpus_per_run):
        for source in data.split(","):
            dataset = zoo.open_dataset(source)
            blocks.append(Heading(dataset.name, 1))
            for name, section in chosen.items():
                console.rule(f"{dataset.name}: {name}")
                folder = Path(output) / dataset.name / name
                comparison = zoo.compare(
                    dataset,
                    entries(section.heads, backbones),
                    controls=section.controls,
                    protocol=replace(protocol, **section.protocol),
                    pretrained=pretrained,
                    output=folder,
                    runs=folder.parent / "runs",
                    workers=workers,
                    ray=ray,
                    gpus_per_run=gpus_per_run,
                )
                console.print(comparison.table(), comparison.verdict(), sep="\n")
                blocks += summary(name, section, comparison, folder)
                rows = [{"section": name, **row} for row in comparison.rows()]
                replace_rows(Path(results) / "accuracy.csv", rows, ("data", "section"))
                if name == "overall":
                    keep(folder, Path(results), dataset.name)
    write_document(blocks, Path(output) / "accuracy", "Does the label graph help?")
    print(f"Report: {Path(output) / 'accuracy.html'}   Table: {Path(results) / 'accuracy.csv'}")


def on_ray(address: str | None, gpus_per_run: float) -> contextlib.AbstractContextManager[None]:
    """One connection for all comparisons; without an address, none."""
    if address is None:
        return contextlib.nullcontext()
    from zoo.ray_runs import check_cluster, connected

    check_cluster(address, gpus_per_run)
    return connected(address)


def summary(name: str, section: Section, comparison: Comparison, folder: Path) -> list[Block]:
    """What the report says of a section: its question, and everything but the protocol, which the CSV rows hold."""
    shown = comparison.blocks({"Test mAP": folder / "comparison.png"})
    own = [block for block in shown if block != shown[0]]
    protocol = next(i for i, block in enumerate(own) if block == Heading("Protocol"))
    pictures = [block for block in own[protocol:] if type(block).__name__ == "Picture"]
    return [Heading(f"{name}: {section.question}" if section.question else name), *own[:protocol], *pictures]


def keep(folder: Path, results: Path, data: str) -> None:
    """Copies a report's tables and plot to the results."""
    results.mkdir(parents=True, exist_ok=True)
    for file, ending in {
        "results.csv": "_results.csv",
        "trials.csv": "_trials.csv",
        "comparison.png": ".png",
    }.items():
        shutil.copy(folder / file, results / f"{data}{ending}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        auto_cli(accuracy, as_positional=False)
    except InputError as error:
        raise SystemExit(f"accuracy: {error}") from None
