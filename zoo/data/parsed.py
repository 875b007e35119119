"""Large files of annotations, parsed once: what they say is kept in the cache as arrays, by their content.

files --parse, minutes--> Parsed --one .npz--> Parsed, seconds
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from zoo.annotations import Annotations
from zoo.data.dataset import cache_dir
from zoo.data.paths import ImagePaths
from zoo.lookup import InputError

FORMAT = 1  # of what is kept; another one is another key
SMALL = 2**20  # bytes of annotations that are not worth keeping


@dataclass(frozen=True, eq=False)
class Parsed:
    """What a data set's files say, before anything is chosen of it.

    Attributes:
        names: N image names, relative to a folder that is yet to be said.
        annotations: (N, L).
        label_names: the L labels.
        splits: "train", "val", "test", or "" for an image that has none.
        remarks: what was merged, left out or contradicted, with counts.
        hierarchy: (parent, child) pairs of labels.
    """

    names: ImagePaths
    annotations: Annotations
    label_names: list[str]
    splits: np.ndarray
    remarks: tuple[str, ...] = ()
    hierarchy: tuple[tuple[str, str], ...] = ()


def parse_once(files: Iterable[Path], parse: Callable[[], Parsed], options: str = "") -> Parsed:
    """What ``parse`` returns, from the cache where these files were parsed with these options before.

    A file that is changed, even by one byte, is parsed again; so is one whose entry in the cache is broken.

    Args:
        files: all that ``parse`` reads.
        parse: reads them.
        options: everything else that decides what it returns.

    Raises:
        InputError: a file is missing, or whatever ``parse`` raises.
    """
    files = list(files)
    if missing := [str(file) for file in files if not file.is_file()]:
        raise InputError(f"{missing[0]}: no such file")
    if sum(file.stat().st_size for file in files) < SMALL:
        return parse()
    digest = hashlib.blake2b(f"{FORMAT} {options}".encode(), digest_size=16)
    for file in files:
        with file.open("rb") as stream:
            digest.update(f"\0{file.name}\0{hashlib.file_digest(stream, 'blake2b').hexdigest()}".encode())
    kept = cache_dir() / "annotations" / f"{digest.hexdigest()}.npz"
    if kept.is_file():
        try:
            return _read(kept)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, InputError):
            warnings.warn(f"{kept} is broken: it is made again from {files[0]}", stacklevel=2)
    parsed = parse()
    _write(parsed, kept)
    return parsed


def _read(path: Path) -> Parsed:
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    if arrays.pop("digest").item() != _digest(arrays):
        raise ValueError("another digest")
    words = json.loads(arrays["words"].tobytes())
    stored = sp.csr_array((arrays["codes"], arrays["labels"], arrays["ends"]), shape=tuple(words["shape"]))
    return Parsed(
        ImagePaths.packed("", arrays["names"], arrays["name_ends"]),
        Annotations(stored, words["absent"]),
        words["label_names"],
        arrays["splits"],
        tuple(words["remarks"]),
        tuple((parent, child) for parent, child in words["hierarchy"]),
    )


def _write(parsed: Parsed, path: Path) -> None:
    stored = parsed.annotations.stored
    words = {
        "shape": stored.shape,
        "absent": parsed.annotations.absent,
        "label_names": parsed.label_names,
        "remarks": parsed.remarks,
        "hierarchy": parsed.hierarchy,
    }
    names, name_ends = parsed.names.pack()
    arrays = {
        "words": np.frombuffer(json.dumps(words).encode(), dtype=np.uint8),
        "names": names,
        "name_ends": name_ends,
        "splits": parsed.splits.astype("<U5"),
        "codes": stored.data,
        "labels": stored.indices,
        "ends": stored.indptr,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as stream:
        np.savez(stream, digest=np.array(_digest(arrays)), **arrays)
    os.replace(part, path)


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.view(np.uint8).data if array.size else b"")
    return digest.hexdigest()
