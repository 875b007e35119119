from __future__ import annotations

import numpy as np
import pytest

import zoo.data.row_keys
from zoo.annotations import NEGATIVE, POSITIVE, UNKNOWN
from zoo.data.row_keys import SAYS_NEGATIVE, SAYS_POSITIVE, SAYS_UNKNOWN, SECOND, RowKeys

CODES = {SAYS_POSITIVE: POSITIVE, SAYS_NEGATIVE: NEGATIVE, SAYS_UNKNOWN: UNKNOWN}


@pytest.mark.parametrize("absent", [0, -1])
@pytest.mark.parametrize("step", [1, 13, 2**20])
def test_as_a_dict_keeps_them(monkeypatch, absent, step):
    monkeypatch.setattr(zoo.data.row_keys, "STEP", step)
    generator = np.random.default_rng(0)
    keys, said = RowKeys(), {}
    columns = generator.permutation(7)
    for size in (200, 0, 100):
        images, labels = generator.integers(20, size=size), generator.integers(7, size=size)
        verdicts = generator.integers(3, size=size) + SECOND * generator.integers(2, size=size)
        keys.add(images.astype(np.int32), (labels << 3 | verdicts).astype(np.int32))
        for image, label, verdict in zip(images, labels, verdicts, strict=True):
            said.setdefault((image, columns[label]), []).append(verdict)
    annotations, remarks = keys.annotations(columns, (21, 7), absent)
    expected = np.zeros((21, 7), dtype=np.int8)
    for pair, verdicts in said.items():
        code = CODES[min(verdicts) % SECOND]
        expected[pair] = 0 if code == (NEGATIVE if absent == 0 else UNKNOWN) else code
    np.testing.assert_array_equal(annotations.stored.toarray(), expected)
    assert annotations.stored.nnz == (expected != 0).sum()
    assert annotations.absent == absent
    ranks = [
        ({v for v in verdicts if v < SECOND}, {v for v in verdicts if v >= SECOND})
        for verdicts in said.values()
    ]
    positive_and_negative = sum(
        {SAYS_POSITIVE + add, SAYS_NEGATIVE + add} <= rank
        for pair in ranks
        for rank, add in zip(pair, (0, SECOND), strict=True)
    )
    with_unknown = sum(
        SAYS_UNKNOWN + add in rank and len(rank) > 1
        for pair in ranks
        for rank, add in zip(pair, (0, SECOND), strict=True)
    )
    in_both = sum(bool(one and other) for one, other in ranks)
    assert remarks == (
        f"{sum(len(v) - len(set(v)) for v in said.values())} repeated row(s) merged",
        f"{positive_and_negative} pair(s) of image and label both positive and negative: positive counts",
        f"{with_unknown} pair(s) of image and label both known and unknown: what is known counts",
        f"{in_both} pair(s) of image and label in files of both ranks: the first rank counts",
    )  # fmt: skip


def test_the_largest_numbers_fit():
    keys = RowKeys()
    image, label = 2**31 - 1, 2**28 - 1
    keys.add(np.array([image, 0]), np.array([label << 3 | SAYS_NEGATIVE | SECOND, 0]))
    part = keys._keys[:2]
    assert part.min() >= 0
    assert (part[0] >> 32, part[0] >> 3 & zoo.data.row_keys.LABELS, part[0] & 7) == (image, label, 5)


def test_no_rows():
    annotations, remarks = RowKeys().annotations(np.arange(2), (3, 2), -1)
    assert annotations.targets().tolist() == [[-1, -1]] * 3
    assert remarks == ()
