"""Every image of a data set read once, before a run finds the damaged one hours later."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import os
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from zoo.data.dataset import ImageDataset, cache_dir, shorten
from zoo.data.images import STORAGE, StorageError
from zoo.data.looks import Look, look_at
from zoo.data.paths import ImagePaths
from zoo.data.splits import SPLITS
from zoo.lookup import InputError
from zoo.progress import watched

# Kinds of problems that may be gone without a change of the file's size or date: their scans are not kept.
PASSING = {STORAGE, "permission denied"}


class Problem(NamedTuple):
    """An image that cannot be read: its absolute path, the kind in a word or two, the error's message."""

    file: str
    kind: str
    message: str


class Extreme(NamedTuple):
    """Width and height in pixels, upright, and the absolute path of the image that has them."""

    width: int
    height: int
    file: str


@dataclass(frozen=True)
class Scan:
    """What reading every image found. Damage that a decoder passes over is not found.

    Attributes:
        total: images that were tried.
        problems: those that cannot be read.
        unusual: kinds of images that were read but differ from an upright RGB photo, and how many of each.
        smallest: the image of the fewest pixels, if any was read.
        largest: the image of the most.
    """

    total: int
    problems: tuple[Problem, ...] = ()
    unusual: dict[str, int] = field(default_factory=dict)
    smallest: Extreme | None = None
    largest: Extreme | None = None

    def report(self) -> str:
        """Counts, the first files of each kind of problem, and what is unusual, as wide as the terminal."""
        bad = len(self.problems)
        lines = [f"{self.total:,} images: {self.total - bad:,} read, {bad:,} cannot be read"]
        by_kind: dict[str, list[Problem]] = {}
        for problem in self.problems:
            by_kind.setdefault(problem.kind, []).append(problem)
        if bad:
            top = os.path.commonpath([os.path.dirname(problem.file) for problem in self.problems])
            lines.append(f"  cannot be read, in {top}:")
            for kind, problems in sorted(by_kind.items(), key=lambda item: -len(item[1])):
                names = [os.path.relpath(problem.file, top) for problem in problems]
                lines.append(f"    {kind} {len(names):,}: {shorten(names, 3)}")
                lines.append(f"      the first: {problems[0].message}")
        if self.unusual:
            kinds = sorted(self.unusual.items(), key=lambda item: -item[1])
            lines.append(f"  unusual, but read: {', '.join(f'{kind} {n:,}' for kind, n in kinds)}")
        if self.smallest and self.largest:
            for word, image in (("smallest", self.smallest), ("largest", self.largest)):
                lines.append(f"  {word}: {image.width:,} x {image.height:,} pixels, {Path(image.file).name}")
        text = "\n".join(map(_wrapped, lines))
        return text.encode("utf-8", "backslashreplace").decode()  # names may be no text

    def save(self, path: str | Path) -> Path:
        """Writes the problems as CSV: file, kind, message."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
            csv.writer(stream).writerows([Problem._fields, *self.problems])
        return path


def scan_images(
    images: ImageDataset | Iterable[str | Path], *, workers: int = 2, progress: bool = True
) -> Scan:
    """Decodes every image, in parallel.

    The result is kept in the cache under the files' names, sizes and dates, so that a second scan takes no longer
    than to ask for those; not where storage or permissions stood in the way.

    Args:
        images: a data set or the paths of images.
        workers: processes that read images; 0: this one.
        progress: whether to show a bar, where there is a terminal.

    Raises:
        InputError: fewer than no workers.
    """
    if workers < 0:
        raise InputError(f"workers must be 0 or more, not {workers}")
    given = images.images if isinstance(images, ImageDataset) else images
    paths = ImagePaths.of(Path(path).absolute() for path in given)
    file = cache_dir() / "scans" / f"{_key(paths, progress)}.json"
    if file.is_file():
        kept = json.loads(file.read_text())
        kept["problems"] = tuple(Problem(*row) for row in kept["problems"])
        for end in ("smallest", "largest"):
            kept[end] = kept[end] and Extreme(*kept[end])
        return Scan(**kept)
    scan = _scan(paths, workers, progress)
    if not PASSING & {problem.kind for problem in scan.problems}:
        file.parent.mkdir(exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")  # several processes may scan one data set
        part.write_text(json.dumps(asdict(scan)))
        os.replace(part, file)
    return scan


def readable(data: ImageDataset, *, workers: int = 2, progress: bool = True) -> ImageDataset:
    """The data set without the images that cannot be read; its protocol and a remark say how many those are.

    Raises:
        StorageError: an image cannot be read because of the disk or network that holds it.
        InputError: no image of a split can be read.
    """
    problems = {
        problem.file: problem for problem in scan_images(data, workers=workers, progress=progress).problems
    }
    if not problems:
        return data
    lost = [problem for problem in problems.values() if problem.kind == STORAGE]
    if lost:
        raise StorageError(
            f"{data.name}: {len(lost):,} of {len(data):,} images cannot be read. The first: {lost[0].message}"
        )
    bad = np.array([str(path.absolute()) in problems for path in data.images])
    left_out = {name: int((bad & (data.splits == name)).sum()) for name in SPLITS}
    first = next(iter(problems.values())).message
    for name, count in left_out.items():
        if count and count == (data.splits == name).sum():
            raise InputError(
                f"{data.name}: none of the {count:,} images of split {name!r} can be read. The first: {first}"
            )
    where = ", ".join(f"{name} {count:,}" for name, count in left_out.items() if count)
    names = [Path(file).name for file in problems]
    protocol = f"{bad.sum():,} unreadable images left out ({where})"
    remark = f"{bad.sum():,} of {len(data):,} images cannot be read and are left out ({where}): {shorten(names, 3)}"
    return replace(
        data.take(np.flatnonzero(~bad)),
        protocol="; ".join(filter(None, (data.protocol, protocol))),
        remarks=(*data.remarks, f"{remark}; zoo scan names them all"),
    )


class _Looks(Dataset):
    def __init__(self, paths: ImagePaths) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Look:
        return look_at(self.paths[index])


def _scan(paths: ImagePaths, workers: int, progress: bool) -> Scan:
    loader = DataLoader(
        _Looks(paths),
        batch_size=16,
        num_workers=workers,
        collate_fn=list,
        generator=torch.Generator(),  # its own, or a scan would change the random numbers of a run
    )
    looks: Iterable[Look] = itertools.chain.from_iterable(loader)
    if progress:
        looks = watched(looks, "reading every image", len(paths))
    problems, unusual = [], Counter[str]()
    smallest: Extreme | None = None
    largest: Extreme | None = None
    for index, look in enumerate(looks):
        file = os.fspath(paths[index])
        if look.problem:
            problems.append(Problem(file, *look.problem))
            continue
        unusual.update(look.kinds)
        size = Extreme(*look.size, file)
        if smallest is None or size.width * size.height < smallest.width * smallest.height:
            smallest = size
        if largest is None or size.width * size.height > largest.width * largest.height:
            largest = size
    return Scan(len(paths), tuple(problems), dict(unusual), smallest, largest)


def _key(paths: ImagePaths, progress: bool) -> str:
    """16 hexadecimal digits for the files as they are now, and for what reads them."""
    limit = Image.MAX_IMAGE_PIXELS
    digest = hashlib.blake2b(f"1 {PIL.__version__} {limit}\n".encode(), digest_size=8)
    for path in watched(paths, "looking at every file") if progress else paths:
        try:
            status = path.stat()
            state = f"{status.st_size} {status.st_mtime_ns}"
        except OSError as error:
            state = f"{error.errno}"
        digest.update(os.fsencode(path) + f"\0{state}\n".encode())
    return digest.hexdigest()


def _wrapped(line: str) -> str:
    width = max(shutil.get_terminal_size((100, 24)).columns, 40)
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
