"""Does the label graph help, and which convolution? Grids over ``zoo.compare``, one table a data set.

    python benchmarks/accuracy.py                                    the embedded data set, default entries
    python benchmarks/accuracy.py --data photos/a,photos/b --heads linear,mlgcn,mlgcn:conv=TAGConv \\
        --backbones tf_efficientnet_lite0,resnet18 --protocol.seeds 5

The grid is heads x backbones on each data set, plus the baselines and controls that ``zoo.compare`` adds. What is
finished is kept under ``--output`` and not run again; the tables go to ``--results``, one CSV a data set.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

from jsonargparse import auto_cli
from rich.console import Console

import zoo
from zoo.comparison import Protocol
from zoo.entry import BACKBONE, DEFAULT_HEADS, split_names
from zoo.lookup import InputError

RESULTS = Path(__file__).parent / "results"


def entries(heads: str, backbones: str) -> list[str]:
    """Every head on every backbone: ``mlgcn:conv=GATConv`` and ``resnet18`` make ``mlgcn-resnet18:conv=GATConv``."""
    names = []
    for backbone in backbones.split(","):
        for head in split_names(heads):
            name, colon, options = head.partition(":")
            names.append(f"{name}-{backbone}{colon}{options}")
    return names


def accuracy(
    data: str = "openmoji",
    heads: str = ",".join(DEFAULT_HEADS),
    backbones: str = BACKBONE,
    protocol: Protocol = Protocol(),  # noqa: B008 (frozen, and jsonargparse reads the default)
    output: str = "runs/accuracy",
    results: str = str(RESULTS),
    pretrained: bool | str = True,
    workers: int = 2,
) -> None:
    """Runs the grid.

    Args:
        data: data sets, by name or path, separated by commas.
        heads: heads with their options after colons, separated by commas.
        backbones: timm names, separated by commas.
        protocol: search, seeds and training, the same for all.
        output: where reports and finished runs are kept.
        results: where the tables are kept.
        pretrained: the backbones' weights: true (timm's), false, or a file.
        workers: processes that read images.
    """
    console = Console()
    for source in data.split(","):
        dataset = zoo.open_dataset(source)
        comparison = zoo.compare(
            dataset,
            entries(heads, backbones),
            protocol=protocol,
            pretrained=pretrained,
            output=Path(output) / dataset.name,
            workers=workers,
        )
        console.print(comparison.table(), comparison.verdict(), sep="\n")
        Path(results).mkdir(parents=True, exist_ok=True)
        kept = {"results.csv": "_results.csv", "trials.csv": "_trials.csv", "comparison.png": ".png"}
        for file, ending in kept.items():
            shutil.copy(Path(output) / dataset.name / file, Path(results) / f"{dataset.name}{ending}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        auto_cli(accuracy, as_positional=False)
    except InputError as error:
        raise SystemExit(f"accuracy: {error}") from None
