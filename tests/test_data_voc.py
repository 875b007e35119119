"""Development kits in the official layout: small ones made here, and VOC2007's own lists where they are at hand."""

from __future__ import annotations

import csv
import os
import socket
import time
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from numpy.testing import assert_array_equal
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.functional import pil_to_tensor

import zoo
from zoo.data import ImageDataset, open_dataset
from zoo.data import voc as voc_module
from zoo.data.voc import voc2007, voc2012
from zoo.data.voc_kit import VOC_LABELS
from zoo.lookup import InputError

# image: labels that it has, and labels of which it has difficult objects only
KIT = {
    "train": {
        f"{i:06}": (["dog", "person"] if i % 2 else ["cat"], ["chair"] if i % 3 == 0 else []) for i in range(1, 9)
    },
    "val": {f"{i:06}": (["dog"] if i % 2 else ["cat", "person"], []) for i in range(11, 19)},
    "test": {"000021": (["dog"], ["person"]), "000022": ([], ["dog"]), "000023": ([], [])},
}  # fmt: skip
Kit = dict[str, dict[str, tuple[list[str], list[str]]]]


def write_kit(root: Path, kit: Kit, year: str = "2007", *, lists: bool = True, xml: bool = True) -> Path:
    """An official layout below ``root``, with images of 8 x 6 pixels. Returns the folder ``VOC<year>``."""
    folder = root / "VOCdevkit" / f"VOC{year}"
    for name in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    sets = {**kit, "trainval": kit.get("train", {}) | kit.get("val", {})}
    for image_set, images in sets.items():
        main_folder = folder / "ImageSets" / "Main"
        (main_folder / f"{image_set}.txt").write_text("".join(f"{image}\n" for image in images))
        for label in VOC_LABELS if lists else ():
            values = {
                image: 1 if label in has else 0 if label in hard else -1
                for image, (has, hard) in images.items()
            }
            text = "".join(f"{image} {value:2}\n" for image, value in values.items())  # "000001  1"
            (main_folder / f"{label}_{image_set}.txt").write_text(text)
        for image, (has, hard) in images.items() if xml else ():
            write_xml(folder, image, [(label, 0) for label in has] + [(label, 1) for label in hard])
            Image.new("RGB", (8, 6)).save(folder / "JPEGImages" / f"{image}.jpg")
    return folder


def write_xml(folder: Path, image: str, objects: list[tuple[str, int]]) -> None:
    written = "".join(
        f"""
    <object>
        <name>{label}</name>
        <pose>Left</pose>
        <truncated>0</truncated>
        <difficult>{difficult}</difficult>
        <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>5</ymax></bndbox>
        <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
    </object>"""
        for label, difficult in objects
    )
    (folder / "Annotations" / f"{image}.xml").write_text(
        f"<annotation>\n    <folder>{folder.name}</folder>\n    <filename>{image}.jpg</filename>\n"
        f"    <size><width>8</width><height>6</height><depth>3</depth></size>{written}\n</annotation>\n"
    )


def of(dataset: ImageDataset, image: str) -> dict[str, int]:
    """The labels of an image that are not negative."""
    row = [path.stem for path in dataset.images].index(image)
    return {
        label: value for label, value in zip(VOC_LABELS, dataset.targets[row].tolist(), strict=True) if value
    }


def splits_of(dataset: ImageDataset) -> dict[str, str]:
    return dict(zip((path.stem for path in dataset.images), dataset.splits.tolist(), strict=True))


@pytest.fixture
def kit(tmp_path) -> Path:
    return write_kit(tmp_path, KIT)


