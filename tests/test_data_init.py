from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image

import zoo.data
from zoo.data import DATASETS, ImageDataset, image_folder, open_dataset
from zoo.lookup import InputError


@pytest.fixture
def pets(tmp_path):
    (tmp_path / "pets").mkdir()
    for name in "abc":
        Image.new("RGB", (2, 2)).save(tmp_path / "pets" / f"{name}.png")
    rows = "image,dog,split\na.png,1,train\nb.png,1,val\nc.png,0,test\n"
    (tmp_path / "pets" / "labels.csv").write_text(rows)
    return tmp_path / "pets"


def test_everything_offered_is_there():
    assert all(hasattr(zoo.data, name) for name in zoo.data.__all__)
    assert set(DATASETS) >= {"folder", "hf", "openmoji"}
    assert DATASETS["folder"] is image_folder


def test_a_path_opens_a_csv(pets, monkeypatch):
    expected = image_folder(pets).fingerprint()
    assert open_dataset(pets).fingerprint() == expected
    assert open_dataset(str(pets / "labels.csv")).fingerprint() == expected
    monkeypatch.chdir(pets.parent)
    assert open_dataset("pets").fingerprint() == expected


def test_a_name_opens_that_data_set(pets, monkeypatch):
    made = image_folder(pets)
    monkeypatch.setitem(DATASETS, "mine", lambda: made)
    assert open_dataset("mine") is made
    assert isinstance(made, ImageDataset)


def test_a_pattern_and_a_folder_named_like_a_data_set(pets, monkeypatch):
    (pets / "labels.csv").rename(pets / "train.csv")
    (pets / "train.csv").write_text("image,dog\na.png,1\nb.png,0\nc.png,1\n")
    assert len(open_dataset(f"{pets}/{{split}}.csv")) == 3
    pets.rename(pets.parent / "openmoji")
    monkeypatch.chdir(pets.parent)
    assert open_dataset("./openmoji/train.csv").label_names == ["dog"]
    monkeypatch.setitem(DATASETS, "openmoji", lambda: pytest.fail("a path was taken for a name"))
    assert open_dataset("./openmoji").label_names == ["dog"]


def test_a_path_with_options(pets):
    (pets / "tags.jsonl").write_text(
        '{"photo": "a.png", "tags": "dog/cat"}\n{"photo": "b.png", "tags": "cat"}\n{"photo": "c.png", "tags": "dog"}\n'
    )
    data = open_dataset(f"folder:path={pets}/tags.jsonl:images=photo:labels=tags:separator=/:seed=4")
    assert data.label_names == ["cat", "dog"]
    assert data.targets.tolist() == [[1, 1], [1, 0], [0, 1]]
    assert data.protocol.endswith("seed 4")
    with pytest.raises(InputError, match=r"data set 'folder' needs its option 'path': folder:path=\.\.\."):
        open_dataset("folder:images=photo")
    with pytest.raises(
        InputError, match=r"unknown option of data set 'folder' 'image'\. Did you mean images"
    ):
        open_dataset(f"folder:path={pets}:image=photo")


def test_neither(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError,
        match=r"unknown data set 'openmoij'\. Did you mean openmoji\?.*nor is there a label file or folder",
    ):
        open_dataset("openmoij")
    with pytest.raises(InputError, match=r"unknown data set 'csv'.*nor is there a label file"):
        open_dataset("csv")
    (tmp_path / "labels.csv").touch()
    with pytest.raises(InputError, match=r"Did you mean labels\.csv"):
        open_dataset("label.csv")


def test_importing_it_loads_nothing_heavy():
    code = (
        "import sys, zoo.data; "
        "heavy = {'sklearn', 'iterstrat', 'pandas', 'matplotlib', 'resvg_py', 'lightning', 'rich', 'timm'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
