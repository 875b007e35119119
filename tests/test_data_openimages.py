from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import zoo.data.openimages
import zoo.data.parsed
from zoo.data import open_dataset
from zoo.data.openimages import label_names, openimages, pairs
from zoo.lookup import InputError

pytest.importorskip("pyarrow")

NAMES = {
    "/m/0animal": "Animal",
    "/m/0dog": "Dog",
    "/m/0cat": "Cat",
    "/m/0pup": "Puppy",
    "/m/0jag1": "Jaguar",
    "/m/0jag2": "Jaguar",
    "/m/0tail": "Tail",
    "/m/0comma": "Rock, paper, scissors",
}
TREE = {
    "LabelName": "/m/0bl9f",  # Entity, which is no label
    "Subcategory": [
        {
            "LabelName": "/m/0animal",
            "Subcategory": [
                {"LabelName": "/m/0dog", "Subcategory": [{"LabelName": "/m/0pup"}]},
                {"LabelName": "/m/0cat", "Part": [{"LabelName": "/m/0tail"}]},
            ],
        },
        {"LabelName": "/m/0other", "Subcategory": [{"LabelName": "/m/0jag1"}]},
    ],
}
HUMAN = {
    "train": [
        ("01", "verification", "/m/0dog", 1),
        ("01", "crowdsource-verification", "/m/0cat", 0),
        ("02", "verification", "/m/0animal", 0),
        ("02", "verification", "/m/0pup", 1),  # contradicts the line before by the hierarchy
        ("03", "verification", "/m/0animal", 0),
        ("01", "verification", "/m/0dog", 1),  # again
        ("04", "verification", "/m/0cat", 1),
        ("04", "crowdsource-verification", "/m/0cat", 0),  # contradicts the line before
        ("05", "verification", "/m/0nowhere", 1),  # not described
        ("06", "verification", "/m/0jag1", 1),
        ("06", "verification", "/m/0jag2", 1),
        ("06", "verification", "/m/0comma", 0),
    ],
    "val": [("07", "verification", "/m/0dog", 1), ("07", "verification", "/m/0pup", 0)],
    "test": [("08", "crowdsource-verification", "/m/0tail", 1), ("08", "verification", "/m/0cat", 1)],
}
MACHINE = {
    "train": [
        ("01", "machine", "/m/0cat", 0.9),  # a human says no
        ("01", "machine", "/m/0tail", 0.8),
        ("02", "machine", "/m/0cat", 0.6),
        ("09", "machine", "/m/0dog", 1.0),
    ],
    "val": [("07", "machine", "/m/0tail", 0.7)],
    "test": [("08", "machine", "/m/0dog", 0.5)],
}
OFFICIAL = {  # what each version's files are called
    "v4": ("{folder}/{folder}-annotations-{kind}-imagelabels.csv",) * 3 + ("",),
    "v5": ("{folder}-annotations-{kind}-imagelabels.csv",) * 3 + ("",),
    "v6": ("oidv6-{folder}-annotations-{kind}-imagelabels.csv",)
    + ("{folder}-annotations-{kind}-imagelabels.csv",) * 2
    + ("oidv6-",),
    "v7": ("oidv7-{split}-annotations-{kind}-imagelabels.csv",) * 3 + ("oidv7-",),
}
FOLDERS = {"train": "train", "val": "validation", "test": "test"}


def write_csv(path, header, rows):
    path.parent.mkdir(exist_ok=True, parents=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header] * bool(header) + list(rows))


def write(root, version="v7", human=HUMAN, machine=MACHINE, names=NAMES, tree=TREE):
    *patterns, prefix = OFFICIAL[version]
    for (split, folder), pattern in zip(FOLDERS.items(), patterns, strict=True):
        for kind, rows in (("human", human), ("machine", machine)):
            path = root / pattern.format(split=split, folder=folder, kind=kind)
            write_csv(path, ("ImageID", "Source", "LabelName", "Confidence"), rows[split])
    header = ("LabelName", "DisplayName") if prefix else None
    write_csv(root / f"{prefix}class-descriptions.csv", header, names.items())
    trainable = [mid for mid in names if mid not in ("/m/0tail", "/m/0jag2")]
    (root / f"{prefix}classes-trainable.txt").write_text("\n".join([*trainable, "/m/0lost"]) + "\n")
    boxable = [(mid, names[mid]) for mid in ("/m/0pup", "/m/0cat") if mid in names]
    write_csv(root / f"{prefix}class-descriptions-boxable.csv", header, boxable)
    (root / "bbox_labels_600_hierarchy.json").write_text(json.dumps(tree))
    return root