# --- VOC2007 itself -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def voc2007_lists(tmp_path_factory) -> Path:
    """VOC2007's lists of labels as the development kit has them, without images."""
    if "ZOO_DATA" not in os.environ:
        pytest.skip("$ZOO_DATA is not set: there are no annotations of VOC2007")
    top = tmp_path_factory.mktemp("voc")
    folder = top / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    folder.mkdir(parents=True)
    for image_set in ("trainval", "test"):
        file = Path(os.environ["ZOO_DATA"]) / ".." / "statistics" / f"voc2007_{image_set}.csv"
        if not file.is_file():
            pytest.skip(f"{file} is not there")
        with open(file, newline="") as stream:
            header, *rows = csv.reader(stream)
        (folder / f"{image_set}.txt").write_text("".join(f"{row[0]}\n" for row in rows))
        for column, label in enumerate(header[1:], start=1):
            text = "".join(f"{row[0]} {row[column]:>2}\n" for row in rows)
            (folder / f"{label}_{image_set}.txt").write_text(text)
    return top


def test_the_shipped_counts_are_those_of_the_official_lists(voc2007_lists):
    dataset = voc2007(root=voc2007_lists, check_images=False, val_fraction=0.0)
    counts, shipped = dataset.split("train").label_counts(), zoo.label_counts("voc2007")
    assert counts.label_names == shipped.label_names
    assert counts.num_images == shipped.num_images == 5011
    assert counts.known is None
    assert_array_equal(counts.counts, shipped.counts)
    assert_array_equal(counts.cooccurrence.toarray(), shipped.cooccurrence.toarray())
    assert len(dataset.split("test")) == 4952
    assert "1,226 difficult" in dataset.describe()


def test_val_is_a_stratified_tenth_of_trainval(voc2007_lists):
    dataset = voc2007(root=voc2007_lists, check_images=False)
    num_val = (dataset.splits == "val").sum()
    assert abs(num_val - 501) <= 10
    assert f"9,963 images ({5011 - num_val:,} train, {num_val} val, 4,952 test)" in dataset.protocol
    whole = voc2007(root=voc2007_lists, check_images=False, val_fraction=0.0).split("train").targets
    share = (dataset.split("val").targets == 1).sum(0) / (whole == 1).sum(0)
    assert share.min() > 0.085
    assert share.max() < 0.115


# --- difficult objects --------------------------------------------------------------------------------------


def test_difficult_labels_by_purpose(kit):
    dataset = voc2007(root=kit)
    assert of(dataset, "000003") == {"dog": 1, "person": 1, "chair": 1}
    assert of(dataset.with_purpose("ap"), "000003") == {"dog": 1, "person": 1, "chair": -1}
    assert of(dataset.with_purpose("f1"), "000003") == {"dog": 1, "person": 1}
    counts = dataset.label_counts()
    assert counts.counts[VOC_LABELS.index("chair")] == 0
    assert counts.known is None
    assert "difficult: loss positive, AP ignored, F1 negative, counts negative" in dataset.protocol


def test_options_decide_what_difficult_is(kit):
    treated = "difficult_loss=ignored:difficult_ap=negative:difficult_f1=positive:difficult_counts=positive"
    dataset = open_dataset(f"voc2007:root={kit}:{treated}")
    assert of(dataset, "000003") == {"dog": 1, "person": 1, "chair": -1}
    assert of(dataset.with_purpose("ap"), "000003") == {"dog": 1, "person": 1}
    assert of(dataset.with_purpose("f1"), "000003") == {"dog": 1, "person": 1, "chair": 1}
    assert dataset.label_counts().counts[VOC_LABELS.index("chair")] == 2
    assert "difficult: loss ignored, AP negative, F1 positive, counts positive" in dataset.protocol
    with pytest.raises(InputError, match=r"difficult entries for ap 'ignore'\. Did you mean ignored"):
        voc2007(root=kit, difficult_ap="ignore")


