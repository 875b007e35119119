from __future__ import annotations

import re

import pytest

from zoo.data.layout import dataset_root, require_files, require_images
from zoo.data.paths import ImagePaths
from zoo.lookup import InputError


def test_root(tmp_path, monkeypatch):
    monkeypatch.delenv("ZOO_DATASETS", raising=False)
    assert str(dataset_root(None, "coco")) == "datasets/coco"
    monkeypatch.setenv("ZOO_DATASETS", str(tmp_path))
    assert dataset_root(None, "coco") == tmp_path / "coco"
    assert str(dataset_root("elsewhere", "coco")) == "elsewhere"


def test_missing_files_are_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.json").write_text("")
    require_files("coco2014", tmp_path, ["a/1.json"], "https://cocodataset.org")
    words = r"has no a/2\.json, b\.json\. It comes from https://cocodataset\.org\. .*coco2014:root="
    with pytest.raises(InputError, match=rf"coco2014: {re.escape(str(tmp_path))} {words}"):
        require_files("coco2014", tmp_path, ["a/1.json", "a/2.json", "b.json"], "https://cocodataset.org")
    with pytest.raises(InputError, match=r"does not exist; it must hold a/1\.json"):
        require_files("coco2014", tmp_path / "nowhere", ["a/1.json"], "https://cocodataset.org")


def test_missing_images_are_counted(tmp_path):
    (tmp_path / "train").mkdir()
    for file in ("train/a.jpg", "b.jpg"):
        (tmp_path / file).write_text("")
    require_images("mine", ImagePaths(tmp_path, ["train/a.jpg", "b.jpg"]))
    with pytest.raises(
        InputError, match=r"mine: 3 of 5 images are not in .*: train/c\.jpg, val/a\.jpg, a\.jpg\. A label"
    ):
        require_images(
            "mine", ImagePaths(tmp_path, ["train/a.jpg", "train/c.jpg", "val/a.jpg", "a.jpg", "b.jpg"])
        )
