from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from zoo.annotations import Annotations
from zoo.data.dataset import Difficult, ImageDataset, cache_dir, shorten
from zoo.lookup import InputError


@pytest.fixture
def data(tmp_path) -> ImageDataset:
    (tmp_path / "images").mkdir()
    images = [tmp_path / "images" / f"{i}.png" for i in range(4)]
    for i, path in enumerate(images):
        Image.new("RGB", (6, 4), (i, 0, 0)).save(path)
    return ImageDataset(
        name="four",
        images=images,
        annotations=Annotations.from_array(np.array([[1, 0, -1], [1, 1, 0], [0, 1, 1], [0, 1, 0]])),
        label_names=["dog", "cat", "red fox"],
        splits=np.array(["train", "test", "train", "test"]),
        groups=np.array(["a", "b", "a", "c"]),
        protocol="own splits",
        licence="CC0",
    )


def test_items(data):
    assert len(data) == 4
    image, targets = data[2]
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (6, 4), (2, 0, 0))
    assert targets.dtype == torch.int8
    assert targets.tolist() == [0, 1, 1]
    targets[0] = 1
    assert data.targets[2, 0] == 0, "items must not be views of the data set"


def test_transform_and_loader(data):
    small = data.with_transform(lambda image: torch.tensor(image.getpixel((0, 0))))
    assert data.transform is None
    images, targets = next(iter(DataLoader(small, batch_size=4)))
    assert images[:, 0].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(targets.numpy(), data.targets)


def test_pickles_for_worker_processes(data):
    copy = pickle.loads(pickle.dumps(data))
    assert copy.images == data.images
    assert copy.fingerprint() == data.fingerprint()


def test_split(data):
    test = data.split("test")
    assert test.images == [data.images[1], data.images[3]]
    assert test.targets.tolist() == [[1, 1, 0], [0, 1, 0]]
    assert (test.splits.tolist(), test.groups.tolist()) == (["test", "test"], ["b", "c"])
    assert (test.name, test.label_names) == (data.name, data.label_names)
    assert replace(data, groups=None).split("train").groups is None
    with pytest.raises(InputError, match=r"unknown split 'tset'. Did you mean test"):
        data.split("tset")
    with pytest.raises(InputError, match="four has no images in split 'val': train 2, val 0, test 2"):
        data.split("val")


def test_with_labels(data):
    turned = data.with_labels(["red fox", "dog", "cat"])
    assert turned.label_names == ["red fox", "dog", "cat"]
    np.testing.assert_array_equal(turned.targets, data.targets[:, [2, 0, 1]])
    assert data.with_labels(data.label_names).fingerprint() == data.fingerprint()
    with pytest.raises(
        InputError, match=r"of four differ: 1 only in the model \(fox\) and 1 only in the data \(red fox\)"
    ):
        data.with_labels(["dog", "cat", "fox"])
    with pytest.raises(InputError, match=r"differ: 1 only in the data \(red fox\)\. Rename the columns"):
        data.with_labels(["dog", "cat"])


def test_describe(data):
    assert data.labels_per_image == 6 / 4
    text = data.describe()
    assert "four: 4 images in 3 groups, 3 labels, 1.50 labels per image, 8.3% unknown" in text
    assert "splits: train 2, val 0, test 2" in text
    assert "rarest labels: red fox 1, dog 2, cat 3" in text
    assert "protocol: own splits" in text
    assert "licence: CC0" in text
    plain = replace(
        data, groups=None, licence="", annotations=Annotations.from_array(np.abs(data.targets))
    ).describe()
    assert "groups" not in plain
    assert "unknown" not in plain
    assert "licence" not in plain


def test_fingerprint_names_the_contents(data, tmp_path):
    key = data.fingerprint()
    assert len(key) == 16
    assert int(key, 16) >= 0
    assert data.with_transform(str).fingerprint() == key
    changed = [
        data.split("test"),
        replace(data, label_names=["dog", "cat", "fox"]),
        replace(data, annotations=Annotations.from_array(np.abs(data.targets))),
        replace(data, splits=np.array(["train", "val", "train", "test"])),
        replace(data, images=data.images[::-1]),
    ]
    assert len({key, *(other.fingerprint() for other in changed)}) == 6
    shutil.copytree(tmp_path / "images", tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").iterdir():
        os.utime(path, (0, 0))
    moved = replace(data, images=[tmp_path / "elsewhere" / path.name for path in data.images])
    assert moved.fingerprint() == key
    Image.new("RGB", (60, 40)).save(moved.images[0])
    assert moved.fingerprint() != key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_names": ["dog", "cat", "dog"]}, "must differ; more than once: dog"),
        ({"label_names": ["dog", "", "fox"]}, "label 2 has an empty name"),
        ({"label_names": ["dog", "cat"]}, r"targets of shape \(4, 3\) for 4 images and 2 labels"),
        ({"splits": np.array(["train", "valid", "test", "test"])}, "four: split valid is none of"),
    ],
)
def test_what_cannot_be_is_refused(data, change, message):
    with pytest.raises(InputError, match=message):
        replace(data, **change)


def test_difficult_entries_count_by_purpose(data):
    marked = np.zeros((4, 3), dtype=bool)
    marked[3, 0] = marked[1, 2] = True
    data = replace(data, annotations=Annotations.from_array(data.targets, marked))
    plain = np.array([[1, 0, -1], [1, 1, 0], [0, 1, 1], [0, 1, 0]])
    for purpose, value in (("loss", 1), ("ap", -1), ("f1", 0), ("counts", 0)):
        wanted = np.where(marked, value, plain)
        view = data.with_purpose(purpose)
        np.testing.assert_array_equal(view.targets, wanted)
        np.testing.assert_array_equal([view[i][1].tolist() for i in range(4)], wanted)
        np.testing.assert_array_equal(
            view.split("test").with_labels(["red fox", "dog", "cat"]).targets, wanted[1::2, [2, 0, 1]]
        )
    np.testing.assert_array_equal(data.f1_targets(), np.where(marked, 0, plain))
    assert data.label_counts().counts.tolist() == [2, 3, 1]
    assert replace(data, difficult=Difficult(f1="ignored")).f1_targets() is None
    assert replace(data, annotations=Annotations.from_array(plain)).f1_targets() is None
    assert "8.3% unknown, 2 difficult" in data.describe()
    assert (
        "difficult: negative for counts, positive for loss, ignored for ap, negative for f1"
        in data.describe()
    )
    assert data.fingerprint() != replace(data, difficult=Difficult(loss="ignored")).fingerprint()
    with pytest.raises(InputError, match=r"for loss 'ignore'\. Did you mean ignored"):
        Difficult(loss="ignore")
    with pytest.raises(InputError, match="unknown purpose 'f2'"):
        data.with_purpose("f2")


def test_an_image_that_does_not_decode_is_named(data):
    data.images[1].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1\.png does not decode"):
        data[1]


def test_cache_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "a" / "b"))
    assert cache_dir() == tmp_path / "a" / "b"
    assert cache_dir().is_dir()
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_dir() == tmp_path / ".cache" / "label-graph-zoo"


def test_shorten():
    assert shorten(["a", "b"]) == "a, b"
    assert shorten([str(i) for i in range(12)], show=2) == "0, 1, ... (12 in all)"
