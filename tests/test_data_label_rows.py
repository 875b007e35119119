from __future__ import annotations

import csv
import io

import numpy as np
import pytest

import zoo.data.csv_blocks
import zoo.data.label_rows
import zoo.data.numbered_names
import zoo.data.row_keys
from zoo.data.label_rows import RowFile, read_label_rows
from zoo.lookup import InputError

pytest.importorskip("pyarrow")


def read(folder, text, **options):
    (folder / "labels.csv").write_bytes(text.encode())
    return read_label_rows([RowFile(folder / "labels.csv")], **options)


def as_dict(parsed):
    """{image: {label: target}} without unknowns."""
    targets = parsed.annotations.targets()
    return {
        parsed.names.name(i): {
            parsed.label_names[j]: int(targets[i, j]) for j in np.flatnonzero(targets[i] != -1)
        }
        for i in range(len(targets))
    }


def by_loop(files, value, absent=-1, labels=None, only=None):
    """The same the slow way: {split: {image: {label: target}}}, and what was merged."""
    found, merged = {}, {"repeated": 0, "contradicted": 0}
    said = {}
    for path, split in files:
        with open(path, newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                image, label = row["image"].strip(), row["label"].strip()
                found.setdefault(split, {}).setdefault(image, {})
                if (labels and label not in labels) or (only and row[only[0]].strip() != only[1]):
                    continue
                number = float(row[value] or -1) if value else 1.0
                verdict = 1 if number == 1 else 0 if number == 0 else -1
                verdicts = said.setdefault((split, image, label), [])
                merged["repeated"] += verdict in verdicts
                verdicts.append(verdict)
    for (split, image, label), verdicts in said.items():
        merged["contradicted"] += {0, 1} <= set(verdicts)
        target = 1 if 1 in verdicts else 0 if 0 in verdicts else -1
        if target != absent:
            found[split][image][label] = target
    return found, merged


def write_rows(path, seed, rows, images, labels, prefix=""):
    generator = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["source", "image", "label", "confidence"])
        for _ in range(rows):
            value = generator.choice(["1", "0", "1.0", "0.5", "-1", ""], p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
            name = f'größe, "{generator.integers(labels)}"'
            writer.writerow(
                [generator.choice(["us", "crowd"]), f"{prefix}{generator.integers(images)}", name, value]
            )


@pytest.mark.parametrize("block", [64, 1000, 2**26])
@pytest.mark.parametrize("absent", [-1, 0])
def test_as_a_loop_reads_them(tmp_path, monkeypatch, block, absent):
    monkeypatch.setattr(zoo.data.csv_blocks, "BLOCK", block)
    monkeypatch.setattr(zoo.data.label_rows, "PENDING", 50)
    monkeypatch.setattr(zoo.data.row_keys, "STEP", 37)
    monkeypatch.setattr(zoo.data.numbered_names, "PART", 20)
    files = [(tmp_path / f"{split}.csv", split) for split in ("test", "train", "val")]
    for seed, (path, split) in enumerate(files):
        write_rows(path, seed, 400, 60, 9, prefix=f"{split}/")
    parsed = read_label_rows([RowFile(*file) for file in files], value="confidence", absent=absent)
    expected, merged = by_loop(files, "confidence", absent)
    assert parsed.label_names == sorted(f'größe, "{i}"' for i in range(9))
    # Split by split, and images in the order of their file.
    order = [(split, image) for split in ("train", "val", "test") for image in expected[split]]
    assert [(split, parsed.names.name(i)) for i, split in enumerate(parsed.splits)] == order
    targets = parsed.annotations.targets()
    for i, (split, image) in enumerate(order):
        own = expected[split][image]
        assert targets[i].tolist() == [own.get(name, absent) for name in parsed.label_names]
    assert parsed.annotations.absent == absent
    # What the rule says is not stored.
    assert parsed.annotations.stored.nnz == sum(
        len(own) for images in expected.values() for own in images.values()
    )
    assert parsed.annotations.stored.has_canonical_format
    text = " | ".join(parsed.remarks)
    assert merged["repeated"]
    assert f"{merged['repeated']:,} repeated row(s) merged" in text
    assert f"{merged['contradicted']:,} pair(s) of image and label both positive and negative" in text


def test_given_labels_and_one_source_only(tmp_path):
    file = (tmp_path / "rows.csv", "train")
    write_rows(file[0], 3, 500, 40, 6)
    labels = [f'größe, "{i}"' for i in (4, 0, 99)]
    parsed = read_label_rows([RowFile(*file)], value="confidence", labels=labels, only=("source", "us"))
    expected, _ = by_loop([file], "confidence", labels=labels, only=("source", "us"))
    assert parsed.label_names == labels
    assert as_dict(parsed) == expected["train"]
    rows = list(csv.DictReader(io.StringIO(file[0].read_text(encoding="utf-8"))))
    ours = [row for row in rows if row["source"] == "us"]
    unknown = sum(row["label"] not in labels for row in ours)
    text = " | ".join(parsed.remarks)
    assert f"{len(rows) - len(ours)} row(s) with another source than 'us' left out" in text
    assert f'{unknown} row(s) of 4 unknown label(s) left out: größe, "' in text


def test_by_hand(tmp_path):
    text = "image,label,confidence\nb.jpg,sea,1\na.jpg,sea,0\nb.jpg,sky,0\nb.jpg,sky,1\nb.jpg,sea,1\na.jpg,sky,.5\n"
    parsed = read(tmp_path, text, value="confidence")
    assert parsed.label_names == ["sea", "sky"]
    assert as_dict(parsed) == {"b.jpg": {"sea": 1, "sky": 1}, "a.jpg": {"sea": 0}}
    assert parsed.splits.tolist() == ["", ""]
    assert parsed.remarks == (
        "1 repeated row(s) merged",
        "1 pair(s) of image and label both positive and negative: positive counts",
    )


def test_without_values_every_row_is_positive(tmp_path):
    parsed = read(tmp_path, "label,image\n\nsea,b\nsky,a\n", absent=0)
    assert parsed.annotations.targets().tolist() == [[1, 0], [0, 1]]


def test_bom_crlf_blanks_quotes_and_empty_lines(tmp_path):
    text = '\ufeffimage , label\r\n"a, b.jpg", sea \r\n\r\n a.jpg,"the ""sea"""\r\n"a, b.jpg",sea'
    parsed = read(tmp_path, text)
    assert as_dict(parsed) == {"a, b.jpg": {"sea": 1}, "a.jpg": {'the "sea"': 1}}
    assert parsed.remarks == ("1 repeated row(s) merged",)


def test_machine_labels_count_where_no_human_was_asked(tmp_path):
    (tmp_path / "human.csv").write_text("image,label,confidence\na,sea,0\na,sky,1\nb,sea,1\n")
    (tmp_path / "machine.csv").write_text(
        "image,label,confidence\na,sea,0.9\na,sky,0.9\na,sun,0.7\nb,sky,0.6\nc,sea,1\n"
    )
    machine = {"positive": 0.7, "negative": None, "second": True, "image_path": "train/{}.jpg"}
    files = [
        RowFile(tmp_path / "machine.csv", "train", **machine),
        RowFile(tmp_path / "human.csv", "train", "train/{}.jpg"),
    ]
    for order in (files, files[::-1]):
        parsed = read_label_rows(order, value="confidence")
        assert as_dict(parsed) == {
            "train/a.jpg": {"sea": 0, "sky": 1, "sun": 1},
            "train/b.jpg": {"sea": 1},
            "train/c.jpg": {"sea": 1},
        }
        assert parsed.remarks == (
            "2 pair(s) of image and label in files of both ranks: the first rank counts",
        )


def test_verdicts(tmp_path):
    human, machine = RowFile(tmp_path), RowFile(tmp_path, positive=0.7, negative=0.2)
    values = ["1", "1.0", "0", "0.7", "0.2", "0.3", "-1", "", " ", "yes", "nan", "1.5", "-0.5"]
    assert [human.verdict(value) for value in values] == [0, 0, 1, 2, 2, 2, 2, 2, 2, None, None, None, None]
    assert [machine.verdict(value) for value in values] == [0, 0, 1, 0, 1, 2, 2, 2, 2, None, None, None, None]


def test_known_wins_over_unknown(tmp_path):
    parsed = read(tmp_path, "image,label,v\na,sea,-1\na,sea,0\na,sky,\nb,sky,1\n", value="v", absent=0)
    assert as_dict(parsed) == {"a": {"sea": 0}, "b": {"sea": 0, "sky": 1}}
    assert parsed.remarks == ("1 pair(s) of image and label both known and unknown: what is known counts",)


@pytest.mark.parametrize("block", [16, 2**26])
def test_what_is_malformed_is_named_by_line(tmp_path, monkeypatch, block):
    monkeypatch.setattr(zoo.data.csv_blocks, "BLOCK", block)
    rows = [
        "image,label,v",
        "a,sea,1",
        "a,sky",
        "b,,1",
        ",sea,1",
        "",
        "c,sea,maybe",
        "c,sea,2",
        "d,e,f,g",
        "x,y,0",
        "c,sea,7",
        "c,sea,8",
    ]
    with pytest.raises(InputError) as error:
        read(tmp_path, "\n".join(rows), value="v")
    lines = str(error.value).splitlines()
    assert lines[0] == f"{tmp_path / 'labels.csv'} cannot be used:"
    assert sorted(line.strip() for line in lines[1:]) == [
        "1 row(s) with an empty 'image': labels.csv line 5",
        "1 row(s) with an empty 'label': labels.csv line 4",
        "2 row(s) without the header's 3 columns: labels.csv line 3 has 2; labels.csv line 9 has 4",
        "4 value(s) of 'v' that are neither a number from 0 to 1 nor -1: 'maybe' (labels.csv line 7, column 'v'); "
        "'2' (labels.csv line 8, column 'v'); '7' (labels.csv line 11, column 'v'); ...",
    ]


def test_not_utf8_and_too_many_problems(tmp_path, monkeypatch):
    (tmp_path / "labels.csv").write_bytes(b"image,label\na,sea\nb,gr\xf6sse\n")
    with pytest.raises(InputError, match=r"1 row\(s\) that are no CSV in UTF-8: labels\.csv line 3 \("):
        read_label_rows([RowFile(tmp_path / "labels.csv")])
    (tmp_path / "labels.csv").write_bytes("image,label\na,sea\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"labels\.csv line 1 is not UTF-8 .*save it as CSV UTF-8"):
        read_label_rows([RowFile(tmp_path / "labels.csv")])
    monkeypatch.setattr(zoo.data.label_rows, "MANY", 5)
    monkeypatch.setattr(zoo.data.csv_blocks, "BLOCK", 32)
    with pytest.raises(
        InputError, match=r"\(5 problems or more: read no further\) cannot be used:\n  \d+ row"
    ):
        read(tmp_path, "image,label\n" + "a\n" * 1000)


def test_headers(tmp_path):
    with pytest.raises(
        InputError, match=r"labels\.csv line 1: unknown column 'image'\. Did you mean images\?"
    ):
        read(tmp_path, "images,label\na,sea\n")
    with pytest.raises(InputError, match=r"line 1: more than one column named 'label'"):
        read(tmp_path, "image,label,label\na,sea,sea\n")
    with pytest.raises(InputError, match=r"labels\.csv: a header, but no rows"):
        read(tmp_path, "image,label\n")
    with pytest.raises(InputError, match="unknown column 'image'"):
        read(tmp_path, "")
    # What is not read may be named as it likes.
    assert as_dict(read(tmp_path, "image,,label,\na,x,sea,y\n")) == {"a": {"sea": 1}}


def test_an_image_in_two_splits(tmp_path):
    (tmp_path / "a.csv").write_text("image,label\na,sea\nb,sea\n")
    (tmp_path / "b.csv").write_text("image,label\nb,sea\nc,sea\nb,sky\n")
    files = [RowFile(tmp_path / "a.csv", "train"), RowFile(tmp_path / "b.csv", "test")]
    with pytest.raises(InputError, match=r"1 image\(s\) in more than one split: b"):
        read_label_rows(files)


def test_a_lone_quote_and_a_quoted_line_end(tmp_path):
    with pytest.raises(InputError, match=r"labels\.csv line 3"):
        read(tmp_path, 'image,label\na,sea\n"b\nc",sea\n')


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'label-graph-zoo\[data\]'"):
        read(tmp_path, "image,label\na,sea\n")
