from __future__ import annotations

import json

import numpy as np
import pytest

from zoo.annotations import Annotations
from zoo.data import listed
from zoo.data.listed import list_once, read_json, read_lines, stream_json
from zoo.lookup import InputError


def test_read_lines(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffa\r\n b c \r\n\r\n".encode())
    assert read_lines(path) == ["a", "b c"]
    path.write_text("a\n\nb\n")
    with pytest.raises(InputError, match=r"list\.txt line 2 is empty"):
        read_lines(path)
    path.write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        read_lines(path)
    path.write_bytes(b"a\xff\n")
    with pytest.raises(InputError, match=r"not UTF-8.*byte 1"):
        read_lines(path)


VALUES = [
    [],
    [1],
    [12, 345.5, -6, 1e30],
    [{"a": "é]," * 9}, [], '\\"', None, [[1, [2]]]],
    [{"image_id": i, "objects": [{"names": ["x" * i]}]} for i in range(40)],
]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("indent", [None, 2])
def test_stream_json_is_json(tmp_path, monkeypatch, chunk, indent):
    monkeypatch.setattr(listed, "CHUNK", chunk)
    for value in VALUES:
        (tmp_path / "a.json").write_text(
            json.dumps(value, indent=indent, ensure_ascii=False) + "\n", "utf-8-sig"
        )
        assert list(stream_json(tmp_path / "a.json")) == value


@pytest.mark.parametrize("chunk", [1, 5, 1000])
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[1,\n {"a": 2, b: 3}]', "line 2 column 11"),
        ('[1,\n {"a": 2}', "line 2 column 10"),
        ("[1,\n\n 2 3]", "line 3 column 4"),
        ("[1, ]", "line 1 column 5"),
        ("[1, 2x]", "line 1 column 6"),
        ("[1] [2]", "line 1 column 5"),
        ('{"a": 1}', "line 1 column 1"),
        ("", "line 1 column 1"),
        ('[\n{"a": "never closed]', "line 2 column 7"),
    ],
)
def test_stream_json_names_the_place(tmp_path, monkeypatch, chunk, text, place):
    monkeypatch.setattr(listed, "CHUNK", chunk)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=rf"a\.json {place}: "):
        list(stream_json(tmp_path / "a.json"))


def test_stream_json_is_a_stream(tmp_path, monkeypatch):
    monkeypatch.setattr(listed, "CHUNK", 16)
    (tmp_path / "a.json").write_text("[" + "1, " * 1000 + "oops]")
    items = stream_json(tmp_path / "a.json")
    assert [next(items) for _ in range(900)] == [1] * 900
    (tmp_path / "a.json").write_bytes(b'["\xff"]')
    with pytest.raises(InputError, match="is not UTF-8"):
        list(stream_json(tmp_path / "a.json"))


def test_read_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1, "a": 2}')
    assert read_json(path) == {"a": 2}
    assert read_json(path, list) == [("a", 1), ("a", 2)]
    path.write_text('{"a":\n oops}')
    with pytest.raises(InputError, match=r"a\.json line 2 column 2: Expecting value"):
        read_json(path)


def test_list_once():
    names = ["a", "b", "a", "c", "b", "c", "d"]
    splits = np.array(["train", "val", "train", "train", "test", "val", "test"])
    annotations = Annotations.from_array(np.array([[1], [0], [0], [1], [0], [1], [1]], dtype=np.int8))
    keep, remarks = list_once(names, splits, annotations)
    assert keep.tolist() == [0, 4, 5, 6]  # the first a; b of test; c of val; d
    assert remarks == (
        "1 image(s) listed again were left out: a",
        "2 image(s) of several splits stay in the last of them alone: b, c",
        "1 of these had other labels where they were left out",
    )
    assert list_once(["a", "b"], splits[:2], annotations.rows(slice(2)))[1] == ()
