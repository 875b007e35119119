"""What rows say of images and labels, 64 bits a row: image << 32 | label << 3 | verdict.

One sort of such numbers brings together all that is said of an image, of its labels, of a pair of both; and among
verdicts on one pair, the one that counts comes first.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int

from zoo.annotations import NEGATIVE, POSITIVE, UNKNOWN, Annotations

SAYS_POSITIVE, SAYS_NEGATIVE, SAYS_UNKNOWN = 0, 1, 2
SECOND = 4  # is added to verdicts that count where there is no other
CODE_OF_VERDICT = np.array([POSITIVE, NEGATIVE, UNKNOWN, UNKNOWN] * 2, dtype=np.int8)
LABELS = 2**29 - 1  # the bits of a label, shifted down
STEP = 2**20  # rows that are merged at once, so that no second array is as long as all rows


class RowKeys:
    """Rows of any order and number, made into :class:`Annotations`."""

    def __init__(self) -> None:
        self._keys = np.empty(0, dtype=np.int64)
        self._count = 0

    def add(self, images: Int[np.ndarray, " R"], labels_and_verdicts: Int[np.ndarray, " R"]) -> None:
        """Takes R rows: image numbers, and label numbers << 3 with a verdict in the lowest bits."""
        end = self._count + len(images)
        if end > len(self._keys):
            # Large arrays grow where they are, and what was never written to takes no memory.
            self._keys.resize(max(end, len(self._keys) * 5 // 4), refcheck=False)
        keys = self._keys[self._count : end]
        keys[:] = images
        keys <<= 32
        keys |= labels_and_verdicts
        self._count = end

    def annotations(
        self, columns: Int[np.ndarray, " L"], shape: tuple[int, int], absent: int
    ) -> tuple[Annotations, tuple[str, ...]]:
        """What the rows say, which are then gone from here, and how many of them were merged.

        Args:
            columns: where each label goes.
            shape: (N, L).
            absent: what a pair is that no row mentions: -1 unknown, 0 negative.
        """
        keys, self._keys, self._count = self._keys[: self._count], np.empty(0, dtype=np.int64), 0
        for start in range(0, len(keys), STEP):
            label = keys[start : start + STEP] >> 3 & LABELS
            keys[start : start + STEP] += columns[label] - label << 3
        keys.sort()
        rule = UNKNOWN if absent == -1 else NEGATIVE
        codes, labels = np.empty(len(keys), np.int8), np.empty(len(keys), np.int32)
        counts: Counter[str] = Counter()
        size, last = 0, np.int64(-1)
        for start in range(0, len(keys), STEP):
            part = keys[start : start + STEP].copy()
            before = np.concatenate([[last], part[:-1]])
            again = part >> 3 == before >> 3
            counts.update(_merged(before[again] & 7, part[again] & 7))
            code = CODE_OF_VERDICT[part & 7]
            keep = ~again & (code != rule)  # what the rule says is not stored
            end = size + int(keep.sum())
            keys[size:end], codes[size:end], labels[size:end] = (
                part[keep],
                code[keep],
                part[keep] >> 3 & LABELS,
            )
            size, last = end, part[-1]
        ends = np.searchsorted(keys[:size], np.arange(shape[0] + 1) << 32)
        stored = sp.csr_array((codes[:size], labels[:size], ends), shape=shape)
        remarks = tuple(f"{count:,} {what}" for what, count in counts.items() if count)
        return Annotations(stored, absent), remarks


def _merged(before: np.ndarray, after: np.ndarray) -> dict[str, int]:
    """Rows for a pair that the row before was for, by the verdicts of both."""
    differ = before != after
    second = (before < SECOND) & (after >= SECOND)
    negative = (after % SECOND == SAYS_NEGATIVE) & differ & ~second
    unknown = (after % SECOND == SAYS_UNKNOWN) & differ & ~second
    return {
        "repeated row(s) merged": int((~differ).sum()),
        "pair(s) of image and label both positive and negative: positive counts": int(negative.sum()),
        "pair(s) of image and label both known and unknown: what is known counts": int(unknown.sum()),
        "pair(s) of image and label in files of both ranks: the first rank counts": int(second.sum()),
    }
