"""PASCAL VOC 2007 and 2012 in the layout of their development kit.

    VOCdevkit/VOC2007/ImageSets/Main/trainval.txt, train.txt, val.txt, test.txt    one image a line
    VOCdevkit/VOC2007/ImageSets/Main/dog_trainval.txt, ...    image and 1 (has it), -1 (has not) or 0 (difficult)
    VOCdevkit/VOC2007/Annotations/000005.xml                  its objects; read where there are no lists of labels
    VOCdevkit/VOC2007/JPEGImages/000005.jpg

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010,
https://doi.org/10.1007/s11263-009-0275-4; the format: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf
"""

from __future__ import annotations

import os
import socket
import tarfile
from pathlib import Path

import numpy as np

from zoo.data.dataset import Difficult, ImageDataset, shorten
from zoo.data.layout import dataset_root, require_files, require_images
from zoo.data.listed import split_sizes
from zoo.data.paths import ImagePaths
from zoo.data.splits import stratified_split
from zoo.data.voc_kit import VOC_LABELS, read_sets
from zoo.lookup import InputError, lookup

# Image sets of VOC2007 -> what they are here. VOC2012's test has no public labels, so that its val has to serve.
SPLITS_2007 = {
    "trainval": {"trainval": "train", "test": "test"},
    "official": {"train": "train", "val": "val", "test": "test"},
}
SPLITS_2012 = {"train": "train", "val": "test"}
ARCHIVES = {
    "2007": "VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar",
    "2012": "VOCtrainval_11-May-2012.tar",
}
TIMEOUT = 10  # seconds without an answer after which a download is given up


def voc2007(
    *,
    root: str | Path | None = None,
    download: bool = False,
    check_images: bool = True,
    splits: str = "trainval",
    val_fraction: float = 0.1,
    seed: int = 0,
    difficult_loss: str = "positive",
    difficult_ap: str = "ignored",
    difficult_f1: str = "negative",
    difficult_counts: str = "negative",
) -> ImageDataset:
    """PASCAL VOC 2007: 5,011 images to train on, 4,952 to test on, 20 labels in alphabetical order.

    A label of which an image has difficult objects only (small, or hard to see) is neither there nor absent. The
    development kit's own evaluation ignores it. What counts as what by default is ML-GCN's way
    (https://arxiv.org/abs/1904.03582, in its code): positive for the loss, ignored in AP, negative in precision,
    recall and F1; its table of co-occurrence does not count them.

    Args:
        root: the folder ``VOC2007``, ``VOCdevkit`` above it, or the one above that; ``$ZOO_DATASETS/VOCdevkit``
            or ``datasets/VOCdevkit`` by default.
        download: fetch what is missing, 0.9 GB with both archives, which are kept.
        check_images: whether every image must be there; a label graph is counted without.
        splits: ``trainval``: papers train on all of trainval, and ours carves val out of it, so that a model can
            be chosen without the test set; ``official``: train (2,501), val (2,510) and test as they are listed.
        val_fraction: the share of trainval that becomes val. With 0 there is no val, and the training split is
            all of trainval, whose counts are those of the shipped ``voc2007``.
        seed: of that split, by iterative stratification.
        difficult_loss: what difficult labels are for the loss: positive, negative or ignored.
        difficult_ap: the same for AP.
        difficult_f1: the same for precision, recall and F1.
        difficult_counts: the same for the counts of a label graph.

    Raises:
        InputError: files are missing, unreachable, malformed or contradict each other, with every kind of problem
            by file and line; images are missing; an option has no such value.
    """
    sets = lookup("splits of voc2007", splits, SPLITS_2007)
    difficult = Difficult(difficult_counts, difficult_loss, difficult_ap, difficult_f1)
    return _voc("2007", sets, root, download, check_images, val_fraction, seed, difficult)


