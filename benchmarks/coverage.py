"""Which timm models work: builds ``mlgcn-<name>`` for every name and sends one image through it.

    python benchmarks/coverage.py [--filter 'resnet*'] [--output benchmarks/results/coverage.csv]

Models are built on the meta device, which has shapes and no numbers, so that five billion parameters take no
memory; what cannot be built there is built for real. A quarter of an hour for all names on one core.
"""

from __future__ import annotations

import csv
import datetime
import importlib.metadata
import logging
import platform
import sys
from pathlib import Path

import timm
import torch
from jsonargparse import auto_cli
from rich.progress import track

import zoo

LIBRARIES = ("torch", "timm", "torch-geometric")
COLUMNS = ("name", "status", "num_features", "map_height", "map_width", "million_parameters", "how", "reason")


@torch.inference_mode()
def run(name: str, device: str) -> dict[str, object]:
    """Sends one image of the model's own size through it.

    Raises:
        ValueError: the feature map or the logits have another shape than promised.
    """
    with torch.device(device):
        model = zoo.build(f"mlgcn-{name}", labels="voc2007").eval()
        feature_map = model.backbone(torch.zeros(1, *model.backbone.data_config["input_size"]))
        logits = model.head(feature_map)
    num_features, labels = model.backbone.num_features, len(model.label_names)
    if feature_map.ndim != 4 or feature_map.shape[1] != num_features or logits.shape != (1, labels):
        raise ValueError(f"map {tuple(feature_map.shape)}, logits {tuple(logits.shape)}, D {num_features}")
    parameters = sum(parameter.numel() for parameter in model.backbone.parameters())
    return {
        "status": "ok",
        "num_features": num_features,
        "map_height": feature_map.shape[2],
        "map_width": feature_map.shape[3],
        "million_parameters": round(parameters / 1e6, 3),
    }


def try_model(name: str) -> dict[str, object]:
    """One row of the table: what came out, or why nothing did."""
    reasons = []
    for device in ("meta", "cpu"):
        try:
            return {"name": name, "how": device, **run(name, device)}
        except Exception as error:  # a model that fails is a result here, whatever the reason
            reasons.append(f"{device}: {type(error).__name__}: {error}")
    return {"name": name, "status": "failed", "reason": " | ".join(reasons)}


def main(filter: str = "*", output: Path = Path("benchmarks/results/coverage.csv")) -> None:
    """Writes one CSV row a timm name, with the versions it was measured with; fails if a model does.

    Args:
        filter: a shell pattern that timm names have to match.
        output: where the table goes.
    """
    logging.getLogger("timm").setLevel(logging.ERROR)  # names without pretrained weights warn, each of them
    names = timm.list_models(filter)
    provenance = {
        "zoo": zoo.__version__,
        **{library: importlib.metadata.version(library) for library in LIBRARIES},
        "date": datetime.date.today().isoformat(),
        "device": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    failed = []
    with output.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *provenance], restval="", lineterminator="\n")
        writer.writeheader()
        for name in track(names, "timm models"):
            row = try_model(name)
            writer.writerow({**row, **provenance})
            file.flush()
            if row["status"] != "ok":
                failed.append(name)
    print(f"{len(names) - len(failed)} of {len(names)} timm models work; written to {output}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    auto_cli(main)