def test_of_the_xml_a_label_is_difficult_if_all_its_objects_are(kit, tmp_path):
    bare = write_kit(tmp_path / "bare", KIT, lists=False)
    expected, read = voc2007(root=kit), voc2007(root=bare)
    assert_array_equal(read.annotations.stored.toarray(), expected.annotations.stored.toarray())
    assert_array_equal(read.splits, expected.splits)
    for objects in ([("dog", 0), ("dog", 1)], [("dog", 1), ("dog", 0)]):
        write_xml(bare, "000001", objects)
        assert of(voc2007(root=bare).with_purpose("f1"), "000001") == {"dog": 1}
    write_xml(bare, "000001", [("dog", 1), ("dog", 1)])
    assert of(voc2007(root=bare).with_purpose("ap"), "000001") == {"dog": -1}
    file = bare / "Annotations" / "000001.xml"
    file.write_text(file.read_text().replace("<difficult>1</difficult>", ""))
    assert of(voc2007(root=bare).with_purpose("ap"), "000001") == {"dog": 1}


# --- layout and splits --------------------------------------------------------------------------------------


def test_one_batch_of_a_whole_kit(kit):
    dataset = open_dataset(f"voc2007:root={kit}")
    assert (dataset.name, dataset.label_names) == ("voc2007", list(VOC_LABELS))
    assert dataset.licence
    loader = DataLoader(dataset.split("train").with_transform(pil_to_tensor), batch_size=4)
    images, targets = next(iter(loader))
    assert images.shape == (4, 3, 6, 8)
    assert (targets.shape, targets.dtype) == ((4, 20), torch.int8)
    assert "1 images have none of the labels, and are kept: 000023" in dataset.describe()


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_the_root_may_be_any_of_three_folders(kit, levels, monkeypatch):
    root = [kit, *kit.parents][levels]
    assert voc2007(root=root).images[0] == kit / "JPEGImages" / "000001.jpg"
    monkeypatch.chdir(root)
    assert len(voc2007(root=".")) == 19


def test_the_default_root(kit, monkeypatch):
    monkeypatch.setenv("ZOO_DATASETS", str(kit.parents[1]))
    assert len(open_dataset("voc2007")) == 19


def test_splits(kit):
    official = splits_of(open_dataset(f"voc2007:root={kit}:splits=official"))
    assert official == {image: split for split, images in KIT.items() for image in images}
    dataset = voc2007(root=kit, val_fraction=0.25)
    carved = splits_of(dataset)
    assert {image for image, split in carved.items() if split == "test"} == KIT["test"].keys()
    num_val = list(carved.values()).count("val")
    assert num_val in (3, 4, 5)
    assert splits_of(voc2007(root=kit, val_fraction=0.25)) == carved
    assert splits_of(voc2007(root=kit, val_fraction=0.25, seed=1)) != carved
    assert dataset.protocol.startswith(
        "train is the official trainval, test is the official test, less the 25% of train carved out as val "
        f"(iterative stratification, seed 0); 19 images ({16 - num_val} train, {num_val} val, 3 test), all that are "
        "listed; label order alphabetical"
    )
    assert "carved" not in voc2007(root=kit, splits="official").protocol
    with pytest.raises(InputError, match=r"unknown splits of voc2007 'oficial'\. Did you mean official"):
        voc2007(root=kit, splits="oficial")
    with pytest.raises(InputError, match="shares"):
        voc2007(root=kit, val_fraction=1.5)


def test_voc2012_is_tested_on_its_val(kit, tmp_path):
    folder = write_kit(tmp_path, {name: KIT[name] for name in ("train", "val")}, "2012")
    dataset = open_dataset(f"voc2012:root={tmp_path}:val_fraction=0.25")
    assert dataset.images[0].parent == folder / "JPEGImages"
    splits = splits_of(dataset)
    assert {image for image, split in splits.items() if split == "test"} == KIT["val"].keys()
    assert sorted(splits.values()) in (["test"] * 8 + ["train"] * (8 - n) + ["val"] * n for n in (1, 2, 3))
    assert "test is the official val" in dataset.protocol
    with pytest.raises(InputError, match="unknown option of data set 'voc2012' 'splits'"):
        open_dataset(f"voc2012:root={tmp_path}:splits=official")
    with pytest.raises(InputError, match=r"voc2012: .*VOC2007/VOCdevkit/VOC2012 does not exist"):
        voc2012(root=kit)


