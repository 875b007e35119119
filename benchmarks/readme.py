"""Writes the README's tables and pictures from ``benchmarks/results/*.csv``: ``python benchmarks/readme.py``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import readme_accuracy as accuracy
import readme_cost as cost
from fine_tuning import plot_learning
from overview import plot_overview, shown
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from readme_tables import RESULTS, Row, read
from scale_labels import plot_labels

from zoo.plots import plot_comparison

ROOT = Path(__file__).parent.parent

BLOCKS: dict[str, Callable[..., str]] = {
    "results": accuracy.results,
    "overall": accuracy.overall,
    "few labels": accuracy.few_labels,
    "known labels": accuracy.known_labels,
    "ablation": accuracy.ablation,
    "variants": accuracy.variants,
    "depth": accuracy.depth,
    "positive control": accuracy.positive_control,
    "headroom": accuracy.headroom,
    "unseen labels": accuracy.unseen_labels,
    "fine tuning": accuracy.fine_tuning,
    "speed": cost.speed,
    "heads": cost.heads,
    "scale": cost.scale,
    "labels": cost.labels,
}


def rendered(text: str) -> str:
    """The README with every block between its markers written anew."""

    def block(match: re.Match[str]) -> str:
        kind, argument = match.group(1), match.group(2)
        body = BLOCKS[kind](*(name.strip() for name in argument.split(",")))
        return f"<!-- {kind}: {argument} -->\n{body}\n<!-- end -->"

    return re.sub(rf"<!-- ({'|'.join(BLOCKS)}): (.*?) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def bars(rows: list[Row]) -> list[dict[str, Any]]:
    """Rows of a comparison as :func:`zoo.plots.plot_comparison` takes them."""
    return [
        {
            "name": row["entry"],
            "kind": row["kind"],
            "mean": float(row["mAP"]),
            "half_width": float(row["mAP_half_width"]),
            "values": json.loads(row["mAP_seeds"]),
        }
        for row in rows
    ]


def epochs(rows: list[Row]) -> list[dict[str, Any]]:
    """Rows of learning curves as :func:`zoo.plots.plot_learning` takes them."""
    numbers = ("epoch", "train_loss", "val_mAP")
    return [row | {key: float(row[key]) for key in numbers} for row in rows]


# Picture -> the rows that it shows, and what draws them.
PICTURES: dict[str, tuple[Callable[[], list[Row]], Callable[[list[Row], Path], Path]]] = {
    "overview.png": (lambda: shown(read("accuracy")), plot_overview),
    "demo.png": (lambda: read("demo_results"), lambda rows, path: plot_comparison(bars(rows), path)),
    "scale.png": (lambda: read("scale", section="labels"), plot_labels),
    "fine_tuning.png": (
        lambda: read("fine_tuning", kept="True"),
        lambda rows, path: plot_learning(epochs(rows), path),
    ),
}


def digest(rows: list[Row]) -> str:
    """Names the rows of a picture, which is as old as the rows that it was drawn from."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def drawn_from(picture: Path) -> str | None:
    """The digest of the rows that a picture was drawn from."""
    with Image.open(picture) as image:
        return image.info.get("rows")


def draw(folder: Path = RESULTS) -> None:
    """Draws the pictures whose rows have changed, and writes into each what it was drawn from."""
    for name, (rows_of, plot) in PICTURES.items():
        rows, path = rows_of(), folder / name
        if path.is_file() and drawn_from(path) == digest(rows):
            continue
        note = PngInfo()
        note.add_text("rows", digest(rows))
        with Image.open(plot(rows, path)) as image:
            image.load()
        image.save(path, pnginfo=note, dpi=image.info["dpi"], optimize=True)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(rendered(readme.read_text()))
    draw()
