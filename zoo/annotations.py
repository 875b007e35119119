"""What is known of N images and L labels, stored sparse: 125,000 images or 9,000,000, 20 labels or 20,000.

entries (image, label, value) --> stored (N,L), only what is not the rule --> targets (N,L), a part at a time
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int8

from zoo.lookup import InputError, lookup

# What an entry is stored as. None is zero, which sparse matrices may drop.
POSITIVE, UNKNOWN, DIFFICULT, NEGATIVE = 1, -1, 2, -2
CODES = (POSITIVE, UNKNOWN, DIFFICULT, NEGATIVE)
# What targets are made of the entries marked as difficult (PASCAL VOC: there, but hard to see).
TREATMENTS = {"positive": 1, "negative": 0, "ignored": -1}


@dataclass(frozen=True, eq=False)
class Annotations:
    """What annotators said, image by image and label by label.

    Attributes:
        stored: (N, L) int8 of :data:`CODES`, one entry for each pair of image and label that is not as the rule
            has it.
        absent: the rule: 0 where a label that is not mentioned is negative (COCO), -1 where nobody looked for it
            (Open Images).

    Raises:
        InputError: another rule than these, or another code.
    """

    stored: sp.csr_array
    absent: int = 0

    def __post_init__(self) -> None:
        if self.absent not in (0, -1):
            raise InputError(f"absent must be 0 (negative) or -1 (unknown), not {self.absent}")
        codes = self.stored.data
        # Not np.isin, which would copy tens of millions of codes.
        if codes.size and (codes.min() < min(CODES) or codes.max() > max(CODES) or not codes.all()):
            raise InputError(f"annotations hold codes other than {CODES}")

    @classmethod
    def from_array(cls, targets: np.ndarray, difficult: np.ndarray | None = None) -> Annotations:
        """Those of dense targets (N, L) in {1, 0, -1}; where ``difficult`` (N, L) is true, the entry is difficult.

        Raises:
            InputError: another value, or shapes that differ.
        """
        targets = np.asarray(targets)
        if targets.ndim != 2 or (difficult is not None and difficult.shape != targets.shape):
            raise InputError(
                f"targets must be (N, L), not {targets.shape}, and difficult entries of their shape"
            )
        if not np.isin(targets, (1, 0, -1)).all():
            wrong = np.unique(targets[~np.isin(targets, (1, 0, -1))])[:5].tolist()
            raise InputError(f"targets must be 1 (positive), 0 (negative) or -1 (unknown), not {wrong}")
        stored = targets.astype(np.int8)  # the codes of 1 and -1 are themselves
        if difficult is not None:
            stored[difficult] = DIFFICULT
        return cls(sp.csr_array(stored))

    @classmethod
    def from_entries(
        cls,
        images: np.ndarray,
        labels: np.ndarray,
        codes: np.ndarray | int,
        shape: tuple[int, int],
        *,
        absent: int = 0,
    ) -> Annotations:
        """Those of single entries: image (row) and label (column) numbers, and the code of each or of all.

        Of entries for one pair that differ the first in ``positive, difficult, negative, unknown`` counts; a
        reader that reports such contradictions looks for them before.
        """
        codes = np.broadcast_to(np.asarray(codes, dtype=np.int8), np.shape(images))
        pair = np.asarray(images, dtype=np.int64) * shape[1] + np.asarray(labels, dtype=np.int64)
        if len(pair) and not (pair[1:] > pair[:-1]).all():
            rank = np.array(
                [{POSITIVE: 0, DIFFICULT: 1, NEGATIVE: 2, UNKNOWN: 3}.get(c, 4) for c in range(-2, 3)]
            )
            order = np.lexsort((rank[codes + 2], pair))
            pair, codes = pair[order], codes[order]
            first = np.concatenate([[True], pair[1:] != pair[:-1]])
            pair, codes = pair[first], codes[first]
        rows, columns = np.divmod(pair, max(shape[1], 1))
        ends = np.concatenate([[0], np.bincount(rows, minlength=shape[0]).cumsum()])
        return cls(sp.csr_array((codes, columns.astype(np.int32), ends), shape=shape), absent)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, L)."""
        return self.stored.shape

    def __len__(self) -> int:
        return self.stored.shape[0]

    def rows(self, which: np.ndarray | slice) -> Annotations:
        """Those of some images, in that order."""
        return replace(self, stored=self.stored[which])

    def columns(self, which: np.ndarray | list[int]) -> Annotations:
        """Those of some labels, in that order."""
        return replace(self, stored=sp.csr_array(self.stored[:, which]))

    def targets(self, difficult: str = "ignored") -> Int8[np.ndarray, "N L"]:
        """Dense targets: 1 positive, 0 negative, -1 unknown.

        Args:
            difficult: what difficult entries count as: ``positive``, ``negative`` or ``ignored`` (unknown).

        Raises:
            InputError: no such treatment.
        """
        value = lookup("treatment of difficult entries", difficult, TREATMENTS)
        targets = np.full(self.shape, self.absent, dtype=np.int8)
        image = np.repeat(np.arange(len(self)), np.diff(self.stored.indptr))
        targets[image, self.stored.indices] = _decode(self.stored.data, value)
        return targets

    def row(self, image: int, difficult: str = "ignored") -> Int8[np.ndarray, " L"]:
        """The targets of one image."""
        targets = np.full(self.shape[1], self.absent, dtype=np.int8)
        start, end = self.stored.indptr[image : image + 2]
        targets[self.stored.indices[start:end]] = _decode(self.stored.data[start:end], TREATMENTS[difficult])
        return targets

    def where(self, *codes: int) -> sp.csr_array:
        """(N, L) with a one (int8) wherever the stored code is one of these."""
        keep = np.logical_or.reduce([self.stored.data == code for code in codes])
        ends = np.concatenate([[0], keep.cumsum()])[self.stored.indptr]
        return sp.csr_array((np.ones(keep.sum(), np.int8), self.stored.indices[keep], ends), shape=self.shape)

    def treated(self, difficult: str) -> Annotations:
        """The same without difficult entries: each counts as this treatment says."""
        value = lookup("treatment of difficult entries", difficult, TREATMENTS)
        code = {1: POSITIVE, 0: NEGATIVE, -1: UNKNOWN}[value]
        stored = self.stored.copy()
        stored.data[stored.data == DIFFICULT] = code
        return replace(self, stored=stored)

    def positives(self) -> np.ndarray:
        """(L,) the number of images on which each label is positive; difficult ones are not counted."""
        return np.bincount(self.stored.indices[self.stored.data == POSITIVE], minlength=self.shape[1])

    def known(self) -> np.ndarray:
        """(L,) the number of images in which each label is positive or negative."""
        if self.absent == -1:
            sure = np.isin(self.stored.data, (POSITIVE, NEGATIVE))
            return np.bincount(self.stored.indices[sure], minlength=self.shape[1])
        unsure = np.isin(self.stored.data, (UNKNOWN, DIFFICULT))
        return len(self) - np.bincount(self.stored.indices[unsure], minlength=self.shape[1])

    def blocks(self, size: int) -> Iterator[Annotations]:
        """Consecutive parts of at most ``size`` images."""
        return (self.rows(slice(start, start + size)) for start in range(0, len(self), size))


def _decode(codes: np.ndarray, difficult: int) -> np.ndarray:
    return np.array([0, -1, 0, 1, difficult], dtype=np.int8)[codes + 2]  # of the codes -2 .. 2
