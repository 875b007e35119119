"""Lists of images as published files have them: lines, JSON with the place of what is wrong, each image once."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Int, Shaped

from zoo.annotations import Annotations
from zoo.data.dataset import shorten
from zoo.data.splits import SPLITS, complete_splits
from zoo.lookup import InputError

CHUNK = 2**20
PROGRESS_BYTES = 64 * 2**20  # larger files take seconds to parse


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, without blanks around them and without empty ones at its end.

    Raises:
        InputError: it is not UTF-8, has no lines, or an empty one among them, which would shift all that follow.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    if not lines:
        raise InputError(f"{path} is empty")
    if "" in lines:
        raise InputError(f"{path} line {lines.index('') + 1} is empty: expected one entry a line")
    return lines


def read_json(path: Path, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The contents of a JSON file.

    Args:
        path: the file.
        pairs: makes each object of its (key, value) pairs; by default a dict, in which the last of equal keys stays.

    Raises:
        InputError: it is no JSON, with line and column.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=pairs)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path} line {error.lineno} column {error.colno}: {error.msg}") from None


def stream_json(path: Path) -> Iterator[Any]:
    """The items of a JSON file that is one array, one after the other: gigabytes of objects need never be at once.

    Raises:
        InputError: it is no such JSON, with line and column.
    """
    with ExitStack() as stack:
        stream: BinaryIO = stack.enter_context(path.open("rb"))
        if (size := path.stat().st_size) > PROGRESS_BYTES:
            from rich.console import Console
            from rich.progress import wrap_file

            console = Console(stderr=True)
            bar = wrap_file(
                stream,
                size,
                description=path.name,
                console=console,
                transient=True,
                disable=not console.is_terminal,
            )
            stream = stack.enter_context(bar)
        text = _Text(path, stream)
        if text.next() != "[":
            raise text.error("expected an array: [ ... ]")
        text.skip()
        mark = text.next()
        if mark != "]":
            yield text.value()
            while (mark := text.next()) == ",":
                text.skip()
                text.next()
                yield text.value()
        if mark != "]":
            raise text.error("expected , or ] after an item")
        text.skip()
        if text.next():
            raise text.error("expected nothing after the array")


class _Text:
    """What is read of a file and not yet used, and where that begins."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path, self.stream, self.json = path, stream, json.JSONDecoder()
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.buffer, self.at = "", 0
        self.line, self.column = 1, 1  # of the buffer's first character

    def place(self, position: int) -> tuple[int, int]:
        lines = self.buffer.count("\n", 0, position)
        last = self.buffer.rfind("\n", 0, position)
        return self.line + lines, position - last if lines else self.column + position

    def error(self, message: str, position: int | None = None) -> InputError:
        line, column = self.place(self.at if position is None else position)
        return InputError(f"{self.path} line {line} column {column}: {message}")

    def more(self) -> bool:
        """Reads on; the more the longer the rest is, so that no item is parsed again and again."""
        chunk = self.stream.read(max(CHUNK, len(self.buffer) - self.at))
        self.line, self.column = self.place(self.at)
        try:
            self.buffer = self.buffer[self.at :] + self.decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path} is not UTF-8: {error.reason}") from None
        self.at = 0
        return bool(chunk)

    def skip(self) -> None:
        self.at += 1

    def next(self) -> str:
        """The next character that is no blank, which stays; "" at the end of the file."""
        while True:
            while self.at < len(self.buffer):
                if (character := self.buffer[self.at]) not in " \t\r\n":
                    return character
                self.at += 1
            if not self.more():
                return ""

    def value(self) -> Any:
        while True:
            try:
                value, end = self.json.raw_decode(self.buffer, self.at)
            except json.JSONDecodeError as error:
                offset = error.pos - self.at  # what is read on moves the beginning
                if not self.more():
                    raise self.error(error.msg, self.at + offset) from None
                continue
            length = end - self.at
            # 12 may be the beginning of 12.5, and so may "12."
            if self.buffer[end : end + 1] in (*" \t\r\n,]",) or not self.more():
                self.at += length
                return value


def list_once(
    names: Sequence[str], splits: Shaped[np.ndarray, " N"], annotations: Annotations
) -> tuple[Int[np.ndarray, " K"], tuple[str, ...]]:
    """Which rows to keep so that no image is there twice, and remarks on the others.

    An image that is in several splits stays in test, or else in val: what is tested must not be trained on. Within
    a split the first row stays.
    """
    last_first = {split: -rank for rank, split in enumerate(("", *SPLITS))}
    first: dict[str, int] = {}
    again: list[int] = []
    torn: list[int] = []
    differing = 0
    for row in sorted(range(len(names)), key=lambda row: last_first[str(splits[row])]):
        kept = first.setdefault(names[row], row)
        if kept != row:
            (again if splits[kept] == splits[row] else torn).append(row)
            differing += not _same(annotations, kept, row)
    remarks = remark_counts(
        {
            f"image(s) listed again were left out: {_name(names, again)}": len(again),
            f"image(s) of several splits stay in the last of them alone: {_name(names, torn)}": len(torn),
            "of these had other labels where they were left out": differing,
        }
    )
    return np.setdiff1d(np.arange(len(names)), [*again, *torn]), remarks


def remark_counts(remarks: Mapping[str, int]) -> tuple[str, ...]:
    """Remarks of what there is any of: ``{"images left out": 3, "labels merged": 0}`` is "3 images left out"."""
    return tuple(f"{count:,} {remark}" for remark, count in remarks.items() if count)


def _same(annotations: Annotations, row: int, other: int) -> bool:
    return bool((annotations.row(row) == annotations.row(other)).all())


def _name(names: Sequence[str], rows: Iterable[int]) -> str:
    return shorten([names[row] for row in rows], 3)


def fill_splits(
    splits: Shaped[np.ndarray, " N"], annotations: Annotations, seed: int
) -> Shaped[np.ndarray, " N"]:
    """:func:`zoo.data.splits.complete_splits`, with a sign of life: it takes ten seconds for 100,000 images."""
    from rich.console import Console

    with Console(stderr=True).status("Splitting"):
        return complete_splits(splits, annotations.targets(), seed=seed)


def split_sizes(splits: Shaped[np.ndarray, " N"]) -> str:
    """``125 train, 40 val, 50 test``, for protocols."""
    return ", ".join(f"{(splits == split).sum():,} {split}" for split in SPLITS)
