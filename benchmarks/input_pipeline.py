"""How quickly photos become batches: JPEG decoders, the training loader beside timm's, the memory of its workers.

    python benchmarks/input_pipeline.py [--sections '[decoding]'] [--photos FOLDER] [--count 512]

What is compared takes turns, so that whatever else the machine does meets all of it: images per second are medians
over the rounds, and ratios medians of the rounds' own. Without photos it makes some, smooth ones with noise. A row of
the table is replaced when the same work of the same size is measured again.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm.data
import torch
from jsonargparse import auto_cli
from PIL import Image
from rich.console import Console
from rich.progress import track
from table import provenance, replace_rows
from timm.data.readers.reader import Reader
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg, read_file

import zoo
from zoo.annotations import Annotations
from zoo.augment import build_augmentation
from zoo.data import ImageDataset
from zoo.lookup import InputError, lookup
from zoo.recipe import Recipe
from zoo.train import image_loader

LIBRARIES = ("torch", "torchvision", "pillow", "timm")
COLUMNS = (
    *("section", "work", "size", "images_per_second", "images_per_second_per_core", "ratio"),
    *("largest_difference", "mean_difference", "start_MiB", "growth_MiB"),
)
INPUT_SIZE = 224
LABELS = [f"label {i}" for i in range(20)]


def make_photos(folder: Path, count: int) -> list[Path]:
    """JPEGs of 640 x 480 and of 500 x 375 pixels, the usual sizes of COCO and VOC, by turns."""
    generator = np.random.default_rng(0)
    paths = []
    for i in range(count):
        width, height = ((640, 480), (500, 375))[i % 2]
        colours = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        smooth = np.asarray(colours.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
        pixels = smooth + generator.normal(0, 8, smooth.shape)
        paths.append(folder / f"{i:04}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def by_pillow(path: Path) -> Image.Image:
    """As this project does, and timm."""
    with Image.open(path) as image:
        return image.convert("RGB")


def by_pillow_draft(path: Path) -> Image.Image:
    """Decoded at 1/2, 1/4 or 1/8 where that is no smaller than the input of the model: fewer frequencies."""
    with Image.open(path) as image:
        image.draft("RGB", (INPUT_SIZE, INPUT_SIZE))
        return image.convert("RGB")


def by_torchvision(path: Path) -> Tensor:
    """To a tensor (3, H, W)."""
    return decode_jpeg(read_file(str(path)), mode=ImageReadMode.RGB)


DECODERS: dict[str, Callable[[Path], Image.Image | Tensor]] = {
    "Pillow": by_pillow,
    "Pillow, draft mode": by_pillow_draft,
    "torchvision": by_torchvision,
}


def as_input(decoded: Image.Image | Tensor) -> np.ndarray:
    """Squashed to the input size by Pillow, as int16 (H, W, 3)."""
    if isinstance(decoded, Tensor):
        decoded = Image.fromarray(decoded.permute(1, 2, 0).numpy())
    return np.asarray(decoded.resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC), dtype=np.int16)


def compare(
    passes: Mapping[str, Callable[[], int]], peer: str, rounds: int, *, cores: int = 1
) -> list[dict[str, Any]]:
    """Rows of images per second, and the ratio to the peer, of passes that each say how many images they were."""
    rates: dict[str, list[float]] = {name: [] for name in passes}
    for round_ in track(range(rounds + 1), "measuring", console=Console(stderr=True), transient=True):
        order = list(passes)
        for name in order if round_ % 2 else order[::-1]:  # each meets what the other left in the caches
            began = time.perf_counter()
            images = passes[name]()
            if round_:  # before the first, files are not in memory and workers not started
                rates[name].append(images / (time.perf_counter() - began))
    return [
        {
            "work": name,
            "images_per_second": round(statistics.median(own), 1),
            "images_per_second_per_core": round(statistics.median(own) / cores, 1),
            "ratio": round(statistics.median(np.divide(own, rates[peer]).tolist()), 3),
        }
        for name, own in rates.items()
    ]


def decoding(photos: list[Path], rounds: int, entries: int) -> Iterator[dict[str, Any]]:
    """Section: decoders of JPEG on one core, and how far from Pillow's is what a model would see, of 255."""

    def decode_all(decode: Callable[[Path], Image.Image | Tensor]) -> int:
        for path in photos:
            decode(path)
        return len(photos)

    passes = {name: partial(decode_all, decode) for name, decode in DECODERS.items()}
    for row in compare(passes, "Pillow", rounds):
        decode = DECODERS[row["work"]]
        differences = [np.abs(as_input(decode(path)) - as_input(by_pillow(path))) for path in photos]
        yield {
            **row,
            "largest_difference": max(int(difference.max()) for difference in differences),
            "mean_difference": round(float(np.mean([difference.mean() for difference in differences])), 4),
        }


class FileReader(Reader):
    """What timm's data set asks for files: opened, with a target."""

    def __init__(self, files: list[Path]) -> None:
        super().__init__()
        self.files = files

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.files[index].open("rb"), 0

    def __len__(self) -> int:
        return len(self.files)

    def _filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        return str(self.files[index])


def labelled(photos: Sequence[Any]) -> ImageDataset:
    """These paths, each with up to three labels, all of them for training."""
    targets = np.zeros((len(photos), len(LABELS)), dtype=np.int8)
    targets[np.arange(len(photos))[:, None], np.random.default_rng(0).integers(0, 20, (len(photos), 3))] = 1
    splits = np.full(len(photos), "train")
    return ImageDataset("photos", photos, Annotations.from_array(targets), LABELS, splits)