def known(data):
    """{image: {label: target}}, unknown ones left out."""
    targets = data.targets
    return {
        data.images.name(i): {
            data.label_names[j]: int(targets[i, j]) for j in np.flatnonzero(targets[i] != -1)
        }
        for i in range(len(data))
    }


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(zoo.data.parsed, "SMALL", 4)


EVERYTHING = {
    "train/01.jpg": {"Dog": 1, "Cat": 0},
    "train/02.jpg": {"Animal": 0, "Puppy": 1},
    "train/03.jpg": {"Animal": 0},
    "train/04.jpg": {"Cat": 1},
    "train/06.jpg": {"Jaguar (/m/0jag1)": 1, "Jaguar (/m/0jag2)": 1, "Rock, paper, scissors": 0},
    "validation/07.jpg": {"Dog": 1, "Puppy": 0},
    "test/08.jpg": {"Tail": 1, "Cat": 1},
}


@pytest.mark.parametrize("version", ["v4", "v5", "v6", "v7"])
def test_every_label_of_each_version(tmp_path, version):
    root = write(tmp_path / "oi", version)
    data = openimages(root=str(root), version=version, labels="all", min_positives=0, check_images=False)
    assert known(data) == EVERYTHING
    assert data.label_names == [
        "Animal", "Dog", "Cat", "Puppy", "Jaguar (/m/0jag1)", "Jaguar (/m/0jag2)", "Tail", "Rock, paper, scissors",
    ]  # fmt: skip
    assert data.splits.tolist() == ["train"] * 5 + ["val", "test"]
    assert data.hierarchy == (("Animal", "Dog"), ("Dog", "Puppy"), ("Animal", "Cat"))
    assert data.name == f"openimages-{version}"
    assert data.remarks == (
        "1 row(s) of 1 unknown label(s) left out: /m/0nowhere",
        "1 repeated row(s) merged",
        "1 pair(s) of image and label both positive and negative: positive counts",
    )
    names = [
        pattern.format(split=s, folder=f, kind="human")
        for (s, f), pattern in zip(FOLDERS.items(), OFFICIAL[version], strict=False)
    ]
    for words in (
        f"Open Images {version.upper()}",
        "1 image(s) without a known label",
        *(n.split("/")[-1] for n in names),
    ):
        assert words in data.protocol
    assert data.annotations.known().tolist() == [2, 2, 3, 2, 1, 1, 1, 1]


def test_trainable_labels_that_can_be_learnt(tmp_path):
    root = write(tmp_path / "oi")
    data = openimages(root=str(root), check_images=False)
    assert data.label_names == ["Dog", "Cat", "Puppy", "Jaguar (/m/0jag1)"]
    assert known(data) == {
        "train/01.jpg": {"Dog": 1, "Cat": 0},
        "train/02.jpg": {"Puppy": 1},
        "train/04.jpg": {"Cat": 1},
        "train/06.jpg": {"Jaguar (/m/0jag1)": 1},
        "validation/07.jpg": {"Dog": 1, "Puppy": 0},
        "test/08.jpg": {"Cat": 1},
    }
    assert data.hierarchy == (("Dog", "Puppy"),)
    assert "2 label(s) with fewer than 1 positive(s) in train left out" in data.remarks
    assert "1 label(s) of oidv7-classes-trainable.txt are not described, and left out" in data.remarks
    assert "2 image(s) without a known label" in data.protocol
    counts = data.label_counts()
    assert counts.counts.tolist() == [2, 2, 1, 1]
    assert counts.known.tolist() == [2, 3, 2, 1]


def test_labels_between_two_others_hand_their_children_on(tmp_path):
    root = write(tmp_path / "oi")
    (root / "oidv7-classes-trainable.txt").write_text("/m/0animal\n/m/0pup\n")
    data = openimages(root=str(root), min_positives=0, check_images=False)
    assert data.hierarchy == (("Animal", "Puppy"),)


