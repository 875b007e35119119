"""Many paths in little memory: a folder, and the names below it in one array of bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np


class ImagePaths(Sequence[Path]):
    """N paths below one folder, made into ``Path`` objects one by one.

    A million Python objects cost hundreds of bytes each, and worker processes copy every one that they touch.

    Args:
        folder: what the names are relative to; a name that is absolute stays so.
        names: paths as text, "/" between folders.
    """

    def __init__(self, folder: str | Path, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self.folder = Path(folder)
        self._bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self._ends = np.cumsum([0, *map(len, encoded)])
        self._rows = np.arange(len(encoded))

    @classmethod
    def packed(cls, folder: str | Path, names: np.ndarray, ends: np.ndarray) -> ImagePaths:
        """Of names that are packed already: bytes (uint8), and N + 1 ends of which the first is 0."""
        paths = object.__new__(cls)
        paths.folder, paths._bytes, paths._ends = Path(folder), names, ends
        paths._rows = np.arange(len(ends) - 1)
        return paths

    @classmethod
    def of(cls, paths: Iterable[str | Path]) -> ImagePaths:
        """The same paths, whatever holds them."""
        return paths if isinstance(paths, cls) else cls("", (os.fspath(path) for path in paths))

    def take(self, rows: np.ndarray) -> ImagePaths:
        """The paths at these places."""
        taken = ImagePaths.packed(self.folder, self._bytes, self._ends)
        taken._rows = self._rows[rows]
        return taken

    def pack(self) -> tuple[np.ndarray, np.ndarray]:
        """The names as bytes (uint8) and N + 1 ends, as :meth:`packed` takes them."""
        if np.array_equal(self._rows, np.arange(len(self._ends) - 1)):
            return self._bytes, self._ends
        names = [self.name(i).encode("utf-8", "surrogateescape") for i in range(len(self))]
        return np.frombuffer(b"".join(names), dtype=np.uint8), np.cumsum([0, *map(len, names)])

    def name(self, index: int) -> str:
        """The text that one path was given as."""
        row = self._rows[index]
        return os.fsdecode(self._bytes[self._ends[row] : self._ends[row + 1]].tobytes())

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> ImagePaths: ...

    def __getitem__(self, index: int | slice) -> Path | ImagePaths:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return self.folder / self.name(index)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]
