from __future__ import annotations

import os
import warnings

import numpy as np
import pytest

import zoo.data.parsed
from zoo.annotations import Annotations
from zoo.data.parsed import Parsed, parse_once
from zoo.data.paths import ImagePaths
from zoo.lookup import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(zoo.data.parsed, "SMALL", 4)
    return tmp_path / "cache" / "annotations"


class Parser:
    """Counts how often it is asked; what it returns says when."""

    def __init__(self):
        self.calls = 0

    def __call__(self) -> Parsed:
        self.calls += 1
        targets = np.random.default_rng(0).choice([-1, 0, 1], (5, 3))
        return Parsed(
            ImagePaths("", [f"{self.calls}/{i}.jpg" for i in range(5)]),
            Annotations(Annotations.from_array(targets).stored, -1),
            ["sky", "sea", "größe"],
            np.array(["train", "val", "test", "", "train"]),
            ("2 rows merged",),
            (("sky", "sea"),),
        )


def same(one: Parsed, other: Parsed) -> bool:
    np.testing.assert_array_equal(one.annotations.targets(), other.annotations.targets())
    np.testing.assert_array_equal(one.splits, other.splits)
    return (
        one.names == other.names
        and one.label_names == other.label_names
        and (
            (one.remarks, one.hierarchy, one.annotations.absent)
            == (other.remarks, other.hierarchy, other.annotations.absent)
        )
    )


def test_parsed_once(tmp_path):
    file, parse = tmp_path / "labels.csv", Parser()
    file.write_text("content")
    first = parse_once([file], parse)
    assert same(parse_once([file], parse), first)
    assert parse.calls == 1
    assert not list((tmp_path / "cache" / "annotations").glob("*.part"))


def test_another_content_option_or_name_is_parsed_anew(tmp_path):
    file, other, parse = tmp_path / "labels.csv", tmp_path / "other.csv", Parser()
    file.write_text("content")
    parse_once([file], parse)
    times = file.stat()
    file.write_text("Content")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    parse_once([file], parse)
    assert parse.calls == 2
    parse_once([file], parse, "order=id")
    assert parse.calls == 3
    other.write_text("Content")
    parse_once([other], parse)
    parse_once([file, other], parse)
    assert parse.calls == 5
    parse_once([file], parse)
    assert parse.calls == 5


@pytest.mark.parametrize("damage", ["empty", "cut", "byte", "text"])
def test_a_broken_cache_is_rebuilt(tmp_path, cache, damage):
    file, parse = tmp_path / "labels.csv", Parser()
    file.write_text("content")
    parse_once([file], parse)
    (kept,) = cache.iterdir()
    content = bytearray(kept.read_bytes())
    place = content.find(b"0.jpg")
    content[place] = ord("7")
    kept.write_bytes(
        {"empty": b"", "cut": content[: len(content) // 2], "byte": content, "text": b"no zip"}[damage]
    )
    with pytest.warns(UserWarning, match=r"is broken: it is made again from .*labels\.csv"):
        parsed = parse_once([file], parse)
    assert parse.calls == 2
    assert parsed.names.name(0) == "2/0.jpg"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(parse_once([file], parse), parsed)
    assert parse.calls == 2


def test_small_files_are_not_kept(tmp_path, cache):
    file, parse = tmp_path / "labels.csv", Parser()
    file.write_text("abc")
    parse_once([file], parse)
    parse_once([file], parse)
    assert parse.calls == 2
    assert not cache.exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv: no such file"):
        parse_once([tmp_path / "nowhere.csv"], Parser())


def test_errors_of_the_parser_leave_nothing(tmp_path, cache):
    file = tmp_path / "labels.csv"
    file.write_text("content")

    def fails() -> Parsed:
        raise InputError("line 3")

    with pytest.raises(InputError, match="line 3"):
        parse_once([file], fails)
    assert not cache.exists() or not list(cache.iterdir())
