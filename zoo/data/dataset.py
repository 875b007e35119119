"""The one data set object: every source returns it, everything downstream takes it."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int8, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from zoo.data.images import read_image
from zoo.data.splits import SPLITS
from zoo.lookup import InputError, unknown


def cache_dir() -> Path:
    """Makes and returns the folder for what can be computed again: ``$ZOO_CACHE``, or one in ``~/.cache``."""
    path = Path(os.environ.get("ZOO_CACHE") or Path.home() / ".cache" / "label-graph-zoo").expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return path


def shorten(names: list[str], show: int = 10) -> str:
    """The first names, with commas, for messages."""
    return ", ".join(names[:show]) + (f", ... ({len(names):,} in all)" if len(names) > show else "")


@dataclass(eq=False)  # Equality of arrays is no truth value, and torch wants data sets hashable.
class ImageDataset(Dataset):
    """Images on disk, and for each what is known of each label.

    Indexing gives ``(image, targets)``: an upright RGB image, or what the transform makes of it, and an int8
    tensor (L,). An image that does not decode raises an error that names its file.

    Attributes:
        name: for reports and file names.
        images: N paths.
        targets: 1 positive, 0 negative, -1 unknown.
        label_names: L different names.
        splits: "train", "val" or "test" for each image.
        groups: images with equal values must stay in one split (one scene, one patient); None: none do.
        transform: applied to the image.
        protocol: where labels and splits come from, for reports.
        licence: licence and attribution of the images, where they ask for it.

    Raises:
        InputError: a label name is empty or comes twice, a target or a split is none of the above.
    """

    name: str
    images: list[Path]
    targets: Int8[np.ndarray, "N L"]
    label_names: list[str]
    splits: Shaped[np.ndarray, " N"]
    groups: Shaped[np.ndarray, " N"] | None = None
    transform: Callable[[Any], Any] | None = None
    protocol: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        if self.targets.shape != (len(self.images), len(self.label_names)):
            raise InputError(
                f"{self.name}: targets of shape {self.targets.shape} for {len(self.images)} images "
                f"and {len(self.label_names)} labels"
            )
        if "" in self.label_names:
            raise InputError(f"{self.name}: label {self.label_names.index('') + 1} has an empty name")
        twice = [name for name, count in Counter(self.label_names).items() if count > 1]
        if twice:
            raise InputError(f"{self.name}: label names must differ; more than once: {shorten(twice)}")
        for array, what, allowed in ((self.targets, "target", (1, 0, -1)), (self.splits, "split", SPLITS)):
            wrong = np.flatnonzero(~np.isin(array, allowed))
            if wrong.size:
                raise InputError(f"{self.name}: {what} {array.flat[wrong[0]]!s} is none of {allowed}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Int8[Tensor, " L"]]:
        image = read_image(self.images[index])
        return self.transform(image) if self.transform else image, torch.from_numpy(
            self.targets[index].copy()
        )

    def split(self, name: str) -> ImageDataset:
        """The images of one split, in their order.

        Raises:
            InputError: the split does not exist, or no image is in it.
        """
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
        (rows,) = np.nonzero(self.splits == name)
        if not rows.size:
            raise InputError(f"{self.name} has no images in split {name!r}: {self._split_sizes()}")
        return replace(
            self,
            images=[self.images[i] for i in rows],
            targets=self.targets[rows],
            splits=self.splits[rows],
            groups=None if self.groups is None else self.groups[rows],
        )

    def with_transform(self, transform: Callable[[Any], Any] | None) -> ImageDataset:
        """The same images under another transform."""
        return replace(self, transform=transform)

    def with_labels(self, label_names: list[str]) -> ImageDataset:
        """The same images with the same labels in a model's order.

        Raises:
            InputError: a label that only one of the two has.
        """
        missing = [name for name in label_names if name not in self.label_names]
        extra = [name for name in self.label_names if name not in label_names]
        if missing or extra:
            differences = (
                f"{len(names)} only in the {where} ({shorten(names, 5)})"
                for names, where in ((missing, "model"), (extra, "data"))
                if names
            )
            raise InputError(
                f"the labels of the model and of {self.name} differ: {' and '.join(differences)}. "
                "Rename the columns, or train a model on these labels"
            )
        columns = [self.label_names.index(name) for name in label_names]
        return replace(self, label_names=list(label_names), targets=self.targets[:, columns])

    @property
    def labels_per_image(self) -> float:
        """Mean number of positive labels."""
        return float((self.targets == 1).sum() / max(len(self), 1))

    def _split_sizes(self) -> str:
        return ", ".join(f"{name} {(self.splits == name).sum():,}" for name in SPLITS)

    def describe(self) -> str:
        """A few lines to print: sizes, splits, the rarest labels, protocol and licence."""
        positives = (self.targets == 1).sum(0)
        rarest = [f"{self.label_names[i]} {positives[i]:,}" for i in np.argsort(positives, kind="stable")[:5]]
        unknowns = (self.targets == -1).mean() if self.targets.size else 0.0
        groups = f" in {len(np.unique(self.groups)):,} groups" if self.groups is not None else ""
        lines = [
            f"{self.name}: {len(self):,} images{groups}, {len(self.label_names):,} labels, "
            f"{self.labels_per_image:.2f} labels per image"
            + (f", {unknowns:.1%} unknown" if unknowns else ""),
            f"  splits: {self._split_sizes()}",
            f"  rarest labels: {', '.join(rarest)}",
        ]
        lines += [
            f"  {word}: {text}"
            for word, text in (("protocol", self.protocol), ("licence", self.licence))
            if text
        ]
        return "\n".join(lines)

    def images_fingerprint(self) -> str:
        """16 hexadecimal digits that name the images, as a key for what is computed from their pixels.

        Hashes their paths below their common folder with their sizes in bytes. So a copy elsewhere has the same
        fingerprint; an image changed without changing its size has it too, because to read every byte would
        cost much of what the key is to save. The transform has no part in it.
        """
        top = os.path.commonpath([path.absolute().parent for path in self.images]) if self.images else ""
        digest = hashlib.blake2b(digest_size=8)
        for path in self.images:
            name = path.absolute().relative_to(top).as_posix()
            digest.update(f"{name}\0{path.stat().st_size}\n".encode())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """16 hexadecimal digits that name everything: :meth:`images_fingerprint`, targets, labels and splits."""
        digest = hashlib.blake2b(self.images_fingerprint().encode(), digest_size=8)
        for names in (self.label_names, self.splits.tolist()):
            digest.update(("\0".join(names) + "\n").encode())
        digest.update(np.ascontiguousarray(self.targets).tobytes())
        return digest.hexdigest()
