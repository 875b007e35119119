"""Instances in COCO's official layout: small ones made here, and COCO 2014's own labels where they are at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights
from torchvision.transforms.functional import pil_to_tensor

import zoo
import zoo.data.coco
import zoo.data.parsed
from zoo.data import ImageDataset, open_dataset
from zoo.data.coco import COCO_CATEGORIES, coco2014, coco2017, coco_label_names
from zoo.lookup import InputError

ID = {name: category for category, name in COCO_CATEGORIES.items()}
# image id: the labels of its objects
TRAIN = {i: ["dog", "person", "dog"] if i % 2 else ["cat"] for i in range(1, 17)} | {50: []}
VAL = {101: ["zebra"], 102: [], 103: ["person", "cat"], 104: []}


def instances(images: dict[int, list[str]], part: str) -> dict[str, Any]:
    """All that the official files hold, in their order; the last object of each image is a crowd."""
    name = f"COCO_{part}_" if part.endswith("2014") else ""
    annotations = []
    for image, labels in images.items():
        for i, label in enumerate(labels):
            mask: Any = [[1.5, 1.0, 4.0, 1.0, 4.0, 5.25]]
            crowd = i == len(labels) - 1
            annotations.append({
                "segmentation": {"counts": [3, 4, 41], "size": [6, 8]} if crowd else mask, "area": 6.375,
                "iscrowd": int(crowd), "image_id": image, "bbox": [1.5, 1.0, 2.5, 4.25], "category_id": ID[label],
                "id": 1000 + len(annotations),
            })  # fmt: skip
    return {
        "info": {"description": "COCO 2014 Dataset", "year": 2014},
        "images": [
            {
                "license": 5, "file_name": f"{name}{image:012}.jpg", "height": 6, "width": 8, "id": image,
                "coco_url": f"http://images.cocodataset.org/{part}/{name}{image:012}.jpg",
            }
            for image in images
        ],
        "licenses": [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution"}],
        "annotations": annotations,
        "categories": [
            {"supercategory": "thing", "id": category, "name": label} for category, label in COCO_CATEGORIES.items()
        ],
    }  # fmt: skip


def write_coco(root: Path, year: str = "2014") -> Path:
    (root / "annotations").mkdir(parents=True)
    for part, images in ((f"train{year}", TRAIN), (f"val{year}", VAL)):
        content = instances(images, part)
        (root / part).mkdir()
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
        for entry in content["images"]:
            Image.new("RGB", (8, 6)).save(root / part / entry["file_name"])
    return root


def rewrite(root: Path, part: str, change: Any) -> None:
    """Changes the contents of a file of annotations."""
    file = root / "annotations" / f"instances_{part}.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def labels_of(dataset: ImageDataset) -> dict[int, set[str]]:
    names = np.array(dataset.label_names)
    return {
        int(path.stem[-12:]): set(names[row == 1])
        for path, row in zip(dataset.images, dataset.targets, strict=True)
    }


@pytest.fixture
def coco(tmp_path) -> Path:
    return write_coco(tmp_path / "coco")


# --- COCO 2014 itself ---------------------------------------------------------------------------------------


def test_the_shipped_counts_are_those_of_the_official_annotations(tmp_path, monkeypatch):
    file = Path(os.environ.get("ZOO_DATA", "")) / ".." / "statistics" / "coco2014_targets.npz"
    if "ZOO_DATA" not in os.environ or not file.is_file():
        pytest.skip("there are no annotations of COCO 2014 in $ZOO_DATA")
    with np.load(file) as arrays:
        is_train, targets, labels = arrays["is_train"], arrays["targets"], arrays["labels"].tolist()
        images = arrays["images"].tolist()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "annotations").mkdir()
    category = np.array([ID[label] for label in labels])
    for part, chosen in (("train2014", is_train), ("val2014", ~is_train)):
        content = instances({}, part)
        for name, row in zip(np.array(images)[chosen].tolist(), targets[chosen], strict=True):
            image = int(name[-16:-4])
            content["images"].append({"file_name": name, "id": image})
            # Of val, only the number of images is looked at: one label of each is enough.
            own = category[row == 1].tolist()[: None if part == "train2014" else 1]
            content["annotations"] += [{"image_id": image, "category_id": c} for c in own]
        content["images"].append({"file_name": "without.jpg", "id": -len(part)})
        (tmp_path / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))

    dataset = coco2014(root=tmp_path, check_images=False, val_fraction=0.0)
    counts, shipped = dataset.split("train").label_counts(), zoo.label_counts("coco2014")
    assert counts.label_names == shipped.label_names
    assert counts.num_images == shipped.num_images == 82_081
    assert_array_equal(counts.counts, shipped.counts)
    assert_array_equal(counts.cooccurrence.toarray(), shipped.cooccurrence.toarray())
    assert len(dataset.split("test")) == 40_137

    monkeypatch.setattr(zoo.data.coco, "read_json", lambda *_: pytest.fail("the files were parsed again"))
    by_id = coco2014(root=tmp_path, check_images=False, label_order="category_id", unlabelled="included")
    assert len(by_id) == 82_081 + 1 + 40_137 + 1
    assert by_id.label_names[:3] == ["person", "bicycle", "car"]
    person = shipped.label_names.index("person")
    assert (by_id.targets[by_id.splits != "test", 0] == 1).sum() == shipped.counts[person]
    train, val = by_id.split("train").annotations.positives(), by_id.split("val").annotations.positives()
    share = val / (train + val)
    assert share.min() > 0.09
    assert share.max() < 0.11


# --- labels -------------------------------------------------------------------------------------------------


def test_categories_are_those_that_torchvision_knows():
    theirs = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    assert {i: name for i, name in enumerate(theirs) if name not in ("__background__", "N/A")} == dict(
        COCO_CATEGORIES
    )


def test_orders_of_labels(coco):
    assert coco_label_names() == zoo.label_counts("coco2014").label_names
    assert coco_label_names("category_id")[-2:] == ("hair drier", "toothbrush")
    alphabetical, by_id = coco2014(root=coco), open_dataset(f"coco2014:root={coco}:label_order=category_id")
    assert alphabetical.label_names == sorted(by_id.label_names)
    assert by_id.label_names == [*COCO_CATEGORIES.values()]
    assert labels_of(alphabetical) == labels_of(by_id)
    assert_array_equal(by_id.with_labels(alphabetical.label_names).targets, alphabetical.targets)
    assert "label order category_id" in by_id.protocol
    with pytest.raises(InputError, match=r"unknown order of COCO's labels 'id'.*alphabetical, category_id"):
        coco2014(root=coco, label_order="id")


def test_a_label_is_positive_where_any_object_has_it_also_a_crowd(coco):
    dataset = coco2014(root=coco, unlabelled="included")
    assert labels_of(dataset) == {image: set(labels) for image, labels in (TRAIN | VAL).items()}
    assert dataset.label_counts().known is None
    assert "crowds count as positive" in dataset.protocol


# --- images and splits --------------------------------------------------------------------------------------


def test_one_batch(coco):
    dataset = open_dataset(f"coco2014:root={coco}")
    assert dataset.images[0] == coco / "train2014" / "COCO_train2014_000000000001.jpg"
    loader = DataLoader(dataset.split("train").with_transform(pil_to_tensor), batch_size=4)
    images, targets = next(iter(loader))
    assert images.shape == (4, 3, 6, 8)
    assert (targets.shape, targets.dtype) == ((4, 80), torch.int8)
    assert "CC BY 4.0" in dataset.licence


def test_images_without_labels_under_both_protocols(coco):
    dataset = coco2014(root=coco)
    assert dataset.label_counts().num_images == len(dataset) == 18
    assert [path.stem[-3:] for path in dataset.split("test").images] == ["101", "103"]
    note = "1 of 17 images of the official train2014 and 2 of 4 images of the official val2014 have none of the labels"
    assert f"{note}, and are excluded" in dataset.describe()
    assert "those without any of the labels excluded" in dataset.protocol

    whole = open_dataset(f"coco2014:root={coco}:unlabelled=included")
    assert whole.label_counts().num_images == len(whole) == 21
    assert [path.stem[-3:] for path in whole.split("test").images] == ["101", "102", "103", "104"]
    assert not whole.split("test").targets[1].any()
    assert f"{note}, and are included" in whole.describe()
    with pytest.raises(InputError, match=r"unlabelled images 'include'\. Did you mean included"):
        coco2014(root=coco, unlabelled="include")


def test_val_is_carved_out_of_train(coco):
    dataset = coco2014(root=coco, val_fraction=0.25)
    parts = {
        split: [path.parent.name for path in dataset.split(split).images]
        for split in ("train", "val", "test")
    }
    assert {split: set(folders) for split, folders in parts.items()} == {
        "train": {"train2014"}, "val": {"train2014"}, "test": {"val2014"}
    }  # fmt: skip
    num_val = len(parts["val"])
    assert num_val in (3, 4, 5)
    assert dataset.protocol.startswith(
        "test is the official val2014, train is train2014, less the 25% carved out as val (iterative "
        f"stratification, seed 0); 18 images ({16 - num_val} train, {num_val} val, 2 test), "
    )
    assert coco2014(root=coco, val_fraction=0.25).fingerprint() == dataset.fingerprint()
    assert (coco2014(root=coco, val_fraction=0.25, seed=1).splits != dataset.splits).any()
    whole = coco2014(root=coco, val_fraction=0.0)
    assert len(whole.split("train")) == 16
    assert "carved" not in whole.protocol
    with pytest.raises(InputError, match="shares"):
        coco2014(root=coco, val_fraction=-0.5)


def test_coco2017(coco, tmp_path, monkeypatch):
    with pytest.raises(
        InputError,
        match=r"coco has no annotations/instances_train2017\.json, .*It comes from annotations_trainval2017\.zip",
    ):
        coco2017(root=coco)
    write_coco(tmp_path / "17" / "coco", "2017")
    monkeypatch.setenv("ZOO_DATASETS", str(tmp_path / "17"))
    dataset = open_dataset("coco2017")
    assert dataset.name == "coco2017"
    assert dataset.images[0] == tmp_path / "17" / "coco" / "train2017" / "000000000001.jpg"
    assert "val2017" in dataset.protocol


def test_missing_images_are_counted_unless_a_label_graph_is(coco):
    for image in (1, 50):
        (coco / "train2014" / f"COCO_train2014_{image:012}.jpg").unlink()
    with pytest.raises(
        InputError, match=r"coco2014: 1 of 18 images are not in .*train2014_000000000001\.jpg"
    ):
        coco2014(root=coco)
    with pytest.raises(InputError, match=r"coco2014: 2 of 21 images"):
        coco2014(root=coco, unlabelled="included")
    assert len(coco2014(root=coco, check_images=False)) == 18


# --- what is wrong with a file ------------------------------------------------------------------------------


def test_json_that_ends_early_or_is_none(coco):
    file = coco / "annotations" / "instances_val2014.json"
    whole = json.dumps(json.loads(file.read_text()), indent=1)
    file.write_text(whole[: whole.index('"bbox"')])
    line = whole[: whole.index('"bbox"')].count("\n") + 1
    with pytest.raises(
        InputError, match=rf"instances_val2014\.json line {line} column 4: Expecting property"
    ):
        coco2014(root=coco)
    for content in ("[1, 2]", "3", '{"images": [1], "categories": {}, "annotations": []}'):
        file.write_text(content)
        with pytest.raises(
            InputError,
            match=r"3 lists of objects that are missing, empty or of something else: 'images' of inst",
        ):
            coco2014(root=coco)


def test_every_problem_is_named_and_counted(coco):
    def damage(content: dict[str, Any]) -> None:
        images, annotations = content["images"], content["annotations"]
        images += [images[0], {**images[1], "id": 99}, {"id": "7", "file_name": "x.jpg"}, {"id": 8}]
        annotations += [
            {"image_id": image, "category_id": 1} for image in (1, 777, None, [101])
        ]  # the first is in train alone
        annotations += [{"image_id": 101, "category_id": category} for category in (12, "1", None)]
        content["categories"][0]["name"] = "people"
        content["categories"][-1]["id"] = 91

    rewrite(coco, "val2014", damage)
    with pytest.raises(InputError) as error:
        coco2014(root=coco)
    train, val = (coco / "annotations" / f"instances_{part}2014.json" for part in ("train", "val"))
    assert str(error.value).splitlines() == [
        f"{train} and {val} cannot be used:",
        "  3 categories that are not COCO's: 1 is 'people' in instances_val2014.json, not 'person'; "
        "90 is None in instances_val2014.json, not 'toothbrush'; "
        "91 is 'toothbrush' in instances_val2014.json, not None",
        "  2 images listed again: 'COCO_val2014_000000000101.jpg', id 101 (image 5 of instances_val2014.json); "
        "'COCO_val2014_000000000102.jpg', id 99 (image 6 of instances_val2014.json)",
        "  2 images without a number 'id' and a text 'file_name': image 7 of instances_val2014.json; "
        "image 8 of instances_val2014.json",
        "  4 annotations of images that their file does not list: image_id 1 (annotation 4 of instances_val2014.json)"
        "; image_id 777 (annotation 5 of instances_val2014.json); "
        "image_id None (annotation 6 of instances_val2014.json); ...",
        "  3 annotations of categories that COCO has not: category_id 12 (annotation 8 of instances_val2014.json); "
        "category_id '1' (annotation 9 of instances_val2014.json); "
        "category_id None (annotation 10 of instances_val2014.json)",
    ]


def test_an_image_of_both_train_and_val(coco):
    rewrite(coco, "val2014", lambda content: content["images"].append({"file_name": "x.jpg", "id": 3}))
    with pytest.raises(
        InputError, match=r"1 images listed again: 'x\.jpg', id 3 \(image 5 of instances_val2014"
    ):
        coco2014(root=coco)


def test_masks_and_captions_are_let_go(coco):
    content = zoo.data.coco._read_instances(coco / "annotations" / "instances_train2014.json")
    assert content.keys() == {"images", "annotations", "categories"}
    assert {frozenset(entry) for entry in content["annotations"]} == {
        frozenset({"id", "image_id", "category_id"})
    }


def test_a_large_file_is_parsed_once_and_with_a_progress_bar(coco, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(zoo.data.parsed, "SMALL", 1)
    monkeypatch.setattr(zoo.data.coco, "PROGRESS_BYTES", 1)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    expected = coco2014(root=coco).fingerprint()
    output = capsys.readouterr()
    assert "Reading instances_train2014.json" in output.err
    assert not output.out
    monkeypatch.setattr(zoo.data.coco, "read_json", lambda *_: pytest.fail("it was parsed again"))
    assert coco2014(root=coco).fingerprint() == expected
    assert coco2014(root=coco, unlabelled="included").label_counts().num_images == 21
