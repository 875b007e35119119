"""A worker of a comparison on Ray: makes of what the driver works with the bench that the driver would."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from zoo._version import __version__
from zoo.bench import Bench, Outcome
from zoo.data import ImageDataset
from zoo.data.dataset import cache_dir
from zoo.lookup import InputError
from zoo.protocol import Protocol
from zoo.run_identity import RunRequest
from zoo.user_modules import import_module_file, imported_files

if TYPE_CHECKING:
    import ray


@dataclass(frozen=True)
class Setting:
    """What a worker needs to do what the driver would.

    Attributes:
        data: the images.
        protocol: what is the same for all runs.
        pretrained: the backbones' weights.
        image_workers: processes that read images, for each run.
        user_files: with heads, convolutions and losses of the user's own.
        folder: of the driver; relative paths begin there.
        threads: of torch.
        versions: of what the last digits hang on.
    """

    data: ImageDataset
    protocol: Protocol
    pretrained: bool | str | Path
    image_workers: int
    user_files: list[Path]
    folder: Path
    threads: int
    versions: Mapping[str, str]

    @classmethod
    def of(cls, bench: Bench) -> Setting:
        """The setting of this process."""
        given = (bench.data, bench.protocol, bench.pretrained, bench.workers)
        return cls(*given, imported_files(), Path.cwd(), torch.get_num_threads(), _versions())


def _versions() -> dict[str, str]:
    return {"label-graph-zoo": __version__, "torch": torch.__version__}


@lru_cache(maxsize=1)  # one for all runs of a process
def _bench(setting: ray.ObjectRef) -> tuple[Bench, set[str]]:
    """The bench of this worker, and the names of the entries that it is prepared for."""
    import ray

    given: Setting = ray.get(setting)
    if given.versions != _versions():
        raise InputError(f"{socket.gethostname()} has {_versions()}, not the driver's {dict(given.versions)}")
    try:
        os.chdir(given.folder)  # relative paths are relative to it
    except OSError as error:
        raise InputError(
            f"{socket.gethostname()} has no folder {given.folder}: all machines need the driver's files"
        ) from error
    torch.set_num_threads(given.threads)
    for file in given.user_files:
        import_module_file(file)
    return Bench(given.data, given.protocol, given.pretrained, given.image_workers), set()


def run_here(setting: list[ray.ObjectRef], request: RunRequest) -> Outcome:
    """The task: one run in this worker.

    Args:
        setting: one reference to a :class:`Setting`.
        request: the run.
    """
    from filelock import FileLock

    bench, prepared = _bench(setting[0])
    if request.entry.name not in prepared:
        with FileLock(cache_dir() / "ray.lock"):  # one worker computes features, the others wait for them
            bench.prepare([request.entry])
        prepared.add(request.entry.name)
    return bench.run(request)
