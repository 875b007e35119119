"""Names by the million, numbered without a Python object for any of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from zoo.data.paths import ImagePaths

PART = 2**19  # names that are compared at once


class NumberedNames:
    """Names and their numbers, in the order in which they came first.

    A name costs its bytes and 8 more. Names are taken in as they come and numbered together (:meth:`settle`), by
    who has to say when: seldom enough that this takes no time, often enough that repetitions take no memory.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        import pyarrow as pa

        self.known = pa.array(names, pa.large_string())
        self.pending: list[Any] = []  # may repeat themselves, and what is known
        self.num_pending = 0

    @property
    def count(self) -> int:
        return len(self.known)

    def add(self, names: Any) -> int:
        """Takes a pyarrow array of names (large_string) in; returns how many wait before them to be numbered."""
        before = self.num_pending
        self.pending.append(names)
        self.num_pending += len(names)
        return before

    def settle(self) -> np.ndarray:
        """The numbers of the names that waited."""
        import pyarrow as pa

        names = pa.concat_arrays([self.known, *self.pending])
        first = np.arange(len(names))  # where the same name came first
        for rows in _parts(names):
            codes = names.take(pa.array(rows)).dictionary_encode().indices.to_numpy()
            new = np.flatnonzero(np.diff(np.maximum.accumulate(codes), prepend=-1))  # codes count upwards
            first[rows] = rows[new][codes]
        is_first = first == np.arange(len(names))
        numbers = (np.cumsum(is_first, dtype=np.int32) - 1)[first[len(self.known) :]]
        self.known = names if is_first.all() else names.filter(pa.array(is_first))
        self.pending, self.num_pending = [], 0
        return numbers


def _parts(names: Any) -> Iterator[np.ndarray]:
    """The rows of names in a few parts, equal names in one: a hash table takes ten times the memory of its names."""
    num_parts = min(1 + len(names) // PART, 256)
    if num_parts == 1:
        yield np.arange(len(names))
        return
    ends, text = _buffers(names)
    # Sums of bytes: cheap, equal for equal names, and for most that are numbers spread well enough.
    sums = np.add.reduceat(text, ends[:-1] - ends[0], dtype=np.uint8) % num_parts
    for part in range(num_parts):
        yield np.flatnonzero(sums == part)


def _buffers(names: Any) -> tuple[np.ndarray, np.ndarray]:
    """The N + 1 ends of names, and the text between the first and the last."""
    _, ends, text = names.buffers()
    ends = np.frombuffer(ends, dtype=np.int64)[names.offset : names.offset + len(names) + 1]
    return ends, np.frombuffer(text, dtype=np.uint8)[ends[0] : ends[-1]]


def image_paths(parts: Sequence[tuple[str, Any]]) -> ImagePaths:
    """Paths of names: each part is what makes a path of a name (``train/{}.jpg``) and an array of names."""
    import pyarrow as pa
    import pyarrow.compute as pc

    arrays = []
    for template, names in parts:
        head, _, tail = template.partition("{}")
        around = [pa.scalar(text, pa.large_string()) for text in (head, tail, "")]
        arrays.append(pc.binary_join_element_wise(around[0], names, around[1], around[2]))
    ends, text = _buffers(pa.concat_arrays(arrays))
    return ImagePaths.packed("", text, ends - ends[0])
