"""The lists and objects of a PASCAL VOC development kit (laid out as :mod:`zoo.data.voc` says), as codes of labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int8

from zoo.annotations import DIFFICULT, POSITIVE, Annotations
from zoo.data.problems import Problems
from zoo.lookup import InputError

VOC_LABELS = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

LISTED = {"1": POSITIVE, "0": DIFFICULT, "-1": 0}  # -1 is negative here, not unknown


def read_sets(folder: Path, sets: dict[str, str]) -> tuple[list[str], np.ndarray, Annotations]:
    """Reads the image sets of a kit, one after the other.

    Args:
        folder: ``VOC2007``, say.
        sets: names of image sets (``trainval``), and the split that each is.

    Returns:
        N image names, the split of each, and what is known of it.

    Raises:
        InputError: with every kind of problem of the files, by file and line.
    """
    problems = Problems()
    names: dict[str, None] = {}
    splits: list[str] = []
    codes = []
    for image_set, split in sets.items():
        own: dict[str, int] = {}  # image to its row within the set
        for where, words in _lines(folder / "ImageSets" / "Main" / f"{image_set}.txt"):
            if len(words) != 1:
                problems.add("lines that are not one image name", f"{' '.join(words)!r} ({where})")
            elif words[0] in own or words[0] in names:
                problems.add("images listed again", f"{words[0]} ({where})")
            else:
                own[words[0]] = len(own)
        names |= dict.fromkeys(own)
        splits += [split] * len(own)
        codes.append(_read_set(folder, image_set, own, problems))
        if not own:
            problems.add("lists without an image", f"{image_set}.txt")
    problems.raise_any(folder)
    return list(names), np.array(splits, dtype="<U5"), Annotations(sp.csr_array(np.concatenate(codes)))


def _lines(file: Path) -> Iterator[tuple[str, list[str]]]:
    """``("dog_trainval.txt line 7", ["000012", "-1"])`` for each line that is not blank."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: no text in UTF-8, from byte {error.start} on") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if words := line.split():
            yield f"{file.name} line {number}", words


def _read_set(
    folder: Path, image_set: str, row: dict[str, int], problems: Problems
) -> Int8[np.ndarray, "N L"]:
    """Codes of :mod:`zoo.annotations` for the images of one set, from its lists of labels or else from the XML."""
    files = [folder / "ImageSets" / "Main" / f"{label}_{image_set}.txt" for label in VOC_LABELS]
    missing = [file.name for file in files if not file.is_file()]
    if len(missing) == len(files):
        return _read_xml(folder / "Annotations", row, problems)
    codes = np.zeros((len(row), len(files)), dtype=np.int8)
    for column, file in enumerate(files):
        if file.name in missing:
            problems.add("lists of labels missing", file.name)
            continue
        seen = set()
        for where, words in _lines(file):
            if len(words) != 2 or words[1] not in LISTED:
                kind = "lines that are not an image name and 1, 0 or -1"
                problems.add(kind, f"{' '.join(words)!r} ({where})")
            elif words[0] not in row:
                problems.add(f"images that {image_set}.txt does not list", f"{words[0]} ({where})")
            elif words[0] in seen:
                problems.add("images listed again", f"{words[0]} ({where})")
            else:
                codes[row[words[0]], column] = LISTED[words[1]]
            seen.add(words[0])
        for image in row:
            if image not in seen:
                problems.add(f"images of {image_set}.txt that a list lacks", f"{image} ({file.name})")
    return codes


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses declarations of entities, which can make gigabytes of a small file. The format has none."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ElementTree.ParseError("a DOCTYPE, which the format has not")


def _read_xml(folder: Path, row: dict[str, int], problems: Problems) -> Int8[np.ndarray, "N L"]:
    """The same from the objects of each image: difficult is a label all of whose objects are."""
    from rich.console import Console
    from rich.progress import track

    column = {label: i for i, label in enumerate(VOC_LABELS)}
    codes = np.zeros((len(row), len(column)), dtype=np.int8)
    console = Console(stderr=True)
    for image, i in track(row.items(), f"Reading {folder}", total=len(row), console=console, transient=True):
        file = folder / f"{image}.xml"
        try:
            tree = ElementTree.parse(file, ElementTree.XMLParser(target=_NoDoctype()))
        except FileNotFoundError:
            problems.add(f"images without a file in {folder.name}", file.name)
            continue
        except ElementTree.ParseError as error:
            line, at = getattr(error, "position", (1, 0))
            reason = str(error).partition(": line")[0]
            problems.add("malformed XML files", f"{file.name} line {line}, column {at + 1}: {reason}")
            continue
        for thing in tree.iterfind("object"):
            label = thing.findtext("name", "").strip()
            difficult = thing.findtext("difficult", "0").strip()  # the older files leave it out
            if label not in column:
                problems.add("objects of other labels than VOC's 20", f"{label!r} ({file.name})")
            elif difficult not in ("0", "1"):
                problems.add("values of difficult that are not 0 or 1", f"{difficult!r} ({file.name})")
            elif difficult == "0":
                codes[i, column[label]] = POSITIVE
            elif codes[i, column[label]] != POSITIVE:
                codes[i, column[label]] = DIFFICULT
    return codes
