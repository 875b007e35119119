"""A scan finds every image that cannot be read, and the data set goes on without them, saying so."""

from __future__ import annotations

import csv
import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.annotations import Annotations
from zoo.data import ImageDataset, scan
from zoo.data.images import ImageError, StorageError, read_image
from zoo.data.scan import Problem, Scan, readable, scan_images
from zoo.lookup import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scans"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Photos, unusual images, and damaged ones."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    for i in range(20):
        noise.save(folder / f"photo{i:02}.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    noise.resize((200, 300)).save(folder / "turned.jpg", exif=exif)
    noise.convert("CMYK").save(folder / "cmyk.jpg")
    noise.quantize().save(folder / "palette.png")
    noise.convert("LA").save(folder / "grey.png")
    noise.resize((4, 3)).save(folder / "small.png")
    noise.resize((90, 8)).save(folder / "banner.png")
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(folder / "deep.png")
    frames = [Image.new("L", (20, 20), value) for value in (0, 99, 200)]
    frames[0].save(folder / "moves.gif", save_all=True, append_images=frames[1:])
    whole = (folder / "photo00.jpg").read_bytes()
    for name, content in {
        "half.jpg": whole[: len(whole) // 2],
        "deep/half.jpg": whole[: len(whole) // 3],
        "empty.jpg": b"",
        "page.jpg": b"<html>",
    }.items():
        (folder / name).write_bytes(content)
    return folder


def images_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def data(folder) -> ImageDataset:
    images = images_of(folder)
    targets = np.arange(len(images))[:, None] >> np.arange(2) & 1
    splits = np.where(np.arange(len(images)) % 3 == 0, "test", "train")
    return ImageDataset(
        "photos", images, Annotations.from_array(targets), ["a", "b"], splits, protocol="own splits"
    )


BAD = {
    "deep/half.jpg": "truncated",
    "empty.jpg": "empty",
    "half.jpg": "truncated",
    "page.jpg": "not an image",
}
UNUSUAL = {
    "16-bit": 1,
    "CMYK": 1,
    "grey": 1,
    "palette": 2,  # every GIF is one
    "transparent": 1,
    "rotated by EXIF": 1,
    "narrower than 1:10": 1,
    "animated or of several pages": 1,
}


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_scan_finds(folder, workers):
    found = scan_images(images_of(folder), workers=workers)
    assert found.total == 32
    assert {os.path.relpath(p.file, folder): p.kind for p in found.problems} == BAD
    for problem in found.problems:
        with pytest.raises(ImageError) as error:
            read_image(problem.file)
        assert problem.message == str(error.value)
    assert found.unusual == UNUSUAL
    assert found.smallest == (4, 3, str(folder / "small.png"))
    assert found.largest == (300, 200, str(folder / "turned.jpg"))


def test_report(folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = scan_images(images_of(folder), workers=0).report()
    assert text.splitlines()[0] == "32 images: 28 read, 4 cannot be read"
    assert f"cannot be read, in {folder}:" in " ".join(text.split())
    assert "    truncated 2: deep/half.jpg, half.jpg\n" in text
    assert "it begins with '<html>'" in " ".join(text.split())
    assert "palette 2" in text
    assert "  smallest: 4 x 3 pixels, small.png\n  largest: 300 x 200 pixels, turned.jpg" in text
    assert max(len(line) for line in text.splitlines() if str(folder) not in line) <= 80
    many = tuple(Problem(f"/d/{i}\udcff.jpg", "empty", f"/d/{i}.jpg: empty") for i in range(1234))
    text = Scan(5000, many).report()
    assert "empty 1,234: 0\\udcff.jpg, 1\\udcff.jpg, 2\\udcff.jpg, ... (1,234 in all)" in " ".join(
        text.split()
    )
    assert len(text.splitlines()) < 8


def test_save(folder, tmp_path):
    found = scan_images(images_of(folder), workers=0)
    with open(found.save(tmp_path / "new" / "bad.csv"), newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert rows == [["file", "kind", "message"], *map(list, found.problems)]


def test_a_second_scan_reads_nothing(data, folder, cache, monkeypatch):
    first = scan_images(data, workers=0)
    assert [path.suffix for path in cache.iterdir()] == [".json"], "nothing half written is left"

    def refuse(path):
        raise AssertionError(f"{path} was read again")

    with monkeypatch.context() as patch:
        patch.setattr(scan, "look_at", refuse)
        assert scan_images(data, workers=0) == first
        with pytest.raises(AssertionError):
            scan_images(data.split("train"), workers=0)
    shutil.copy(folder / "photo00.jpg", folder / "half.jpg")
    assert len(scan_images(data, workers=0).problems) == len(first.problems) - 1
    time = (folder / "half.jpg").stat().st_mtime_ns
    (folder / "half.jpg").write_bytes(bytes((folder / "half.jpg").stat().st_size))
    os.utime(folder / "half.jpg", ns=(time, time + 10**9))
    assert len(scan_images(data, workers=0).problems) == len(first.problems)


def test_a_scan_leaves_random_numbers_alone(folder):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    scan_images(images_of(folder), workers=0)
    assert torch.equal(torch.rand(4), expected)


def test_a_scan_where_processes_are_spawned(folder):
    """As on macOS and Windows: what is sent to a worker must pickle."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        assert len(scan_images(images_of(folder)[:4], workers=1).problems) == 1
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_readable(data):
    kept = readable(data, workers=0)
    bad = np.array([os.path.basename(path) in ("half.jpg", "empty.jpg", "page.jpg") for path in data.images])
    assert bad.sum() == 4
    assert kept.images == [path for path, out in zip(data.images, bad, strict=True) if not out]
    np.testing.assert_array_equal(kept.targets, data.targets[~bad])
    np.testing.assert_array_equal(kept.splits, data.splits[~bad])
    train, test = ((bad & (data.splits == name)).sum() for name in ("train", "test"))
    assert train > 0
    assert test > 0
    where = f"train {train}, test {test}"
    assert kept.protocol == f"own splits; 4 unreadable images left out ({where})"
    assert kept.remarks == (
        f"4 of 32 images cannot be read and are left out ({where}): half.jpg, empty.jpg, half.jpg, "
        "... (4 in all); zoo scan names them all",
    )
    assert f"  note: {kept.remarks[0]}" in kept.describe()
    for image, _ in kept:
        assert image.mode == "RGB"
    assert readable(kept, workers=0) is kept


def test_a_split_of_which_nothing_is_left(data, folder):
    names = [os.path.relpath(path, folder) for path in data.images]
    splits = np.where(np.isin(names, list(BAD)), "val", "train")
    with pytest.raises(
        InputError, match=r"photos: none of the 4 images of split 'val' can be read\. The first: .*half\.jpg"
    ):
        readable(replace(data, splits=splits), workers=0)


def test_lost_storage_leaves_nothing_out(data, folder, cache):
    shutil.move(folder / "deep", folder.parent / "elsewhere")
    with pytest.raises(
        StorageError, match=r"photos: 1 of 32 images .*the folder .*deep is gone: is the disk"
    ):
        readable(data, workers=0)
    assert not cache.exists(), "what may come back is not kept"
    shutil.move(folder.parent / "elsewhere", folder / "deep")
    assert len(readable(data, workers=0)) == 28


def test_wrong_numbers_of_workers(data):
    with pytest.raises(InputError, match="workers must be 0 or more, not -1"):
        scan_images(data, workers=-1)


def test_the_error_of_an_image_says_what_to_do(data):
    index = [path.name for path in data.images].index("empty.jpg")
    with pytest.raises(
        ImageError, match=r"empty\.jpg .*\(zoo scan names all such images, --on_error skip"
    ) as error:
        data[index]
    assert error.value.kind == "empty"
