from __future__ import annotations

import json
from pathlib import Path

import pytest

from zoo.data.folder import image_folder
from zoo.lookup import InputError


def problems_of(path: Path, text: str, **options) -> str:
    path.write_text(text)
    with pytest.raises(InputError) as error:
        image_folder(path, check_images=False, **options)
    return str(error.value)


def test_images_listed_again_with_the_same_and_with_other_labels(tmp_path):
    text = "image,dog,cat\na.png,1,0\nb.png,0,1\na.png,1,0\n./b.png,1,\n"
    message = problems_of(tmp_path / "a.csv", text)
    assert "1 image(s) listed again: a.png (a.csv line 2 and a.csv line 4)" in message
    assert "1 image(s) listed again with other labels: ./b.png (a.csv line 3 and a.csv line 5)" in message
    text = "image,labels\na.png,dog|cat\nb.png,cat\na.png,cat|dog\nb.png,\n"
    message = problems_of(tmp_path / "a.csv", text)
    assert "1 image(s) listed again: a.png (a.csv line 2 and a.csv line 4)" in message
    assert "1 image(s) listed again with other labels: b.png (a.csv line 3 and a.csv line 5)" in message


def test_a_label_both_there_and_unknown(tmp_path):
    records = [{"image": "a.png", "labels": ["dog"], "unknown": ["cat"]}] * 2
    records[1] = {"image": "b.png", "labels": ["dog", "cat"], "unknown": ["cat"]}
    message = problems_of(tmp_path / "a.json", json.dumps(records))
    assert "1 label(s) that one image has with two values: 'cat' (a.json record 2)" in message


def test_rows_of_one_image_that_contradict_each_other(tmp_path):
    text = (
        "image,label,value,split\na.png,dog,1,train\nb.png,dog,1,train\na.png,dog,0,train\nb.png,cat,1,test\n"
    )
    message = problems_of(tmp_path / "a.csv", text)
    assert "1 label(s) that one image has with two values: 'dog' (a.csv line 2 and a.csv line 4)" in message
    assert "1 image(s) in more than one split or group: b.png (a.csv line 3 and a.csv line 5)" in message


def test_values_that_are_none(tmp_path):
    records = [
        {"image": "a.png", "labels": ["dog", 3]},
        {"image": 7, "labels": {"dog": 1}},
        {"image": None, "labels": ["dog", ""]},
        {"image": "b.png", "labels": "dog|cat", "split": 1},
        {"labels": None},
    ]
    message = problems_of(tmp_path / "a.json", json.dumps(records))
    assert (
        "3 cell(s) that are no lists of label names: ['dog', 3] (a.json record 1, column 'labels'); {"
        in message
    )
    assert "1 image(s) that are no paths: 7 (a.json record 2)" in message
    assert "2 row(s) without an image: a.json record 3; a.json record 5" in message
    assert "1 split(s) other than train, val and test: '1' (a.json record 4)" in message
    records = [
        {"image": "a.png", "dog": 1, "cat": True},
        {"image": "b.png", "dog": [1]},
        {"image": "c.png", "dog": 0.5, "cat": ""},
    ]
    message = problems_of(tmp_path / "a.json", json.dumps(records))
    assert (
        "3 cell(s) of label columns that are not 1, 0, -1 or empty: [1] (a.json record 2, column 'dog')"
        in message
    )
    assert "missing (a.json record 2, column 'cat')" in message
    assert "0.5 (a.json record 3, column 'dog')" in message
    text = "image,label,value\na.png,dog,yes\n"
    assert "'yes' (a.csv line 2, column 'value')" in problems_of(tmp_path / "a.csv", text)


def test_where_problems_are_in_several_files(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"image": "a.png", "labels": ["dog"]}\n' * 2)
    (tmp_path / "test.csv").write_text("image,labels\nb.png,dog\na.png,cat\n")
    with pytest.raises(InputError) as error:
        image_folder(tmp_path)
    message = str(error.value)
    assert "1 image(s) listed again: a.png (train.jsonl line 1 and train.jsonl line 2)" in message
    assert (
        "1 image(s) listed again with other labels: a.png (train.jsonl line 1 and test.csv line 3)" in message
    )
    assert f"1 image(s) not found, by paths relative to the JSONL's folder {tmp_path}: a.png" in message
    assert f"1 image(s) not found, by paths relative to the CSV's folder {tmp_path}: b.png" in message


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "[]", "holds no records"),
        ("a.json", "{}", "holds no records"),
        ("a.json", '[{"image": "a.png", "labels": []}]', "the column 'labels' is empty in every row"),
        ("a.csv", "image,label\n", "a header, but no images"),
        ("a.csv", "image,label\na.png,\n", "the column 'label' is empty in every row"),
    ],
)
def test_nothing_to_learn_from(tmp_path, name, text, message):
    assert message in problems_of(tmp_path / name, text)


def test_another_column_of_labels(tmp_path):
    message = problems_of(tmp_path / "a.csv", "image,keywords,when\na.png,dog,noon\n", labels="keywords")
    assert "the column 'keywords' lists them all; take out when" in message
    (tmp_path / "a.csv").write_text("image,keywords\na.png,dog\nb.png,cat\nc.png,dog\n")
    assert image_folder(tmp_path / "a.csv", labels="keywords", check_images=False).label_names == [
        "cat",
        "dog",
    ]