def voc2012(
    *,
    root: str | Path | None = None,
    download: bool = False,
    check_images: bool = True,
    val_fraction: float = 0.1,
    seed: int = 0,
    difficult_loss: str = "positive",
    difficult_ap: str = "ignored",
    difficult_f1: str = "negative",
    difficult_counts: str = "negative",
) -> ImageDataset:
    """PASCAL VOC 2012: 5,717 images to train on, 5,823 to test on, 20 labels in alphabetical order.

    The labels of its own test set are not public: the official val is the test split here, and val is carved out
    of the official train. So results do not compare with those of the evaluation server.

    Args:
        root: the folder ``VOC2012``, ``VOCdevkit`` above it, or the one above that; by default as for
            :func:`voc2007`.
        download: fetch what is missing, 2 GB.
        check_images: whether every image must be there; a label graph is counted without.
        val_fraction: the share of the official train that becomes val; with 0 there is no val.
        seed: of that split, by iterative stratification.
        difficult_loss: what difficult labels are for the loss: positive, negative or ignored.
        difficult_ap: the same for AP.
        difficult_f1: the same for precision, recall and F1.
        difficult_counts: the same for the counts of a label graph.

    Raises:
        InputError: as for :func:`voc2007`.
    """
    difficult = Difficult(difficult_counts, difficult_loss, difficult_ap, difficult_f1)
    return _voc("2012", SPLITS_2012, root, download, check_images, val_fraction, seed, difficult)


def _voc(
    year: str,
    sets: dict[str, str],
    root: str | Path | None,
    download: bool,
    check_images: bool,
    val_fraction: float,
    seed: int,
    difficult: Difficult,
) -> ImageDataset:
    name, top = f"voc{year}", Path(os.path.abspath(dataset_root(root, "VOCdevkit")))
    folder = _find(top, year)
    lists = {image_set: f"ImageSets/Main/{image_set}.txt" for image_set in sets}
    if download and any(not (folder / file).is_file() for file in lists.values()):
        _download(name, year, top)
        folder = _find(top, year)
    source = f"{ARCHIVES[year]} of http://host.robots.ox.ac.uk/pascal/VOC/{name}/, or {name}:download=true"
    require_files(name, folder, list(lists.values()), source)

    names, splits, annotations = read_sets(folder, sets)
    train = splits == "train"
    if carved := "val" not in sets.values() and val_fraction != 0:
        targets = annotations.targets(difficult.loss)[train]
        splits[train] = stratified_split(targets, None, (1 - val_fraction, val_fraction, 0.0), seed)
    images = ImagePaths(folder, [f"JPEGImages/{image}.jpg" for image in names])
    if check_images:
        require_images(name, images)

    origin = ", ".join(f"{split} is the official {image_set}" for image_set, split in sets.items())
    if carved:
        origin += f", less the {val_fraction:.0%} of train carved out as val (iterative stratification, seed {seed})"
    empty = [
        image for image, count in zip(names, np.diff(annotations.stored.indptr), strict=True) if not count
    ]
    return ImageDataset(
        name=name,
        images=images,
        annotations=annotations,
        label_names=list(VOC_LABELS),
        splits=splits,
        protocol=(
            f"{origin}; {len(names):,} images ({split_sizes(splits)}), all that are listed; label order alphabetical; "
            f"difficult: loss {difficult.loss}, AP {difficult.ap}, F1 {difficult.f1}, counts {difficult.counts}"
        ),
        licence="photos from Flickr, under its terms of use; published for research",
        difficult=difficult,
        remarks=(f"{len(empty):,} images have none of the labels, and are kept: {shorten(empty, 3)}",)
        if empty
        else (),
    )


def _find(top: Path, year: str) -> Path:
    """The folder ``VOC<year>`` at or below the given one; where it should be, if there is none."""
    inner = f"VOC{year}"
    if top.name == inner:
        places = [top, top / "VOCdevkit" / inner]
    elif top.name == "VOCdevkit":
        places = [top / inner]
    else:
        places = [top / "VOCdevkit" / inner, top / inner]
    return next((place for place in places if (place / "ImageSets").is_dir()), places[0])


def _download(name: str, year: str, top: Path) -> None:
    """Fetches and unpacks the official archives whose image sets are missing, through torchvision."""
    from torchvision.datasets import VOCDetection
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    inside = "VOCdevkit", f"VOC{year}"
    above = len(inside) if top.parts[-2:] == inside else int(top.name == inside[0])
    target = Path(*top.parts[: len(top.parts) - above])
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none: an unreachable host would be waited for
    try:
        for image_set, key in {"trainval": year, "test": f"{year}-test"}.items():
            if (
                key in DATASET_YEAR_DICT
                and not (_find(top, year) / f"ImageSets/Main/{image_set}.txt").is_file()
            ):
                url = DATASET_YEAR_DICT[key]["url"]
                VOCDetection(target, year=year, image_set=image_set, download=True)
    except (OSError, RuntimeError, tarfile.TarError) as error:
        raise InputError(
            f"{name}: {url} could not be fetched and unpacked ({error}). Fetch it on a machine that reaches it, unpack "
            f"it in {target}, so that there is {target.joinpath(*inside)}, and open {name}:root={target}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
