"""Open Images V4 to V7, image-level labels: nine million photographs, up to 20,000 labels, most of them unknown.

A. Kuznetsova et al., The Open Images Dataset V4, IJCV 2020, https://arxiv.org/abs/1811.00982; files and their
formats: https://storage.googleapis.com/openimages/web/download_v7.html.

Annotators verified labels that a classifier had proposed: present (1) or absent (0). Nobody looked for any other
label in an image, so all others are unknown.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo.data.dataset import ImageDataset
from zoo.data.expansion import ancestors, expand
from zoo.data.label_rows import RowFile, read_label_rows
from zoo.data.layout import dataset_root, require_files, require_images
from zoo.data.listed import read_json, read_lines
from zoo.data.parsed import Parsed, parse_once
from zoo.data.paths import ImagePaths
from zoo.lookup import InputError

SOURCE = "https://storage.googleapis.com/openimages/web/download_v7.html"
LICENCE = (
    f"annotations CC BY 4.0 by Google LLC; images listed as CC BY 2.0, to be verified for each; {SOURCE}"
)
FOLDERS = {"train": "train", "val": "validation", "test": "test"}
# A version's own files, then those that it took over: how their names begin.
PREFIXES = {"v4": ("",), "v5": ("",), "v6": ("oidv6-", ""), "v7": ("oidv7-", "oidv6-", "")}
LISTED = {"trainable": "classes-trainable.txt", "boxable": "class-descriptions-boxable.csv"}
HIERARCHY = "bbox_labels_600_hierarchy.json"


def openimages(
    *,
    root: str | None = None,
    version: Literal["v4", "v5", "v6", "v7"] = "v7",
    labels: Literal["trainable", "all", "boxable"] = "trainable",
    sources: Literal[
        "human", "verification", "crowdsource-verification", "machine", "human+machine"
    ] = "human",
    min_confidence: float = 0.5,
    hierarchy: Literal["none", "given", "expanded"] = "given",
    min_positives: int = 1,
    check_images: bool = True,
) -> ImageDataset:
    """Open Images' image-level labels: 1 verified as present, 0 verified as absent, -1 everything else.

    The official files lie in the root, label files also in the folder of their split, under their official
    names (``oidv7-train-annotations-human-imagelabels.csv``, or without ``oidv7-`` where V7 took a file over);
    images are ``train/<ImageID>.jpg``, ``validation/...`` and ``test/...``. The first call parses the files, in
    about a minute; later calls take seconds.

    Args:
        root: the folder; by default ``openimages`` in ``$ZOO_DATASETS``.
        version: whose files to take; the protocol names them.
        labels: those on the official list of trainable ones, all, or the 600 that have bounding boxes. The last
            are read from the files ``...-imagelabels-boxable.csv`` where these are there.
        sources: ``human``, all verified labels; those that the annotators in-house (``verification``) or the
            crowd (``crowdsource-verification``) verified; ``machine``, the labels of a classifier, which calls
            none absent; or ``human+machine``, where the classifier's count if no human was asked.
        min_confidence: of the classifier, from which on its label is positive; below, it stays unknown.
        hierarchy: what becomes of the hierarchy of the boxable labels: ``none``; ``given``, it is the data set's
            ``hierarchy``; ``expanded``, annotations follow it too (:func:`expand`).
        min_positives: labels with fewer positives in train are left out.
        check_images: whether every image must be there; a label graph is counted without.

    Returns:
        The images in which at least one of the labels is known, in the official splits. Labels are in the order
        of the class descriptions, by their display names; where two share one, their MIDs are added.

    Raises:
        InputError: a file or an image is missing, a file is malformed, or no label is left.
    """
    top = dataset_root(root, "openimages")
    kinds = sources.split("+") if sources in ("machine", "human+machine") else ["human"]
    paths = _find(top, _candidates(version, labels, kinds, hierarchy != "none"))
    files = [
        RowFile(
            paths[f"{split} {kind}"],
            split,
            image_path=f"{folder}/{{}}.jpg",
            positive=min_confidence if kind == "machine" else 1.0,
            negative=None if kind == "machine" else 0.0,
            second=kind != kinds[0],
        )
        for split, folder in FOLDERS.items()
        for kind in kinds
    ]
    names = label_names(paths["descriptions"])
    mids = list(names)
    tree = paths.get("hierarchy")

    def parse() -> Parsed:
        parsed = read_label_rows(
            files,
            image="ImageID",
            label="LabelName",
            value="Confidence",
            only=("Source", sources) if sources.endswith("verification") else None,
            labels=mids,
        )
        if tree and hierarchy == "expanded":
            annotations, remark = expand(parsed.annotations, ancestors(mids, pairs(tree, mids)))
            parsed = replace(parsed, annotations=annotations, remarks=(*parsed.remarks, remark))
        return replace(parsed, label_names=list(names.values()))

    read = [*(file.path for file in files), paths["descriptions"]]
    if tree and hierarchy == "expanded":
        read.append(tree)
    options = f"openimages {sources} {min_confidence} {hierarchy == 'expanded'}"
    parsed = parse_once(read, parse, options)

    remarks = list(parsed.remarks)
    chosen = np.ones(len(mids), dtype=bool)
    if listed := paths.get("listed"):
        on_list = _mids(listed)
        chosen = np.array([mid in on_list for mid in mids])
        if nameless := len(on_list.difference(mids)):
            remarks.append(f"{nameless:,} label(s) of {listed.name} are not described, and left out")
    enough = parsed.annotations.rows(parsed.splits == "train").positives() >= min_positives
    if few := int((chosen & ~enough).sum()):
        remarks.append(f"{few:,} label(s) with fewer than {min_positives:,} positive(s) in train left out")
    columns = np.flatnonzero(chosen & enough)
    if not columns.size:
        raise InputError(f"openimages: no label has {min_positives:,} positives in train (min_positives)")
    annotations = parsed.annotations.columns(columns)
    rows = np.flatnonzero(np.diff(annotations.stored.indptr))
    images = ImagePaths.packed(top, *parsed.names.pack()).take(rows)
    if check_images:
        require_images("openimages", images)
    return ImageDataset(
        name=f"openimages-{version}",
        images=images,
        annotations=annotations.rows(rows),
        label_names=[parsed.label_names[column] for column in columns],
        splits=parsed.splits[rows],
        protocol=(
            f"Open Images {version.upper()}, labels {labels} in the order of the class descriptions, sources "
            f"{sources}{f' from confidence {min_confidence:g}' if 'machine' in kinds else ''}, hierarchy "
            f"{hierarchy}; what nobody verified is unknown; official train, validation and test, of which "
            f"{len(parsed.names) - len(rows):,} image(s) without a known label are left out; files "
            + ", ".join(file.path.name for file in files)
        ),
        licence=LICENCE,
        remarks=tuple(remarks),
        hierarchy=tuple(
            (names[parent], names[child])
            for parent, child in (pairs(tree, [mids[column] for column in columns]) if tree else ())
        ),
    )


def _candidates(version: str, labels: str, kinds: Sequence[str], tree: bool) -> dict[str, list[str]]:
    """What is needed, and the names by which each may lie in the root; the first is the one to ask for."""
    prefixes = PREFIXES[version]
    candidates = {"descriptions": [f"{prefix}class-descriptions.csv" for prefix in prefixes]}
    if labels in LISTED:
        candidates["listed"] = [f"{prefix}{LISTED[labels]}" for prefix in prefixes]
    if tree:
        candidates["hierarchy"] = [HIERARCHY]
    for split, folder in FOLDERS.items():
        for kind in kinds:
            endings = ("-boxable", "") if labels == "boxable" and kind == "human" else ("",)
            candidates[f"{split} {kind}"] = [
                f"{place}{prefix}{word}-annotations-{kind}-imagelabels{ending}.csv"
                for ending in endings
                for prefix in prefixes
                for word in ((split, folder) if prefix == "oidv7-" else (folder,))  # V7 says val
                for place in ("", f"{folder}/")
            ]
    return candidates


def _find(top: Path, candidates: dict[str, list[str]]) -> dict[str, Path]:
    found = {what: [name for name in names if (top / name).is_file()] for what, names in candidates.items()}
    require_files("openimages", top, [candidates[what][0] for what in found if not found[what]], SOURCE)
    return {what: top / names[0] for what, names in found.items()}


def _mids(listed: Path) -> set[str]:
    """The labels on a list: one a line, or a CSV of class descriptions."""
    mids = list(label_names(listed)) if listed.suffix == ".csv" else read_lines(listed)
    for line, mid in enumerate(mids, start=1):
        if not mid.startswith("/"):
            raise InputError(f"{listed} line {line}: expected a MID like /m/0bt9lr, not {mid!r}")
    return set(mids)


def label_names(descriptions: Path) -> dict[str, str]:
    """The display name of each MID, in the order of the class descriptions, with or without a header (V4, V5).

    Raises:
        InputError: a line that does not hold a MID and its name, or a MID that comes twice.
    """
    names: dict[str, str] = {}
    with descriptions.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream)
        try:
            for row in reader:
                where = f"{descriptions} line {reader.line_num}"
                if not row or (reader.line_num == 1 and not row[0].startswith("/")):
                    continue
                if len(row) != 2 or not row[0].startswith("/"):
                    example = ",".join(row)
                    raise InputError(f"{where}: expected a MID and its name (/m/0bt9lr,Dog), not {example!r}")
                if row[0] in names:
                    raise InputError(f"{where}: {row[0]} is described a second time")
                names[row[0]] = row[1].strip() or row[0]
        except UnicodeDecodeError as error:
            raise InputError(f"{descriptions} is not UTF-8: {error.reason}") from None
    shared = Counter(names.values())
    return {mid: f"{name} ({mid})" if shared[name] > 1 else name for mid, name in names.items()}


def pairs(tree: Path, mids: Sequence[str]) -> list[tuple[str, str]]:
    """(parent, child) of the labels in the hierarchy, in its order; one that is no label hands its children on.

    "Part" relations are left out: a wheel is no kind of car, though there may be kinds of wheels.

    Raises:
        InputError: a node without a LabelName.
    """
    found: dict[tuple[str, str], None] = {}
    labels = set(mids)

    def walk(node: Any, parent: str | None) -> None:
        if not isinstance(node, dict) or not isinstance(node.get("LabelName"), str):
            raise InputError(f"{tree}: expected nodes with a LabelName, not {str(node)[:60]!r}")
        if (name := node["LabelName"]) in labels:
            if parent not in (None, name):
                found[parent, name] = None
            parent = name
        for child in node.get("Subcategory", ()):
            walk(child, parent)
        for part in node.get("Part", ()):
            walk(part, None)

    walk(read_json(tree), None)
    return list(found)
