from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import zoo.data.numbered_names
from zoo.data.numbered_names import NumberedNames, image_paths

pa = pytest.importorskip("pyarrow")


def large(names):
    return pa.array(names, pa.large_string())


@pytest.mark.parametrize("part", [1, 7, 1000])
def test_numbers_as_a_dict_gives_them(monkeypatch, part):
    monkeypatch.setattr(zoo.data.numbered_names, "PART", part)
    generator = np.random.default_rng(0)
    expected: dict[str, int] = {}
    names = NumberedNames()
    for _ in range(5):
        batches = [[f"größe {i}" for i in generator.integers(80, size=30)] for _ in range(3)]
        assert [names.add(large(batch)) for batch in batches] == [0, 30, 60]
        assert names.num_pending == 90
        numbers = names.settle()
        every = [name for batch in batches for name in batch]
        assert numbers.tolist() == [expected.setdefault(name, len(expected)) for name in every]
        assert names.known.to_pylist() == list(expected)
        assert (names.count, names.num_pending) == (len(expected), 0)
    assert names.settle().tolist() == []


def test_names_that_are_given_come_first():
    names = NumberedNames(["sea", "sky"])
    names.add(large(["sun", "sky", "sun"]))
    assert names.settle().tolist() == [2, 1, 2]


def test_image_paths():
    names = large(["x", "a", "größe", "b"])
    paths = image_paths([("train/{}.jpg", names[1:3]), ("{}", names[3:])])
    assert list(paths) == [Path("train/a.jpg"), Path("train/größe.jpg"), Path("b")]
    assert list(paths.take(np.array([2, 0]))) == [Path("b"), Path("train/a.jpg")]