def test_a_label_graph_is_counted_without_images(kit):
    for image in (kit / "JPEGImages").iterdir():
        image.unlink()
    with pytest.raises(InputError, match=r"voc2007: 19 of 19 images are not in .*JPEGImages/000001\.jpg"):
        voc2007(root=kit)
    dataset = open_dataset(f"voc2007:root={kit}:val_fraction=0", check_images=False)
    assert dataset.split("train").label_counts().num_images == 16


# --- what is wrong with a kit -------------------------------------------------------------------------------


def test_missing_files(kit, tmp_path):
    with pytest.raises(
        InputError,
        match=r"nowhere/VOCdevkit/VOC2007 does not exist; it must hold .*trainval\.txt, .*test\.txt\. "
        r"It comes from VOCtrainval_06-Nov-2007\.tar and VOCtest_06-Nov-2007\.tar of .*voc2007:download=true",
    ):
        voc2007(root=tmp_path / "nowhere")
    lists = kit / "ImageSets" / "Main"
    (lists / "test.txt").unlink()
    with pytest.raises(InputError, match=r"VOC2007 has no ImageSets/Main/test\.txt\. It comes from"):
        voc2007(root=kit)


def test_every_problem_of_the_lists_is_named(kit):
    lists = kit / "ImageSets" / "Main"
    (lists / "test.txt").write_text("000021\n000022\n000023\n000001\n000021\ntwo words\n\n")
    dog = lists / "dog_test.txt"
    dog.write_text("000021  1\n000022  2\n000099 -1\n000021  1\n000022\n")
    (lists / "cat_test.txt").unlink()
    with pytest.raises(InputError) as error:
        voc2007(root=kit)
    assert str(error.value).splitlines() == [
        f"{kit} cannot be used:",
        "  3 images listed again: 000001 (test.txt line 4); 000021 (test.txt line 5); 000021 (dog_test.txt line 4)",
        "  1 lines that are not one image name: 'two words' (test.txt line 6)",
        "  1 lists of labels missing: cat_test.txt",
        "  2 lines that are not an image name and 1, 0 or -1: '000022 2' (dog_test.txt line 2); "
        "'000022' (dog_test.txt line 5)",
        "  1 images that test.txt does not list: 000099 (dog_test.txt line 3)",
        "  1 images of test.txt that a list lacks: 000023 (dog_test.txt)",
    ]


def test_an_empty_list_and_one_that_is_no_text(kit):
    (kit / "ImageSets" / "Main" / "test.txt").write_text("\n")
    with pytest.raises(InputError, match=r"1 lists without an image: test\.txt"):
        voc2007(root=kit)
    (kit / "ImageSets" / "Main" / "test.txt").write_bytes(b"000021\n\xff\xfe")
    with pytest.raises(InputError, match=r"test\.txt: no text in UTF-8, from byte 7 on"):
        voc2007(root=kit)


def test_every_problem_of_the_xml_is_named(tmp_path):
    folder = write_kit(tmp_path, KIT, lists=False)
    annotations = folder / "Annotations"
    (annotations / "000001.xml").write_text("<annotation>\n  <object><name>dog</object>\n</annotation>")
    (annotations / "000002.xml").write_text("<annotation>")
    (annotations / "000003.xml").unlink()
    write_xml(folder, "000004", [("dgo", 0)])
    write_xml(folder, "000005", [("dog", 2)])
    entities = '<!DOCTYPE a [<!ENTITY b "dog">]><annotation><object><name>&b;</name></object></annotation>'
    for image, encoding in (("000006", "utf-8"), ("000007", "utf-16")):
        (annotations / f"{image}.xml").write_text(entities, encoding=encoding)
    with pytest.raises(InputError) as error:
        voc2007(root=folder)
    assert str(error.value).splitlines() == [
        f"{folder} cannot be used:",
        "  4 malformed XML files: 000001.xml line 2, column 22: mismatched tag; "
        "000002.xml line 1, column 13: no element found; "
        "000006.xml line 1, column 1: a DOCTYPE, which the format has not; ...",
        "  1 images without a file in Annotations: 000003.xml",
        "  1 objects of other labels than VOC's 20: 'dgo' (000004.xml)",
        "  1 values of difficult that are not 0 or 1: '2' (000005.xml)",
    ]


