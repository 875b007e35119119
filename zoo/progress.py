"""A progress bar for what takes its time, and none for what does not."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 2.0  # seconds


def watched(parts: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """The same parts. On a terminal a bar says how many are done, once they take longer than :data:`PATIENCE`.

    Args:
        parts: of the work.
        what: is being done, in words.
        total: how many parts there are, where ``parts`` has no length; ``None``: nobody knows.
    """
    total = len(parts) if isinstance(parts, Sized) else total
    begin, bar = time.monotonic(), None
    try:
        for done, part in enumerate(parts, start=1):
            yield part
            if bar is None and time.monotonic() - begin > PATIENCE and sys.stderr.isatty():
                from rich.console import Console
                from rich.progress import Progress

                bar = Progress(console=Console(stderr=True), transient=True)
                task = bar.add_task(what, total=total)
                bar.start()
            if bar is not None:
                bar.update(task, completed=done)
    finally:
        if bar is not None:
            bar.stop()