def loading(photos: list[Path], rounds: int, entries: int) -> Iterator[dict[str, Any]]:
    """Section: the loader of a training beside timm's, with the same files, transform, batch size and workers."""
    data = labelled(photos)
    graph = zoo.label_graph(data.label_counts(), embeddings="random")
    model = zoo.build("linear-test_resnet", labels=graph, img_size=INPUT_SIZE)
    recipe = Recipe(batch_size=min(32, len(photos)))

    def one_epoch(loader: DataLoader) -> int:
        return sum(len(images) for images, _ in loader)

    for workers in (0, 2):
        ours = image_loader(model, data, "train", recipe, workers=workers)
        files = timm.data.ImageDataset("", reader=FileReader(photos))
        theirs = timm.data.create_loader(
            files,
            input_size=(3, INPUT_SIZE, INPUT_SIZE),
            batch_size=recipe.batch_size,
            is_training=True,
            use_prefetcher=False,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
        # create_loader has given the files a transform of timm's.
        files.transform = build_augmentation(recipe.augment, model.backbone.data_config)
        passes = {
            f"{name}, {workers} workers": partial(one_epoch, loader)
            for name, loader in (("zoo", ours), ("timm", theirs))
        }
        cores = min(max(workers, 1), len(os.sched_getaffinity(0)))
        yield from compare(passes, f"timm, {workers} workers", rounds, cores=cores)


class Entries(Dataset):
    """What a worker reads of an image data set beside the pixels: a path and targets."""

    def __init__(self, data: ImageDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Path, np.ndarray]:
        return self.data.images[index], self.data.annotations.row(index, "positive")


def own_memory(batch: object) -> float:
    """MiB that this process shares with no other. What it shared with its parent it copies to write to it.

    To count a reference is to write: a worker copies the page of every Python object that it looks at.
    """
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 2**10


def collect_garbage(worker: int) -> None:
    """What sooner or later happens in every worker, and writes to all objects that imports have made."""
    gc.collect()


def memory_of_worker(work: str, entries: int, reads: int) -> tuple[float, float]:
    """MiB of a worker's own after its first batch, and how many more they have become after so many reads."""
    names = [f"train/{i:012}.jpg" for i in range(entries)]
    data: Any = (
        Entries(labelled(names)) if work == "zoo" else [(name, i % 20) for i, name in enumerate(names)]
    )
    gc.collect()
    # In order: a shuffled list would be written by the parent, over memory that the worker then has alone.
    loader: DataLoader = DataLoader(
        data,
        batch_size=max(reads // 50, 1),  # to look at its memory takes tens of milliseconds
        sampler=(i % entries for i in range(reads)),
        num_workers=1,
        worker_init_fn=collect_garbage,
        collate_fn=own_memory,  # it runs in the worker, after the entries of a batch are read
        multiprocessing_context="fork",
    )
    first, *later = loader
    return first, max(later) - first


def memory(photos: list[Path], rounds: int, entries: int) -> Iterator[dict[str, Any]]:
    """Section: what a worker's own memory grows by when it reads all entries, though no image.

    The smaller data set is read over and over, so that both are read as often: what reading itself needs, such as
    Python's table of the parts of paths, is the same, and the rest is what grows with the data set.

    The peer is a Python list of (path, label) pairs, which is what folder readers keep. Linux alone tells.
    """
    works = [(work, count) for count in (entries // 10, entries) for work in ("zoo", "list of pairs")]
    # Processes of their own, which share nothing with what was measured before; what they import is imported once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([Path(__file__).stem])
    for work, count in track(works, "reading", console=Console(stderr=True), transient=True):
        with ProcessPoolExecutor(1, mp_context=context) as fresh:
            start, growth = fresh.submit(memory_of_worker, work, count, entries).result()
        yield {
            "work": work,
            "size": f"{count:,} entries",
            "start_MiB": round(start, 1),
            "growth_MiB": round(growth, 1),
        }


SECTIONS: dict[str, Callable[[list[Path], int, int], Iterator[dict[str, Any]]]] = {
    "decoding": decoding,
    "loading": loading,
    "memory": memory,
}


def main(
    sections: list[str] | None = None,
    photos: Path | None = None,
    count: int = 512,
    rounds: int = 7,
    entries: int = 1_000_000,
    output: Path = Path("benchmarks/results/input_pipeline.csv"),
) -> None:
    """Measures, and writes one CSV row for each piece of work and size, with machine and versions.

    Args:
        sections: which; all by default.
        photos: a folder of JPEGs; the film posters of $ZOO_DATA unless given, or synthetic ones where there are none.
        count: how many of them.
        rounds: how often each is measured; the median counts.
        entries: of the data set whose workers' memory is measured, and a tenth of it.
        output: where the table goes.
    """
    chosen = {name: lookup("section", name, SECTIONS) for name in sections or SECTIONS}
    torch.set_num_threads(1)  # as in a worker
    made = provenance(LIBRARIES)
    if photos is None and "ZOO_DATA" in os.environ:
        photos = Path(os.environ["ZOO_DATA"], "posters", "images")
    with tempfile.TemporaryDirectory() as temporary:
        files = sorted(photos.glob("*.jpg"))[:count] if photos else make_photos(Path(temporary), count)
        if not files:
            raise InputError(f"{photos}: the folder holds no .jpg")
        width, height = (
            statistics.median(side) for side in zip(*(by_pillow(file).size for file in files), strict=True)
        )
        size = f"{len(files)} {photos.parent.name if photos else 'synthetic'} images, median {width:g} x {height:g}"
        for section, measure in chosen.items():
            table = [
                {"section": section, "size": size, **row, **made} for row in measure(files, rounds, entries)
            ]
            for row in table:
                print(", ".join(f"{key} {value}" for key, value in row.items() if key not in made))
            replace_rows(output, table, ("work", "size"), COLUMNS)
    print(f"written to {output}")


if __name__ == "__main__":
    auto_cli(main)
