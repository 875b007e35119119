from __future__ import annotations

import csv
import io
import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.data import open_dataset
from zoo.data.folder import image_folder
from zoo.lookup import InputError

TABLE = """image,dog,cat,split,group
a.png,1,0,train,monday
b.png,0,1,valid,tuesday
c.png,1,,test,
d.png,-1,1,Train,monday
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of its own name, with images from a.png to z.png."""
    folder = tmp_path / "pets"
    folder.mkdir()
    for name in "abcdefghijklmnopqrstuvwxyz":
        Image.new("RGB", (2, 2)).save(folder / f"{name}.png")
    return folder


def write(folder: Path, text: str, name: str = "labels.csv", encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def names(data) -> list[str]:
    return [path.name for path in data.images]


def test_one_column_a_label(folder):
    data = image_folder(write(folder, TABLE))
    assert data.name == "pets"
    assert names(data) == ["a.png", "b.png", "c.png", "d.png"]
    assert data.label_names == ["dog", "cat"]
    assert data.targets.dtype == np.int8
    assert data.targets.tolist() == [[1, 0], [0, 1], [1, -1], [-1, 1]]
    assert data.splits.tolist() == ["train", "val", "test", "train"]
    assert data.groups[0] == data.groups[3] == "monday"
    assert len(set(data.groups)) == 3, "an image without a group is one of its own"
    assert data.protocol == "its own splits"
    assert data[0][0].size == (2, 2)
    assert image_folder(folder).fingerprint() == image_folder(str(folder)).fingerprint() == data.fingerprint()


@pytest.mark.parametrize("separator", [";", ",", "|"])
def test_a_list_of_labels(folder, separator):
    rows = [["a.png", "dog"], ["b.png", f"cat{separator} dog {separator}"], ["c.png", ""], ["d.png", "a fox"]]
    with open(folder / "lists.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([["image", "labels"], *rows])
    data = image_folder(folder / "lists.csv")
    assert data.name == "lists"
    assert data.label_names == ["a fox", "cat", "dog"]
    assert data.targets.tolist() == [[0, 0, 1], [0, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert sorted(set(data.splits)) == ["test", "train", "val"]


def test_separator_and_image_column_can_be_named(folder):
    path = write(folder, "labels,file\ndog cat,a.png\ncat,b.png\ndog,c.png\n")
    data = image_folder(path, separator=" ", images="file")
    assert data.label_names == ["cat", "dog"]
    assert image_folder(path, images="file").label_names == ["cat", "dog", "dog cat"]


def test_excel_windows_quotes_and_unicode(folder):
    Image.new("RGB", (2, 2)).save(folder / "größe, 1.png")
    header = 'image,"Hund, groß",猫,"line\nbreak"\r\n'
    text = header + '"größe, 1.png",1,0,1\r\nb.png,0, 1 ,1.0\r\n\r\nc.png,1,0.0,-1.0\r\n'
    data = image_folder(write(folder, text, encoding="utf-8-sig"))
    assert data.label_names == ["Hund, groß", "猫", "line\nbreak"]
    assert names(data) == ["größe, 1.png", "b.png", "c.png"]
    assert data.targets.tolist() == [[1, 0, 1], [0, 1, 1], [1, 0, -1]]


def test_paths_are_relative_to_the_file_not_to_where_one_stands(folder, monkeypatch):
    (folder / "lists").mkdir()
    write(folder / "lists", f"image,dog\n../a.png,1\n{folder / 'b.png'},1\n../c.png,0\n")
    monkeypatch.chdir(folder.parent)
    data = image_folder("pets/lists/labels.csv")
    assert [os.path.realpath(path) for path in data.images] == [str(folder / f"{c}.png") for c in "abc"]


def test_missing_splits_are_made_the_same_way_each_time(folder):
    rows = [f"{c}.png,{i % 2},{(i + 1) % 2}" for i, c in enumerate("abcdefghijklmnopqrstuvwxyz")]
    path = write(folder, "image,dog,cat\n" + "\n".join(rows))
    data = image_folder(path)
    assert [(data.splits == s).sum() for s in ("train", "val", "test")] == pytest.approx([16, 5, 5], abs=1)
    assert data.splits.tolist() == image_folder(path).splits.tolist()
    assert data.splits.tolist() != image_folder(path, seed=1).splits.tolist()
    assert data.protocol == "train, val, test made by iterative stratification, seed 0"
    own = [row + (",test" if i < 6 else ",train") for i, row in enumerate(rows)]
    data = image_folder(write(folder, "image,dog,cat,split\n" + "\n".join(own)), seed=2)
    assert names(data.split("test")) == [f"{c}.png" for c in "abcdef"]
    assert len(data.split("val")) == pytest.approx(5, abs=1)
    assert data.protocol == "val made by iterative stratification, seed 2"


def test_a_file_for_each_split(folder):
    write(folder, "image,dog,cat\na.png,1,0\nb.png,0,1\n", "train.csv")
    write(folder, "cat,image,dog\n1,c.png,0\n0,d.png,1\n", "test.csv")
    write(folder, "image,dog,cat\ne.png,1,1\n", "validation.csv")
    data = image_folder(folder)
    assert data.name == "pets"
    assert dict(zip(names(data), data.splits, strict=True)) == {
        "a.png": "train", "b.png": "train", "e.png": "val", "c.png": "test", "d.png": "test"
    }  # fmt: skip
    assert data.label_names == ["dog", "cat"]
    assert data.targets[names(data).index("c.png")].tolist() == [0, 1], "columns go by name, not by place"
    write(folder, "image,dog,cat\nf.png,1,1\n", "val.csv")
    with pytest.raises(InputError, match="more than one file for split 'val'"):
        image_folder(folder)


def test_files_by_a_pattern_and_list_layout(folder):
    write(folder, "image,labels\na.png,dog\nb.png,cat\nc.png,dog\nd.png,cat\n", "pets_train_v{2}.csv")
    write(folder, "image,labels\ne.png,dog|fox\nf.png,cat\n", "pets_test_v{2}.csv")
    with pytest.warns(UserWarning, match="no image of train is positive for fox"):
        data = image_folder(f"{folder}/pets_{{split}}_v{{2}}.csv")
    assert data.label_names == ["cat", "dog", "fox"]
    assert names(data.split("test")) == ["e.png", "f.png"]
    assert set(data.splits) == {"train", "val", "test"}
    with pytest.raises(InputError, match="found no train, val or test file"):
        image_folder(f"{folder}/birds_{{split}}.csv")


def test_files_that_do_not_fit_together(folder):
    write(folder, "image,dog,cat\na.png,1,0\n", "train.csv")
    write(folder, "image,dog,fox\nb.png,1,0\n", "test.csv")
    with pytest.raises(
        InputError, match=r"test\.csv: label columns that are not in all of the files: cat, fox"
    ):
        image_folder(folder)
    write(folder, "image,labels\nb.png,dog\n", "test.csv")
    with pytest.raises(InputError, match=r"test\.csv: label columns that are not in all"):
        image_folder(folder)
    write(folder, "image,dog,cat,split\nb.png,1,0,val\n", "test.csv")
    with pytest.raises(InputError, match="a column 'split' in the file of split 'test'"):
        image_folder(folder)
    write(folder, "image,dog,cat\na.png,1,0\n", "test.csv")
    with pytest.raises(
        InputError, match=r"1 image\(s\) listed again: a.png \(train.csv line 2 and test.csv line 2\)"
    ):
        image_folder(folder)


def test_every_problem_is_told_at_once(folder):
    text = (
        "image,dog,cat,split\n"
        "a.png,1,0,train\n"
        "b.png,1,0\n"  # line 3
        "c.png,yes,0,train\n"
        "./a.png,1,0,train\n"
        "d.png,1,2,training\n"
        ",1,0,train\n" + "".join(f"gone{i}.png,1,0,test\n" for i in range(5))  # lines 8 to 12
    )
    with pytest.raises(InputError) as error:
        image_folder(write(folder, text))
    message = str(error.value)
    assert "1 row(s) without the header's 4 columns: labels.csv line 3 has 3" in message
    assert (
        "2 cell(s) of label columns that are not 1, 0, -1 or empty: "
        "'yes' (labels.csv line 4, column 'dog'); '2' (labels.csv line 6, column 'cat')" in message
    )
    assert "1 image(s) listed again: ./a.png (labels.csv line 2 and labels.csv line 5)" in message
    assert "1 split(s) other than train, val and test: 'training' (labels.csv line 6)" in message
    assert "1 row(s) without an image: labels.csv line 7" in message
    assert f"5 image(s) not found, by paths relative to the CSV's folder {folder}: gone0.png" in message
    assert "gone2.png (labels.csv line 10); ..." in message
    assert "gone3" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; its first line must name the columns"),
        ("image,dog\n", "a header, but no images"),
        ("Image,dog\na.png,1\n", r"unknown column 'image'. Did you mean Image\? Known: Image, dog"),
        ("image dog\na.png 1\n", r"Known: image dog"),
        ("image,dog,dog\na.png,1,1\n", "more than one column named 'dog'"),
        (",image,dog\n0,a.png,1\n", "column 1 has no name"),
        ("image,split\na.png,train\n", "has no labels"),
        ("image,labels,dog\na.png,dog,1\n", "the column 'labels' lists them all; take out dog"),
        ("image,labels\na.png,\n", "the column 'labels' is empty in every row"),
        ("image,dog,cat,fox\na.png,1,0,0\n", "no image is positive for cat, fox.*allow_empty_labels=True"),
        (
            "image,dog,group,split\na.png,1,x,train\nb.png,1,x,test\n",
            r"more than one split: x \(test, train\)",
        ),
        ("image,dog,split\na.png,1,test\n", "no image is in train"),
        ('image,dog\na.png,"' + "1" * 200_000 + '"\n', "line 2: field larger than field limit"),
    ],
)
def test_wrong_tables(folder, text, message):
    path = write(folder, text)
    with pytest.raises(InputError, match=f"(?s)labels.csv.*{message}|^{message}"):
        image_folder(path)


def test_wrong_encoding(folder):
    with pytest.raises(InputError, match=r"labels\.csv is not UTF-8 .*save it as CSV UTF-8"):
        image_folder(write(folder, "image,größe\na.png,1\n", encoding="latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        image_folder(write(folder, "image,dog\na.png,1\n", encoding="utf-16"))


def test_files_that_are_not_there(folder):
    write(folder, TABLE)
    with pytest.raises(
        InputError, match=r"lables\.csv: unknown label file or folder.*Did you mean labels\.csv"
    ):
        image_folder(folder / "lables.csv")
    with pytest.raises(InputError, match="Did you mean pets"):
        image_folder(folder.parent / "pet")
    with pytest.raises(InputError, match=r"no such label file or folder, nor a folder .*nowhere"):
        image_folder(folder / "nowhere" / "labels.csv")
    (folder / "bare").mkdir()
    with pytest.raises(InputError, match=r"found neither labels\.csv nor train\.csv"):
        image_folder(folder / "bare")


def test_labels_without_positives(folder):
    text = "image,dog,cat,fox,split\na.png,1,0,0,train\nb.png,0,1,0,test\nc.png,1,0,-1,val\n"
    with pytest.warns(UserWarning, match="no image of train is positive for cat$"):
        data = image_folder(write(folder, text), allow_empty_labels=True)
    assert data.label_names == ["dog", "cat", "fox"]


def test_many_rows_are_read_in_seconds(folder, monkeypatch):
    rng = np.random.default_rng(0)
    targets = (rng.random((20_000, 20)) < 0.2).astype(int)
    body = "".join(
        f"images/{i}.jpg,{','.join(map(str, row))},train\n"
        if i
        else f"a.png,{','.join(map(str, row))},test\n"
        for i, row in enumerate(targets)
    )
    header = "image," + ",".join(f"label {i}" for i in range(20)) + ",split\n"
    path = write(folder, header + body.replace(",train", ",val", 1))
    exists = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: "images" in str(path) or exists(path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = image_folder(path)
    np.testing.assert_array_equal(data.targets, targets)
    assert (data.splits == "train").sum() == 19_998


@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="ZOO_DATA names no folder with photo sets")
@pytest.mark.parametrize(
    ("name", "images", "labels", "per_image"),
    [
        ("coco18", 4000, 18, 1.55),
        ("posters", 3000, 22, 2.37),
        ("ucmerced", 2100, 17, 3.33),
        ("miml-scenes", 2000, 5, 1.24),
    ],
)
def test_photo_sets(name, images, labels, per_image):
    folder = Path(os.environ["ZOO_DATA"]) / name
    if not folder.is_dir():
        pytest.skip(f"no {name} in ZOO_DATA")
    data = image_folder(folder)
    assert (data.name, len(data), len(data.label_names)) == (name, images, labels)
    assert data.labels_per_image == pytest.approx(per_image, abs=0.005)
    for split, fraction in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        part = data.split(split)
        assert len(part) == pytest.approx(fraction * images, rel=0.05)
        image, targets = part[len(part) // 2]
        assert image.mode == "RGB"
        assert targets.shape == (labels,)


LISTS = {  # image: labels, unknown, split, group
    "a.png": (["dog"], [], "train", "monday"),
    "b.png": (["cat", "dog"], [], "val", "tuesday"),
    "c.png": ([], [], "test", ""),
    "d.png": (["a fox"], ["dog", "cat"], "train", "monday"),
    "e.png": (["cat"], ["a fox"], "train", "friday"),
}
LABELS = ["a fox", "cat", "dog"]


def cell(image: str, label: str) -> int:
    labels, unknown, *_ = LISTS[image]
    return 1 if label in labels else -1 if label in unknown else 0


def in_columns(gap) -> list[dict]:
    """One record an image, one column a label; ``gap`` is what an unknown cell holds."""
    return [
        {"image": image, **{label: gap if (c := cell(image, label)) == -1 else c for label in LABELS}}
        | {"split": split, "group": group}
        for image, (_, _, split, group) in LISTS.items()
    ]


def in_lists(join) -> list[dict]:
    return [
        {"image": image, "labels": join(labels), "unknown": join(unknown), "split": split, "group": group}
        for image, (labels, unknown, split, group) in LISTS.items()
    ]


def in_rows() -> list[dict]:
    """One record for each image and label, with values."""
    return [
        {"image": image, "label": label, "value": cell(image, label), "split": split, "group": group}
        for image, (_, _, split, group) in LISTS.items()
        for label in LABELS
    ]


def separated(delimiter: str, records: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def parquet(records: list[dict]) -> bytes:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow.parquet import write_table

    buffer = io.BytesIO()
    write_table(pa.Table.from_pylist(records), buffer)
    return buffer.getvalue()


def json_lines(records: list[dict]) -> str:
    return "\n".join(map(json.dumps, records)) + "\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", lambda: separated(",", in_columns(""))),
        ("labels.csv", lambda: separated(";", in_columns("NaN"))),
        ("labels.csv", lambda: separated(",", in_lists("|".join))),
        ("labels.csv", lambda: separated(";", in_lists(",".join))),
        ("labels.csv", lambda: separated(",", in_rows())),
        ("labels.tsv", lambda: separated("\t", in_columns(-1))),
        ("labels.tab", lambda: separated("\t", in_lists(";".join))),
        ("labels.tsv", lambda: separated("\t", in_rows())),
        ("labels.json", lambda: json.dumps(in_columns(None))),
        ("labels.json", lambda: json.dumps(in_columns(float("nan")), indent=2)),
        ("labels.json", lambda: json.dumps(in_lists(list))),
        ("labels.json", lambda: json.dumps(in_rows())),
        ("labels.jsonl", lambda: json_lines(in_columns(-1))),
        ("labels.ndjson", lambda: json_lines(in_lists(list))),
        ("labels.jsonl", lambda: json_lines(in_rows())),
        ("labels.parquet", lambda: parquet(in_columns(None))),
        ("labels.parquet", lambda: parquet(in_lists(list))),
        ("labels.parquet", lambda: parquet(in_lists("|".join))),
        ("labels.parquet", lambda: parquet(in_rows())),
    ],
)
def test_every_format_and_layout_says_the_same(folder, name, content):
    content = content()
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for data in (image_folder(folder), open_dataset(folder / name)):
        assert (data.name, data.protocol) == ("pets", "its own splits")
        assert names(data) == list(LISTS)
        assert data.label_names == LABELS
        assert data.targets.tolist() == [[cell(image, label) for label in LABELS] for image in LISTS]
        assert data.splits.tolist() == [split for _, _, split, _ in LISTS.values()]
        assert data.groups[0] == data.groups[3] == "monday"
        assert len(set(data.groups)) == 4
        assert "1 image(s) have no positive label" in data.remarks


def test_an_object_of_images_and_their_labels(folder):
    write(folder, json.dumps({"a.png": ["dog"], "b.png": ["cat", "dog"], "c.png": []}), "train.json")
    write(folder, json.dumps({"d.png": ["cat"]}), "test.json")
    data = image_folder(folder)
    assert data.label_names == ["cat", "dog"]
    assert data.targets.tolist() == [[0, 1], [1, 1], [0, 0], [1, 0]]
    assert names(data.split("test")) == ["d.png"]


def test_one_row_a_label_without_values_means_that_others_are_negative(folder):
    data = image_folder(write(folder, "image,label\na.png,dog\nb.png,cat\na.png, cat\nc.png,\na.png,dog\n"))
    assert names(data) == ["a.png", "b.png", "c.png"]
    assert data.label_names == ["cat", "dog"]
    assert data.targets.tolist() == [[1, 1], [1, 0], [0, 0]]
    assert "1 row(s) repeat an image and its label, and were merged" in data.remarks
    data = image_folder(
        write(folder, "image,label,value\na.png,dog,1\nb.png,cat,1\nb.png,dog,0\na.png,cat,\n")
    )
    assert data.targets.tolist() == [[-1, 1], [1, 0]]
    assert data.annotations.stored.nnz == 3, "what is unknown anyway takes no memory"
    assert any("has no row is unknown" in remark for remark in data.remarks)


@pytest.mark.parametrize("column", ["file_name", "image_name", "filename", "path"])
def test_other_names_for_the_column_of_images(folder, column):
    data = image_folder(write(folder, f"{column},labels\na.png,dog\nb.png,cat\nc.png,dog\n"))
    assert names(data) == ["a.png", "b.png", "c.png"]
    assert f"labels.csv has no column 'image'; the images are those of {column!r}" in data.remarks
    with pytest.raises(InputError, match="unknown column 'image'"):
        image_folder(write(folder, "path,filename,labels\na.png,a.png,dog\n"))
    with pytest.raises(InputError, match="unknown column 'photo'"):
        image_folder(write(folder, f"{column},labels\na.png,dog\n"), images="photo")


def test_a_label_file_in_the_folder_of_each_split(folder):
    for split, image in (("train", "a"), ("validation", "b"), ("test", "c")):
        (folder / split).mkdir()
        (folder / f"{image}.png").rename(folder / split / "1.png")
        write(folder / split, '{"file_name": "1.png", "labels": ["dog"]}\n', "metadata.jsonl")
    data = image_folder(folder)
    assert (data.name, data.splits.tolist()) == ("pets", ["train", "val", "test"])
    assert [path.parent.name for path in data.images] == ["train", "validation", "test"]
    by_pattern = image_folder(f"{folder}/{{split}}/metadata.jsonl")
    assert (by_pattern.name, by_pattern.fingerprint()) == ("pets", data.fingerprint())
    write(folder, "image,dog\nd.png,1\n", "test.csv")
    with pytest.raises(
        InputError, match=r"more than one file for split 'test': .*test\.csv.*metadata\.jsonl"
    ):
        image_folder(folder)


def test_a_label_file_above_the_folders_of_splits(folder):
    (folder / "train").mkdir()
    (folder / "a.png").rename(folder / "train" / "a.png")
    write(folder, "file_name,labels\ntrain/a.png,dog\nb.png,dog\n", "metadata.csv")
    assert image_folder(folder).name == "pets"
    write(folder, "[]", "metadata.json")
    with pytest.raises(
        InputError, match=r"more than one label file: metadata\.csv, metadata\.json; name one"
    ):
        image_folder(folder)


def test_folders_that_stand_for_labels_are_explained(folder):
    (folder / "images").mkdir()
    for label in ("cat", "dog"):
        (folder / "images" / label).mkdir()
        (folder / f"{label[0]}.png").rename(folder / "images" / label / "1.png")
    with pytest.raises(
        InputError, match=r"Its folders cat, dog hold images.*columns image,labels.*cat/1\.jpg,"
    ):
        image_folder(folder / "images")


def test_a_hundred_thousand_labels(tmp_path):
    rows = [f"{i}.jpg,{i % 50_000}|{50_000 + i % 50_000}" for i in range(60_000)]
    splits = ["train"] * 50_000 + ["val", "test"] * 5000
    text = "image,labels,split\n" + "\n".join(f"{a},{b}" for a, b in zip(rows, splits, strict=True))
    data = image_folder(write(tmp_path, text), check_images=False)
    assert data.annotations.shape == (60_000, 100_000)
    assert data.annotations.stored.nnz == 120_000
    where = data.label_names.index("50001")
    assert data.annotations.positives()[where] == 2
    path = write(tmp_path, text.replace(",train", ",").replace(",val", ","))
    with pytest.warns(UserWarning, match="no image of train is positive for"):
        data = image_folder(path, check_images=False)
    assert data.protocol == "train, val made at random, as there are too many labels to stratify, seed 0"
    assert (data.splits == "val").mean() == pytest.approx(0.25 * 55 / 60, abs=0.01)
