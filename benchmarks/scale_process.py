"""A piece of a benchmark's work in a process of its own, whose memory is its own."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

FEWEST = 5  # repeats that a median is of


@dataclass(frozen=True)
class Sizes:
    """How large the work is.

    Attributes:
        rows: of the label CSV; the images that have as many are counted.
        num_labels: of these images.
        labels: L of the label graphs; exponents are fitted from 1,000 labels on.
        trained: images, and labels, of a training.
        evaluated: images, and labels, of an evaluation.
        seconds: for which short work is repeated, five times at least.
    """

    rows: int = 60_000_000
    num_labels: int = 20_000
    labels: tuple[int, ...] = (80, 1_000, 10_000, 100_000)
    trained: tuple[int, int] = (256, 100_000)
    evaluated: tuple[int, int] = (125_000, 9_605)
    seconds: float = 2.0


SMOKE = Sizes(
    rows=2_000,
    num_labels=200,
    labels=(80, 1_000, 2_000),
    trained=(64, 300),
    evaluated=(500, 40),
    seconds=0.0,
)


def measure(work: Callable[..., dict[str, float] | None], *arguments: Any) -> dict[str, Any]:
    """A row of the table: what a function took in a process of its own; what it prints is the note."""
    return {"work": work.__name__, **apart(_measured, work, arguments)}


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives in a process of its own, forked from this one: it begins with what is imported here."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as fresh:
        running = fresh.submit(function, *arguments)  # it is forked here, before there are threads
        with Console(stderr=True).status(
            " ".join(getattr(word, "__name__", str(word)) for word in arguments)
        ):
            return running.result()


def _measured(work: Callable[..., dict[str, float] | None], arguments: tuple[Any, ...]) -> dict[str, Any]:
    said = io.StringIO()
    began, used = time.perf_counter(), time.process_time()
    # Bars of the work would fall into that of the process that waits for it.
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        own = work(*arguments) or {}
    figures = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - used,
        "peak_MiB": peak_memory(),
    }
    rounded = {name: float(f"{value:.4g}") for name, value in (figures | own).items()}
    return {**rounded, "note": " ".join(said.getvalue().split())}


def peak_memory() -> float:
    """MiB that this process has had at most; its ``ru_maxrss`` would count those of its parent too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10


@contextlib.contextmanager
def noted(what: str) -> Iterator[None]:
    """Prints how long a part of the work took."""
    began, used = time.perf_counter(), time.process_time()
    yield
    print(f"{what} in {time.perf_counter() - began:.1f} s ({time.process_time() - used:.1f} s of CPU),")


def repeated(
    make: Callable[[int], Callable[[], object]], num_labels: int, seconds: float
) -> dict[str, float]:
    """What ``make`` gives for so many labels: median time, and memory that it holds and takes beyond the imports.

    The same is made and run for ten labels before, for imports and threads that wait for their first use, and run once
    for all labels. The increase leaves out what is let go when all is made; the peak does not.
    """
    make(10)()
    before = peak_memory()
    run = make(num_labels)
    peak = peak_memory()
    with contextlib.suppress(OSError):  # where it is forbidden, the increase is that of the making too
        Path("/proc/self/clear_refs").write_text("5")  # the peak is the present from now on (man 5 proc)
    run()
    times: list[tuple[float, float]] = []
    while len(times) < FEWEST or sum(elapsed for elapsed, _ in times) < seconds:
        began, used = time.perf_counter(), time.process_time()
        run()
        times.append((time.perf_counter() - began, time.process_time() - used))
    print(f"median of {len(times)};")
    elapsed, cpu = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "seconds": elapsed,
        "cpu_seconds": cpu,
        "peak_MiB": max(peak, peak_memory()),
        "increase_MiB": peak_memory() - before,
    }