def test_boxable_labels(tmp_path):
    root = write(tmp_path / "oi")
    data = openimages(root=str(root), labels="boxable", check_images=False)
    assert data.label_names == ["Cat", "Puppy"]  # in the order of all class descriptions
    assert "oidv7-train-annotations-human-imagelabels.csv" in data.protocol
    for split, folder in FOLDERS.items():
        rows = [("99", "verification", "/m/0pup", 1)] if split == "train" else []
        rows += [(f"9{split}", "verification", "/m/0cat", 1)]
        header = ("ImageID", "Source", "LabelName", "Confidence")
        write_csv(root / f"{folder}-annotations-human-imagelabels-boxable.csv", header, rows)
    data = openimages(root=str(root), labels="boxable", check_images=False)
    assert known(data)["train/99.jpg"] == {"Puppy": 1}
    assert len(data) == 4
    assert "train-annotations-human-imagelabels-boxable.csv" in data.protocol


def test_expanded_by_hand(tmp_path):
    root = write(tmp_path / "oi")
    data = openimages(root=str(root), labels="all", hierarchy="expanded", min_positives=0, check_images=False)
    assert known(data) == {
        **EVERYTHING,
        "train/01.jpg": {"Animal": 1, "Dog": 1, "Cat": 0},
        "train/02.jpg": {"Animal": 1, "Dog": 1, "Puppy": 1},  # and of the cat nothing is known
        "train/03.jpg": {"Animal": 0, "Dog": 0, "Cat": 0, "Puppy": 0},
        "train/04.jpg": {"Animal": 1, "Cat": 1},
        "validation/07.jpg": {"Animal": 1, "Dog": 1, "Puppy": 0},
        "test/08.jpg": {"Animal": 1, "Cat": 1, "Tail": 1},
    }
    assert (
        "the hierarchy made 6 entries positive, 1 of which were verified as negative, and 3 negative"
        in data.remarks
    )


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ("verification", {"01": {"Dog": 1}, "04": {"Cat": 1}, "08": {"Cat": 1}}),
        ("crowdsource-verification", {"01": {"Cat": 0}, "04": {"Cat": 0}, "08": {"Tail": 1}}),
        ("machine", {"01": {"Cat": 1, "Tail": 1}, "02": {}, "07": {"Tail": 1}, "08": {}, "09": {"Dog": 1}}),
        (
            "human+machine",
            {
                "01": {"Dog": 1, "Cat": 0, "Tail": 1},
                "07": {"Dog": 1, "Puppy": 0, "Tail": 1},
                "09": {"Dog": 1},
            },
        ),
    ],
)
def test_sources(tmp_path, sources, expected):
    root = write(tmp_path / "oi")
    data = openimages(
        root=str(root), labels="all", sources=sources, min_confidence=0.7, min_positives=0, check_images=False
    )
    found = {name.split("/")[1].removesuffix(".jpg"): own for name, own in known(data).items()}
    assert {image: found.get(image, {}) for image in expected} == expected
    assert f"sources {sources}" in data.protocol
    assert ("from confidence 0.7" in data.protocol) == ("machine" in sources)
    if sources == "human+machine":
        assert "1 pair(s) of image and label in files of both ranks: the first rank counts" in data.remarks


def test_random_rows_as_a_loop_reads_them(tmp_path):
    generator = np.random.default_rng(1)
    mids = {f"/m/{i:03}": f"name {i}" for i in range(15)}
    rows = {
        split: [
            (
                f"{split}{generator.integers(30):04x}",
                "verification",
                f"/m/{generator.integers(17):03}",
                generator.integers(2),
            )
            for _ in range(300)
        ]
        for split in FOLDERS
    }
    root = write(tmp_path / "oi", human=rows, names=mids)
    data = openimages(root=str(root), labels="all", check_images=False)
    expected: dict[str, dict[str, int]] = {}
    for split, folder in FOLDERS.items():
        for image, _, mid, value in rows[split]:
            if mid in mids:
                own = expected.setdefault(f"{folder}/{image}.jpg", {})
                own[mids[mid]] = max(int(value), own.get(mids[mid], 0))
    assert known(data) == expected


