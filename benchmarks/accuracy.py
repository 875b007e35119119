"""Does the label graph help, and which convolution? Grids over ``zoo.compare``, one report of all.

    python benchmarks/accuracy.py                                    the embedded data set, the whole grid
    python benchmarks/accuracy.py --data photos/a,photos/b --sections '[overall, tau]' --protocol.seeds 5
    python benchmarks/accuracy.py --data photos/a --heads linear,mlgcn,mlgcn:conv=TAGConv --backbones resnet18

The grid is sections x heads x backbones x data sets; ``accuracy.yaml`` holds the sections, each a question with the
heads that answer it. What is finished is kept under ``--output`` and never run again, whichever section asks for it.
``--results`` gets the rows of all (``accuracy.csv``), and the trials of each data set's search in the section
``overall``; the report of everything is ``accuracy.md`` and ``accuracy.html`` in ``--output``.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from command import run_command
from overview import plot_overview, shown
from positive_control import STRENGTHS, positive_control
from rich.console import Console
from table import read_rows, replace_rows

import zoo
from zoo.document import Block, Heading, Picture, Table, write_document
from zoo.entry import BACKBONE, split_names
from zoo.headroom import estimate_headroom
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
        layers: whether the report tells how alike the labels become from layer to layer.
        simulated: whether it is the positive control, which has data and entries of its own.
        protocol: what differs from the common protocol.
    """

    heads: list[str] = field(default_factory=list)
    question: str = ""
    controls: bool = False
    layers: bool = False
    simulated: bool = False
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
        if not isinstance(section, Mapping) or not ("heads" in section or section.get("simulated")):
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
    asked_of_data = {name: section for name, section in chosen.items() if not section.simulated}
    blocks: list[Block] = []
    report = Report(Path(output), Path(results), Console())
    with on_ray(ray, gpus_per_run):
        for source in data.split(",") if asked_of_data else []:
            dataset = zoo.open_dataset(source)
            blocks.append(Heading(dataset.name, 1))
            for name, section in asked_of_data.items():
                comparison = zoo.compare(
                    dataset,
                    entries(section.heads, backbones),
                    controls=section.controls,
                    protocol=replace(protocol, **section.protocol),
                    pretrained=pretrained,
                    output=report.output / dataset.name / name,
                    runs=report.output / dataset.name / "runs",
                    workers=workers,
                    ray=ray,
                    gpus_per_run=gpus_per_run,
                )
                blocks += report.take(name, section, comparison)
    for name, section in chosen.items():
        if not section.simulated:
            continue
        blocks.append(Heading("simulated evidence", 1))
        for strength in STRENGTHS:
            blocks += report.take(name, section, positive_control(strength, protocol.seeds))
    write_document(
        [*report.overview([*chosen]), *blocks], report.output / "accuracy", "Does the label graph help?"
    )
    print(f"Report: {report.output / 'accuracy.html'}   Table: {report.results / 'accuracy.csv'}")


@dataclass(frozen=True)
class Report:
    """Where finished comparisons are shown and kept.

    Attributes:
        output: folder of the reports.
        results: folder of the tables.
        console: for those who wait.
        data_sets: names of those that it tells of.
    """

    output: Path
    results: Path
    console: Console
    data_sets: dict[str, None] = field(default_factory=dict)

    def take(self, name: str, section: Section, comparison: Comparison) -> list[Block]:
        """Shows a comparison, keeps its rows, and returns what the report says of it."""
        data = comparison.data.name
        self.data_sets[data] = None
        self.console.rule(f"{data}: {name}")
        self.console.print(comparison.table(), comparison.verdict(), sep="\n")
        self.results.mkdir(parents=True, exist_ok=True)
        tables = {name: comparison.rows()}
        blocks = summary(name, section, comparison, self.output / data / name)
        if name == "overall":
            shutil.copy(self.output / data / name / "trials.csv", self.results / f"{data}_trials.csv")
            try:
                tables["headroom"] = [row := headroom(comparison)]
            except InputError as error:  # too few photos to tell
                blocks.append(f"Headroom: {error}")
            else:
                blocks.append(
                    f"Headroom: with all other labels known, a model of mAP {row['base_mAP']:.3f} could gain about "
                    f"{row['gain_over_baseline']:+.3f}, as estimated from the annotations. Where that is little, no "
                    "label graph can help."
                )
        for key, rows in tables.items():
            lines = [{"section": key, **row} for row in rows]
            replace_rows(self.results / "accuracy.csv", lines, ("data", "section"))
        return blocks

    def overview(self, sections: list[str]) -> list[Block]:
        """One picture of these sections of all data sets, where any of them belongs in it."""
        rows = [
            row
            for row in shown(read_rows(self.results / "accuracy.csv"))
            if row["section"] in sections and row["data"] in self.data_sets
        ]
        if not rows:
            return []
        return [Picture("Overview", plot_overview(rows, self.output / "overview.png"))]


def on_ray(address: str | None, gpus_per_run: float) -> contextlib.AbstractContextManager[None]:
    """One connection for all comparisons; without an address, none."""
    if address is None:
        return contextlib.nullcontext()
    from zoo.ray_runs import check_cluster, connected

    check_cluster(address, gpus_per_run)
    return connected(address)


def summary(name: str, section: Section, comparison: Comparison, folder: Path) -> list[Block]:
    """What the report says of a section: its question, and everything but the protocol, which the CSV rows hold."""
    title, *blocks = comparison.blocks({})
    del title
    blocks = blocks[: blocks.index(Heading("Protocol"))]
    if section.layers:
        blocks += similarities(comparison)
    picture = folder / "comparison.png"
    pictures = [Picture("Test mAP", picture)] if picture.is_file() else []
    return [Heading(f"{name}: {section.question}" if section.question else name), *blocks, *pictures]


def similarities(comparison: Comparison) -> list[Block]:
    """How alike the labels become, layer by layer: over-smoothing."""
    found = {
        r.name: r.runs[0]["label_similarity"] for r in comparison.ranking if "label_similarity" in r.runs[0]
    }
    deepest = max(map(len, found.values()), default=0)
    rows = [
        [name, *(f"{value:.2f}" for value in layers), *[""] * (deepest - len(layers))]
        for name, layers in found.items()
    ]
    return [
        Heading("Over-smoothing"),
        "Mean cosine similarity of two labels' vectors, as they come in and after each layer; 1 is all alike.",
        Table(["model", "vectors", *(f"layer {i}" for i in range(1, deepest))], rows),
    ]


def headroom(comparison: Comparison) -> dict[str, Any]:
    """A row: what knowing all other labels would add to the linear baseline, estimated from annotations alone."""
    linear = [r for r in comparison.results if r.name.startswith("linear-") and ":" not in r.name]
    if not linear:
        raise InputError("it is what a linear layer could gain, and none was compared")
    base = linear[0].interval()[0]
    found = estimate_headroom(comparison.data.split("train").annotations, base=[base])
    both = found.gains[0][1] if found.gains else math.nan
    return {
        "data": comparison.data.name,
        "entry": "all other labels known",
        "kind": "estimate",
        "mAP": round(both, 6),
        "base_mAP": round(base, 6),
        "gain_over_baseline": round(both - base, 6),
        "labels_alone_mAP": round(found.labels_alone, 6),
        "chance": round(found.chance, 6),
        **comparison.provenance,
    }


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning)
    run_command(accuracy)
