"""NUS-WIDE as its official lists have it, made here: four labels, nine photos, Windows paths."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from zoo.data import DATASETS, ImageDataset, open_dataset
from zoo.data.nuswide import nuswide
from zoo.data.samples import read_samples_json
from zoo.lookup import InputError

LABELS = ["clouds", "sea", "sky", "zebra"]
TRAIN = {
    r"actor\0001_11.jpg": "clouds sky",
    r"actor\0002_12.jpg": "sky",
    r"beach\0001_13.jpg": "sea sky",
    r"beach\0002_14.jpg": "",
    r"beach\0003_15.jpg": "sea",
    r"zoo\0001_16.jpg": "zebra",
}
TEST = {r"actor\0003_21.jpg": "sky", r"zoo\0002_22.jpg": "zebra sky", r"zoo\0003_23.jpg": ""}


def write_official(root, train=TRAIN, test=TEST, labels=LABELS, photos="Flickr"):
    (root / "Concepts81.txt").write_text("\n".join(labels) + "\n")
    (root / "ImageList").mkdir(exist_ok=True)
    (root / "Groundtruth/TrainTestLabels").mkdir(parents=True, exist_ok=True)
    for word, images in (("Train", list(dict(train).items())), ("Test", list(dict(test).items()))):
        (root / f"ImageList/{word}Imagelist.txt").write_text("".join(f"{name}\r\n" for name, _ in images))
        for label in labels:
            bits = "".join(f"{int(label in own.split())}\n" for _, own in images)
            (root / f"Groundtruth/TrainTestLabels/Labels_{label}_{word}.txt").write_text(bits)
        for name, _ in images:
            path = root / photos / name.replace("\\", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (2, 3)).save(path)
    return root


def labels_of(dataset: ImageDataset) -> dict[str, str]:
    """What the data set says: file name to labels, in words."""
    return {
        path.name: " ".join(name for name, value in zip(dataset.label_names, row, strict=True) if value == 1)
        for path, row in zip(dataset.images, dataset.targets, strict=True)
    }


@pytest.fixture
def official(tmp_path):
    return write_official(tmp_path)


def test_official_lists(official):
    dataset = open_dataset(f"nuswide:root={official}")
    assert dataset.label_names == LABELS
    assert labels_of(dataset) == {
        "0001_11.jpg": "clouds sky",
        "0002_12.jpg": "sky",
        "0001_13.jpg": "sea sky",
        "0003_15.jpg": "sea",
        "0001_16.jpg": "zebra",
        "0003_21.jpg": "sky",
        "0002_22.jpg": "sky zebra",
    }
    assert {path.name for path in dataset.split("test").images} == {"0003_21.jpg", "0002_22.jpg"}
    assert len(dataset.split("val"))
    assert len(dataset.split("train")) + len(dataset.split("val")) == 5
    assert dataset[0][0].size == (2, 3)
    assert dataset[0][1].tolist() == [1, 0, 1, 0]
    assert dataset.remarks == ("2 images without any of the labels were left out (unlabelled=excluded)",)
    for words in ("official lists", "2 test", "val taken from train", "images without labels excluded"):
        assert words in dataset.protocol


def test_unlabelled_images_can_stay_and_move_no_other(official):
    included = open_dataset(f"nuswide:root={official}:unlabelled=included")
    assert len(included) == 9
    assert labels_of(included)["0003_23.jpg"] == ""
    assert "images without labels included" in included.protocol
    split = dict(zip(map(str, included.images), included.splits, strict=True))
    excluded = open_dataset(f"nuswide:root={official}")
    assert [split[str(path)] for path in excluded.images] == excluded.splits.tolist()


def test_missing_images(official):
    (official / "Flickr/actor/0002_12.jpg").unlink()
    (official / "Flickr/zoo/0003_23.jpg").unlink()  # has no labels
    with pytest.raises(
        InputError, match=r"1 of 7 images are not in .*actor/0002_12\.jpg.*nuswide:missing=skip"
    ):
        open_dataset(f"nuswide:root={official}")
    dataset = open_dataset(f"nuswide:root={official}:missing=skip")
    assert len(dataset) == 6
    assert "0002_12.jpg" not in labels_of(dataset)
    assert "1 images are not there and were left out (missing=skip)" in dataset.remarks
    assert dataset.protocol.endswith("1 missing images left out")
    whole = open_dataset(f"nuswide:root={official}", check_images=False)
    assert len(whole) == 7
    split = dict(zip(map(str, whole.images), whole.splits, strict=True))
    assert [split[str(path)] for path in dataset.images] == dataset.splits.tolist()
    (official / "Flickr").rename(official / "elsewhere")
    with pytest.raises(InputError, match=r"not one of the 7 images"):
        open_dataset(f"nuswide:root={official}:missing=skip")


def test_other_layouts(tmp_path):
    write_official(tmp_path, photos="images")
    (tmp_path / "ConceptsList").mkdir()
    (tmp_path / "Concepts81.txt").rename(tmp_path / "ConceptsList/Concepts81.txt")
    dataset = open_dataset(f"nuswide:root={tmp_path}")
    assert dataset.images[0] == tmp_path / "images/actor/0001_11.jpg"
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (tmp_path / "images").rglob("*.jpg"):
        # 0001_11 .. 0003_23 are different names in every folder
        path.rename(flat / path.name)
    for folder in sorted((tmp_path / "images").iterdir()):
        folder.rmdir()
    (tmp_path / "images").rmdir()
    flat.rename(tmp_path / "images")
    assert open_dataset(f"nuswide:root={tmp_path}").images[0] == tmp_path / "images/0001_11.jpg"


class Rows:
    """Pairs for lists in which an image may come twice."""

    def __init__(self, *pairs):
        self.pairs = pairs

    def write(self, root, word):
        names, labels = zip(*self.pairs, strict=True)
        (root / f"ImageList/{word}Imagelist.txt").write_text("\n".join(names))
        for label in LABELS:
            bits = "\n".join(str(int(label in own.split())) for own in labels)
            (root / f"Groundtruth/TrainTestLabels/Labels_{label}_{word}.txt").write_text(bits)


def test_images_listed_twice(official):
    rows = [*TRAIN.items(), (r"actor\0002_12.jpg", "sea"), (r"zoo\0002_22.jpg", "zebra sky")]
    rows += [(r"other\0009_16.jpg", "zebra"), (r"other\0009_21.jpg", "sky")]
    Rows(*rows).write(official, "Train")
    dataset = open_dataset(f"nuswide:root={official}", check_images=False)
    assert labels_of(dataset)["0002_12.jpg"] == "sky"
    assert len(dataset) == 9
    assert "0002_22.jpg" in [path.name for path in dataset.split("test").images]
    assert dataset.remarks[:3] == (
        "1 image(s) listed again were left out: actor/0002_12.jpg",
        "1 image(s) of several splits stay in the last of them alone: zoo/0002_22.jpg",
        "1 of these had other labels where they were left out",
    )
    assert dataset.remarks[3].startswith(
        "2 photos are listed under more than one name, by their number at Flickr, 1 of them in train and in test"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0\n1\n x\n0\n0\n0\n", r"Labels_sea_Train\.txt line 3 column 2: expected 0 or 1, not 'x'"),
        ("0\n1\n\n0\n0\n0\n", r"Labels_sea_Train\.txt line 3 column 1: expected 0 or 1, not ''"),
        ("0\n1\n", r"Labels_sea_Train\.txt has 2 lines for the 6 images of ImageList/TrainImagelist\.txt"),
    ],
)
def test_malformed_labels(official, text, message):
    (official / "Groundtruth/TrainTestLabels/Labels_sea_Train.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        nuswide(root=official)


def test_missing_files_and_wrong_choices(official):
    (official / "Groundtruth/TrainTestLabels/Labels_sea_Test.txt").unlink()
    with pytest.raises(
        InputError, match=r"has no Groundtruth/TrainTestLabels/Labels_sea_Test\.txt.*NUS-WIDE\.html"
    ):
        open_dataset(f"nuswide:root={official}")
    with pytest.raises(InputError, match=r"unknown choice of missing 'skipp'\. Did you mean skip\?"):
        open_dataset("nuswide:missing=skipp")
    with pytest.raises(InputError, match="unknown choice of unlabelled 'x'"):
        open_dataset("nuswide:unlabelled=x")
    (official / "ImageList/TrainImagelist.txt").write_text("a\n\nb\n")
    with pytest.raises(InputError, match="does not exist"):
        open_dataset("nuswide:root=/nowhere")


# The tutorial's JSON.

SMALL_TRAIN = [
    ("a.jpg", "sky sea"),
    ("b.jpg", "sea"),
    ("c.jpg", "sky"),
    (r"sub\d.jpg", "tree"),
    ("e.jpg", ""),
]
SMALL_TEST = [("f.jpg", "tree sky"), ("g.jpg", "sea")]


def write_samples(path, samples, labels=("sky", "sea", "tree"), photos="images"):
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [{"image_name": name, "image_labels": own.split()} for name, own in samples]
    path.write_text(json.dumps({"samples": listed, "labels": list(labels)}, indent=3))


@pytest.fixture
def subset(tmp_path):
    """As the tutorial has it: the lists beside the photos, in images/."""
    write_samples(tmp_path / "images/small_train.json", SMALL_TRAIN)
    write_samples(tmp_path / "images/small_test.json", SMALL_TEST)
    (tmp_path / "images/sub").mkdir()
    for name, _ in SMALL_TRAIN + SMALL_TEST:
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / name.replace("\\", "/"))
    return tmp_path


def test_the_tutorials_subset(subset):
    dataset = open_dataset(f"nuswide27:root={subset}")
    assert dataset.name == "nuswide27"
    assert dataset.label_names == ["sky", "sea", "tree"]
    assert labels_of(dataset) == {
        "a.jpg": "sky sea",
        "b.jpg": "sea",
        "c.jpg": "sky",
        "d.jpg": "tree",
        "e.jpg": "",
        "f.jpg": "sky tree",
        "g.jpg": "sea",
    }
    assert dataset.images[3] == subset / "images/sub/d.jpg"
    assert [path.name for path in dataset.split("test").images] == ["f.jpg", "g.jpg"]
    assert len(dataset.split("val")) > 0
    assert dataset.remarks == (
        "small_train.json: 1 images have none of the labels and count as negative for all",
    )
    for words in ("subset of LearnOpenCV", "2 test", "val taken from train", "order of small_train.json"):
        assert words in dataset.protocol
    for name in ("small_train.json", "small_test.json"):  # as well beside the folder of photos
        (subset / "images" / name).rename(subset / name.removeprefix("small_"))
    other = open_dataset(f"nuswide27:root={subset}:train=train.json:test=test.json")
    assert other.targets.tolist() == dataset.targets.tolist()
    assert other.images == dataset.images


def test_samples_of_your_own(tmp_path):
    write_samples(tmp_path / "pets/train.json", SMALL_TRAIN)
    write_samples(tmp_path / "pets/dev.json", [("f.jpg", "tree sky")], labels=("tree", "sky", "sea"))
    write_samples(tmp_path / "pets/test.json", [("g.jpg", "sea"), ("a.jpg", "sea"), ("g.jpg", "sea")])
    source = f"samples_json:root={tmp_path}/pets:val=dev.json"
    dataset = open_dataset(source, check_images=False)
    assert dataset.name == "pets"
    assert labels_of(dataset)["f.jpg"] == "sky tree"  # columns by name, whatever their order in the file
    assert labels_of(dataset)["a.jpg"] == "sea"
    splits = {path.name: str(split) for path, split in zip(dataset.images, dataset.splits, strict=True)}
    assert splits["f.jpg"] == "val"
    assert splits["a.jpg"] == splits["g.jpg"] == "test"
    assert splits["b.jpg"] == "train"
    assert (
        dataset.protocol
        == "train.json, dev.json, test.json: 4 train, 1 val, 2 test; labels in the order of train.json"
    )
    assert dataset.remarks[1:] == (
        "1 image(s) listed again were left out: g.jpg",
        "1 image(s) of several splits stay in the last of them alone: a.jpg",
        "1 of these had other labels where they were left out",
    )
    with pytest.raises(InputError, match=r"pets: 7 of 7 images are not in"):
        open_dataset(source)
    alone = open_dataset(f"samples_json:root={tmp_path}/pets:test=null", check_images=False)
    assert "val and test taken from train by iterative stratification" in alone.protocol
    with pytest.raises(InputError, match=r"has no tset\.json"):
        open_dataset(f"{source}:test=tset.json")


def test_files_with_other_labels(subset):
    write_samples(subset / "images/small_test.json", SMALL_TEST, labels=("sky", "sea", "tree", "zebra"))
    with pytest.raises(
        InputError, match=r"small_test\.json: its labels are not those of .*only one of them has zebra"
    ):
        open_dataset(f"nuswide27:root={subset}")


def test_read_samples_json(tmp_path):
    path = tmp_path / "list.json"
    path.write_text(
        '{"samples": [{"image_name": "a.jpg", "image_labels": ["sea", "sea"]}], "labels": ["sky", "sea"]}'
    )
    parsed = read_samples_json(path, "val")
    assert parsed.annotations.targets().tolist() == [[0, 1]]
    assert parsed.splits.tolist() == ["val"]
    assert parsed.names.name(0) == "a.jpg"
    assert parsed.remarks == ("1 labels that an image has twice count once",)


def test_malformed_samples(tmp_path):
    path = tmp_path / "list.json"
    path.write_text('{"samples": [\n  {"image_name": "a.jpg",, "image_labels": []}], "labels": ["sky"]}')
    with pytest.raises(InputError, match=r"list\.json line 2 column 26: "):
        read_samples_json(path)
    path.write_text('[{"image": "a.jpg"}]')
    with pytest.raises(InputError, match=r'list\.json: expected \{"samples"'):
        read_samples_json(path)
    path.write_text('{"samples": [], "labels": ["sky"]}')
    with pytest.raises(InputError, match=r"has no samples"):
        read_samples_json(path)
    samples = [
        {"image_name": "a.jpg", "image_labels": ["skye", 7]},
        {"image_name": "b.jpg"},
        {"image_name": 3, "image_labels": []},
    ]
    path.write_text(json.dumps({"samples": samples, "labels": ["sky", "sea", "sky", ""]}))
    with pytest.raises(InputError) as caught:
        read_samples_json(path)
    assert str(caught.value).splitlines() == [
        f"{path} cannot be used:",
        "  1 label(s) listed again: 'sky' (labels[2])",
        "  1 label(s) that are no text: '' (labels[3])",
        "  2 unknown label(s): 'skye' (samples[0], a.jpg; did you mean 'sky'?); 7 (samples[0], a.jpg)",
        "  2 sample(s) without image_name and image_labels: samples[1]; samples[2]",
    ]


def test_they_are_in_the_table():
    assert {"nuswide", "nuswide27", "samples_json"} <= DATASETS.keys()