def test_parsed_once(tmp_path, monkeypatch):
    root = write(tmp_path / "oi")
    first = openimages(root=str(root), check_images=False)
    monkeypatch.setattr(zoo.data.openimages, "read_label_rows", lambda *a, **k: pytest.fail("parsed again"))
    again = openimages(root=str(root), hierarchy="none", check_images=False)
    assert known(again) == known(first)
    assert again.hierarchy == ()
    assert openimages(root=str(root), labels="all", check_images=False).label_names[0] == "Dog"


def test_images_and_options_by_name(tmp_path, monkeypatch):
    root = write(tmp_path / "openimages")
    monkeypatch.setenv("ZOO_DATASETS", str(tmp_path))
    data = open_dataset("openimages:labels=all:min_positives=0", check_images=False)
    assert data.images[0] == root / "train" / "01.jpg"
    for name in EVERYTHING:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("")
    assert len(open_dataset("openimages:labels=all:min_positives=0")) == 7
    (root / "validation" / "07.jpg").unlink()
    with pytest.raises(InputError, match=r"openimages: 1 of 7 images are not in .*: validation/07\.jpg"):
        open_dataset("openimages:labels=all:min_positives=0")
    with pytest.raises(InputError, match="min_positives"):
        openimages(root=str(root), min_positives=3, check_images=False)
    with pytest.raises(InputError, match="labels"):
        open_dataset("openimages:labels=some")


def test_missing_files_are_asked_for_by_their_official_names(tmp_path):
    with pytest.raises(
        InputError, match=r"oidv7-class-descriptions\.csv, oidv7-classes-trainable\.txt, .*download_v7"
    ):
        openimages(root=str(tmp_path / "nowhere"))
    root = write(tmp_path / "oi", "v6")
    (root / "validation-annotations-human-imagelabels.csv").unlink()
    with pytest.raises(
        InputError, match=r"has no oidv6-validation-annotations-human-imagelabels\.csv\. It comes from"
    ):
        openimages(root=str(root), version="v6")


def test_malformed_files(tmp_path):
    root = write(tmp_path / "oi")
    path = root / "oidv7-val-annotations-human-imagelabels.csv"
    path.write_text(path.read_text() + "0a,verification,/m/0dog\n0b,verification,/m/0dog,many\n")
    with pytest.raises(InputError) as error:
        openimages(root=str(root), check_images=False)
    assert "oidv7-val-annotations-human-imagelabels.csv line 4 has 3" in str(error.value)
    assert "'many' (oidv7-val-annotations-human-imagelabels.csv line 5, column 'Confidence')" in str(
        error.value
    )
    root = write(tmp_path / "other")
    (root / "oidv7-classes-trainable.txt").write_text("/m/0dog\nDog\n")
    with pytest.raises(InputError, match=r"classes-trainable\.txt line 2: expected a MID"):
        openimages(root=str(root), check_images=False)


def test_descriptions(tmp_path):
    path = tmp_path / "class-descriptions.csv"
    path.write_text("/m/01,Dog\n/m/02,\n/g/1,Dog\n", encoding="utf-8-sig")
    assert label_names(path) == {"/m/01": "Dog (/m/01)", "/m/02": "/m/02", "/g/1": "Dog (/g/1)"}
    for text, words in (
        ("id,name\n/m/01,Dog\n/m/01,Cat\n", r"line 3: /m/01 is described a second time"),
        ("/m/01,Dog\nCat\n", r"line 2: expected a MID and its name \(/m/0bt9lr,Dog\), not 'Cat'"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            label_names(path)


def test_hierarchy_parts_and_wrong_nodes(tmp_path):
    path = tmp_path / "tree.json"
    wheel = {"LabelName": "wheel", "Subcategory": [{"LabelName": "steering wheel"}]}
    path.write_text(json.dumps({"LabelName": "car", "Part": [wheel], "Subcategory": [wheel]}))
    assert pairs(path, ["car", "wheel", "steering wheel"]) == [("car", "wheel"), ("wheel", "steering wheel")]
    path.write_text(json.dumps({"LabelName": "car", "Part": [wheel]}))
    assert pairs(path, ["car", "wheel", "steering wheel"]) == [("wheel", "steering wheel")]
    path.write_text(json.dumps({"LabelName": "car", "Subcategory": [{"Name": "wheel"}]}))
    with pytest.raises(InputError, match=r"tree\.json: expected nodes with a LabelName, not"):
        pairs(path, ["car"])