# --- download -----------------------------------------------------------------------------------------------


@pytest.fixture
def archives(monkeypatch, tmp_path):
    """Archives of a small kit as torchvision would fetch them; returns what was fetched into which folder."""
    fetched = []

    def fetch(url: str, root: Path, filename: str, md5: str) -> None:
        fetched.append((filename, Path(root)))
        kit, folder = tmp_path / f"kit{len(fetched)}", Path(root) / "VOCdevkit" / "VOC2007"
        chosen = ("test",) if "test" in filename else ("train", "val")
        made = write_kit(kit, {name: KIT[name] for name in chosen})
        if "test" in filename:
            for file in made.glob("ImageSets/Main/*trainval.txt"):
                file.unlink()
        for file in made.rglob("*.*"):
            if file.is_file():
                to = folder / file.relative_to(made)
                to.parent.mkdir(parents=True, exist_ok=True)
                file.rename(to)

    monkeypatch.setattr(torchvision.datasets.voc, "download_and_extract_archive", fetch)
    return fetched


@pytest.mark.parametrize("root", ["", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_download_fetches_what_is_missing_once(archives, root, tmp_path):
    top = tmp_path / "datasets"
    assert len(voc2007(root=top / root, download=True)) == 19
    assert archives == [("VOCtrainval_06-Nov-2007.tar", top), ("VOCtest_06-Nov-2007.tar", top)]
    assert len(open_dataset(f"voc2007:root={top / root}:download=true")) == 19
    (top / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "test.txt").unlink()
    voc2007(root=top, download=True)
    assert [name for name, _ in archives[2:]] == ["VOCtest_06-Nov-2007.tar"]


def test_voc2012_has_one_archive(archives, tmp_path):
    with pytest.raises(InputError, match="could not be fetched and unpacked"):  # ours unpacks VOC2007
        voc2012(root=tmp_path / "datasets", download=True)
    assert [name for name, _ in archives] == ["VOCtrainval_11-May-2012.tar"]


def test_a_host_that_is_not_reached(tmp_path, monkeypatch):
    url = "http://127.0.0.1:9/VOCtrainval_06-Nov-2007.tar"
    monkeypatch.setitem(torchvision.datasets.voc.DATASET_YEAR_DICT["2007"], "url", url)
    with pytest.raises(InputError) as error:
        voc2007(root=tmp_path, download=True)
    assert isinstance(error.value.__cause__, urllib.error.URLError)
    message = str(error.value)
    assert f"{url} could not be fetched and unpacked (" in message
    assert f"unpack it in {tmp_path}, so that there is {tmp_path}/VOCdevkit/VOC2007" in message


def test_a_host_that_does_not_answer_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(voc_module, "TIMEOUT", 0.2)
    before = socket.getdefaulttimeout()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/VOCtrainval_06-Nov-2007.tar"
        monkeypatch.setitem(torchvision.datasets.voc.DATASET_YEAR_DICT["2007"], "url", url)
        started = time.monotonic()
        with pytest.raises(InputError, match=r"could not be fetched and unpacked .*timed out"):
            voc2007(root=tmp_path, download=True)
    assert time.monotonic() - started < 5
    assert socket.getdefaulttimeout() == before


def test_a_broken_archive(tmp_path, monkeypatch):
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(torchvision.datasets.voc, "download_and_extract_archive", broken)
    with pytest.raises(InputError, match=r"VOCtrainval_06-Nov-2007\.tar could not be .*corrupted"):
        voc2007(root=tmp_path, download=True)


def test_labels_are_the_shipped_ones_in_order():
    assert zoo.label_counts("voc2007").label_names == VOC_LABELS
    assert np.all(np.array(VOC_LABELS) == np.sort(VOC_LABELS))
