"""A large CSV file in blocks of whole lines, each of which knows where it begins."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from zoo.lookup import InputError, unknown

BLOCK = 2**24  # bytes


def blocks_of(path: Path) -> Iterator[tuple[bytes, int]]:
    """The first line of a file, then whole lines of about ``BLOCK`` bytes, each with its first line's number."""
    with path.open("rb") as stream:
        yield stream.readline(), 1
        line, rest = 2, b""
        while block := stream.read(BLOCK):
            block = rest + block
            end = block.rfind(b"\n") + 1
            block, rest = block[:end], block[end:]
            if block:
                yield block, line
            line += block.count(b"\n")
        if rest:
            yield rest, line


def header_of(path: Path, line: bytes, columns: Sequence[str]) -> list[str]:
    """The names of a file's columns, of which those that are wanted must be there once."""
    try:
        header = [name.strip() for name in next(csv.reader([line.decode("utf-8-sig")]), [])]
    except UnicodeDecodeError as error:
        raise InputError(f"{path} line 1 is not UTF-8 ({error.reason}): save it as CSV UTF-8") from None
    for name in columns:
        if name not in header:
            raise InputError(f"{path} line 1: {unknown('column', name, header)} (read with commas)")
        if header.count(name) > 1:
            raise InputError(f"{path} line 1: more than one column named {name!r}")
    # Of other columns only the number counts, and pyarrow wants names that differ.
    return [name if name in columns else f"\0{i}" for i, name in enumerate(header)]


@contextmanager
def bytes_progress(what: str, size: int) -> Iterator[Callable[[int], None]]:
    """A bar of bytes, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=size)
        yield lambda done: progress.advance(task, done)
