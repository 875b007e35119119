from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from zoo.data import open_dataset
from zoo.data.huggingface import from_huggingface
from zoo.lookup import InputError

datasets = pytest.importorskip("datasets", reason="needs datasets")

NAMES = ["dog", "cat", "fox"]
LABELS = [[0], [1, 0], [2], [], [0, 2], [1]]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    return tmp_path / "cache" / "huggingface"


def png(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (3, 2), shade).save(stream, "PNG")
    return stream.getvalue()


def make(images=None, labels=LABELS, feature=None, **columns):
    images = images or [{"bytes": png(40 * i), "path": f"photo{i}.png"} for i in range(len(labels))]
    feature = feature or datasets.List(datasets.ClassLabel(names=NAMES))
    features = {"image": datasets.Image(), "objects": feature}
    features |= {name: datasets.Value("string") for name in columns}
    data = {"image": images, "objects": labels} | columns
    return datasets.Dataset.from_dict(data, features=datasets.Features(features))


def shades(data) -> list[int]:
    return [data[i][0].getpixel((0, 0))[0] for i in range(len(data))]


def test_embedded_images_are_written_once(cache):
    data = from_huggingface(make(), name="pets")
    assert (data.name, data.label_names) == ("pets", NAMES)
    assert data.targets.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 1], [0, 1, 0]]
    assert shades(data) == [0, 40, 80, 120, 160, 200]
    assert data.remarks == ("1 image(s) have no positive label",)
    assert [path.suffix for path in data.images] == [".png"] * 6
    written = {path: path.stat().st_mtime_ns for path in data.images}
    assert from_huggingface(make(), name="pets").fingerprint() == data.fingerprint()
    assert {path: path.stat().st_mtime_ns for path in data.images} == written
    assert len(list(cache.iterdir())) == 1
    assert shades(from_huggingface(make(labels=LABELS[::-1]))) == shades(data), (
        "another data set, another folder"
    )
    assert len(list(cache.iterdir())) == 2


def test_images_that_were_removed_are_named(cache):
    from_huggingface(make()).images[2].unlink()
    with pytest.raises(InputError, match=r"1 image\(s\) not found: 2\.png \(row 3\)"):
        from_huggingface(make())


def test_an_interrupted_writing_leaves_nothing(cache, monkeypatch):
    count = iter(range(3))
    monkeypatch.setattr("pathlib.Path.write_bytes", lambda path, content: next(count))
    with pytest.raises((StopIteration, RuntimeError)):
        from_huggingface(make())
    assert list(cache.iterdir()) == []


def test_images_in_files_stay_where_they_are(tmp_path, cache):
    paths = []
    for i in range(6):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.new("L", (3, 2), 40 * i).save(paths[-1])
    data = from_huggingface(make(images=paths))
    assert [str(path) for path in data.images] == paths
    text = make().remove_columns("image").add_column("image", paths)
    assert from_huggingface(text).images == data.images
    (tmp_path / "5.png").unlink()
    with pytest.raises(InputError, match=r"1 image\(s\) not found: .*5\.png \(row 6\)"):
        from_huggingface(text)
    assert len(from_huggingface(text, check_images=False)) == 6


def test_labels_of_text_are_sorted(cache):
    words = [[NAMES[i] for i in labels] for labels in LABELS]
    data = from_huggingface(make(labels=words, feature=datasets.List(datasets.Value("string"))))
    assert data.label_names == ["cat", "dog", "fox"]
    numbered = from_huggingface(make()).with_labels(data.label_names)
    np.testing.assert_array_equal(data.targets, numbered.targets)


def test_splits_by_a_dict_and_groups_by_a_column():
    parts = {"train": make(place=["x", "x", "", "y", "y", None]), "validation": make(place=["z"] * 6)}
    data = from_huggingface(datasets.DatasetDict(parts), group="place")
    assert [(data.splits == split).sum() for split in ("train", "val", "test")] == pytest.approx(
        [4, 6, 2], abs=1
    )
    assert data.protocol == "test made by iterative stratification, seed 0"
    assert data.groups[0] == data.groups[1] == "x"
    assert len(set(data.groups)) == 5
    assert shades(data)[6:] == shades(data)[:6]
    with pytest.raises(InputError, match=r"unknown split 'training'\. Did you mean train"):
        from_huggingface(datasets.DatasetDict(training=make()))
    with pytest.raises(InputError, match="more than one part is split 'val': val, validation"):
        from_huggingface(datasets.DatasetDict(val=make(), validation=make()))


def test_rows_chosen_and_shuffled_go_with_their_images():
    data = from_huggingface(make().select([4, 1, 0, 2, 5]))
    assert shades(data) == [160, 40, 0, 80, 200]
    assert data.targets[0].tolist() == [1, 0, 1]


def test_a_label_graph_needs_no_images(cache):
    data = from_huggingface(make(), check_images=False)
    assert data.label_counts().counts.tolist() == [3, 2, 2]
    assert not cache.exists() or not list(cache.iterdir())


def test_every_problem_at_once():
    images = [{"bytes": png(0), "path": None}] * 4 + [None, {"bytes": None, "path": "/nowhere/a.png"}]
    labels = [[0], [-1], [1], [2, None], [0], [0]]
    with pytest.raises(InputError) as error:
        from_huggingface(make(images=images, labels=labels), name="pets")
    message = str(error.value)
    assert "pets cannot be used" in message
    assert "2 label list(s) with something that is no label: [-1] (row 2); [2, None] (row 4)" in message
    assert "1 row(s) without an image: row 5" in message
    assert "1 image(s) not found: /nowhere/a.png (row 6)" in message


def test_columns_that_are_not_there():
    with pytest.raises(InputError, match=r"unknown column 'photo'.*Known: image, objects"):
        from_huggingface(make(), image="photo")
    with pytest.raises(InputError, match=r"unknown column 'place'"):
        from_huggingface(make(), group="place")
    with pytest.raises(InputError, match=r"no column lists labels .*Name it with labels=.*there are image"):
        from_huggingface(make().remove_columns("objects"))
    twice = make().add_column("more", [["a"]] * 6)
    with pytest.raises(InputError, match="more than one column lists labels: objects, more"):
        from_huggingface(twice)
    assert from_huggingface(twice, labels="objects").label_names == NAMES
    with pytest.raises(InputError, match=r"column 'place' is Value.*expected a list of labels"):
        from_huggingface(make(place=["x"] * 6), labels="place")


def test_a_folder_written_by_save_to_disk_is_opened_by_name(tmp_path):
    make().save_to_disk(tmp_path / "pets")
    data = open_dataset(f"hf:path={tmp_path}/pets:seed=3")
    assert (data.name, len(data), data.protocol[-6:]) == ("pets", 6, "seed 3")
    assert data.fingerprint() == open_dataset(f"hf:path={tmp_path}/pets:seed=3").fingerprint()
    datasets.DatasetDict(train=make(), test=make(labels=LABELS[::-1])).save_to_disk(tmp_path / "parts")
    data = open_dataset(f"hf:path={tmp_path}/parts:labels=objects", check_images=False)
    assert (data.splits == "test").sum() == 6


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(InputError, match=r"hf: someone/pets is no folder.*Without a network.*save_to_disk"):
        open_dataset("hf:path=someone/pets")
    with pytest.raises(InputError, match=r"data set 'hf' needs its option 'path': hf:path=\.\.\."):
        open_dataset("hf")


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'label-graph-zoo\[hf\]'"):
        open_dataset("hf:path=pets")
    with pytest.raises(InputError, match=r"pip install 'label-graph-zoo\[hf\]'"):
        from_huggingface([])
