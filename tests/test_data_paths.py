from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from zoo.data.paths import ImagePaths

NAMES = [
    "a.jpg",
    "below/b.png",
    "",
    "ä ö/雪.jpg",
    "/absolute/c.jpg",
    b"not utf-8 \xff.jpg".decode("utf-8", "surrogateescape"),
]


def test_like_a_list_of_paths():
    paths = ImagePaths("photos", NAMES)
    wanted = [Path("photos") / name for name in NAMES]
    assert paths == wanted
    assert [paths[i] for i in (-1, 0)] == [wanted[-1], wanted[0]]
    assert paths[1:4] == wanted[1:4]
    assert paths[::-1] == wanted[::-1]
    assert paths.take(np.array([3, 3, 0])) == [wanted[3], wanted[3], wanted[0]]
    assert paths[1:4].take(np.array([1])) == [wanted[2]]
    assert paths != wanted[1:]
    assert paths != [*wanted[1:], wanted[0]]
    assert paths != "no list"[:0]
    assert ImagePaths.of(paths) is paths
    assert ImagePaths.of(wanted) == wanted
    assert ImagePaths.of([]) == []
    assert pickle.loads(pickle.dumps(paths)) == paths


def test_packed_and_unpacked():
    paths = ImagePaths("photos", NAMES)
    for some in (paths, paths[1:3], paths[::-1]):
        assert ImagePaths.packed("photos", *some.pack()) == some


def test_memory():
    names = [f"{i:012}.jpg" for i in range(100_000)]
    paths = ImagePaths("", names)
    assert len(pickle.dumps(paths)) < 100_000 * 40
