"""The one data set object: every source returns it, everything downstream takes it."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int8, Integer, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from zoo.annotations import DIFFICULT, TREATMENTS, Annotations
from zoo.counts import LabelCounts, count_labels
from zoo.data.images import ImageError, read_image
from zoo.data.paths import ImagePaths
from zoo.data.splits import SPLITS
from zoo.lookup import InputError, lookup, unknown


def cache_dir() -> Path:
    """Makes and returns the folder for what can be computed again: ``$ZOO_CACHE``, or one in ``~/.cache``."""
    path = Path(os.environ.get("ZOO_CACHE") or Path.home() / ".cache" / "label-graph-zoo").expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return path


def shorten(names: list[str], show: int = 10) -> str:
    """The first names, with commas, for messages."""
    return ", ".join(names[:show]) + (f", ... ({len(names):,} in all)" if len(names) > show else "")


@dataclass(frozen=True)
class Difficult:
    """What entries that are marked as difficult count as, for each purpose: positive, negative or ignored.

    The defaults are ML-GCN's for PASCAL VOC: positive for the loss, ignored by AP, negative in precision, recall
    and F1, and not counted in the label graph.

    Raises:
        InputError: no such treatment.
    """

    counts: str = "negative"
    loss: str = "positive"
    ap: str = "ignored"
    f1: str = "negative"

    def __post_init__(self) -> None:
        for purpose, treatment in asdict(self).items():
            lookup(f"treatment of difficult entries for {purpose}", treatment, TREATMENTS)


@dataclass(eq=False)  # Equality of arrays is no truth value, and torch wants data sets hashable.
class ImageDataset(Dataset):
    """Images on disk, and for each what is known of each label.

    Indexing gives ``(image, targets)``: an upright RGB image, or what the transform makes of it, and an int8
    tensor (L,). An image that does not decode raises an error that names its file.

    Attributes:
        name: for reports and file names.
        images: N paths, given as any sequence of paths.
        annotations: what is known of N images and L labels.
        label_names: L different names.
        splits: "train", "val" or "test" for each image.
        groups: images with equal values must stay in one split (one scene, one patient); None: none do.
        transform: applied to the image.
        protocol: which images and labels these are, where the splits come from, for reports.
        licence: licence and attribution of the images, where they ask for it.
        difficult: what difficult entries count as.
        purpose: what the targets are for now: ``counts``, ``loss``, ``ap`` or ``f1``; see :meth:`with_purpose`.
        remarks: what a reader of these data should know: rows left out or merged, and how many.
        hierarchy: (parent, child) pairs of label names, where the data say that one label implies another.

    Raises:
        InputError: a label name is empty or comes twice, a split is none of the above, lengths differ.
    """

    name: str
    images: Sequence[Path]
    annotations: Annotations
    label_names: list[str]
    splits: Shaped[np.ndarray, " N"]
    groups: Shaped[np.ndarray, " N"] | None = None
    transform: Callable[[Any], Any] | None = None
    protocol: str = ""
    licence: str = ""
    difficult: Difficult = Difficult()
    purpose: str = "loss"
    remarks: tuple[str, ...] = ()
    hierarchy: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        self.images = ImagePaths.of(self.images)
        if self.annotations.shape != (len(self.images), len(self.label_names)):
            raise InputError(
                f"{self.name}: targets of shape {self.annotations.shape} for {len(self.images)} images "
                f"and {len(self.label_names)} labels"
            )
        if "" in self.label_names:
            raise InputError(f"{self.name}: label {self.label_names.index('') + 1} has an empty name")
        twice = [name for name, count in Counter(self.label_names).items() if count > 1]
        if twice:
            raise InputError(f"{self.name}: label names must differ; more than once: {shorten(twice)}")
        wrong = np.flatnonzero(~np.isin(self.splits, SPLITS))
        if wrong.size:
            raise InputError(f"{self.name}: split {self.splits[wrong[0]]!s} is none of {SPLITS}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Int8[Tensor, " L"]]:
        try:
            image = read_image(self.images[index])
        except ImageError as error:
            advice = "zoo scan names all such images, --on_error skip leaves them out"
            raise ImageError(f"{error} ({advice})", error.kind) from error
        targets = torch.from_numpy(self.annotations.row(index, self._treatment))
        return self.transform(image) if self.transform else image, targets

    @property
    def _treatment(self) -> str:
        return getattr(self.difficult, self.purpose)

    @property
    def targets(self) -> Int8[np.ndarray, "N L"]:
        """1 positive, 0 negative, -1 unknown, as an array that is made anew each time."""
        return self.annotations.targets(self._treatment)

    def with_purpose(self, purpose: str) -> ImageDataset:
        """The same images with the targets of a purpose: ``counts``, ``loss``, ``ap`` or ``f1``.

        They differ in what difficult entries count as, and are the same where there are none.
        """
        lookup("purpose", purpose, asdict(self.difficult))
        return replace(self, purpose=purpose)

    def f1_targets(self) -> Int8[np.ndarray, "N L"] | None:
        """The targets for precision, recall and F1, if they are others than those for AP."""
        if self.difficult.f1 == self.difficult.ap or not (self.annotations.stored.data == DIFFICULT).any():
            return None
        return self.with_purpose("f1").targets

    def label_counts(self) -> LabelCounts:
        """Counts of labels and pairs of labels, for a label graph."""
        return count_labels(self.annotations.treated(self.difficult.counts), self.label_names)

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
        return self.take(rows)

    def take(self, rows: Integer[np.ndarray, " n"]) -> ImageDataset:
        """The images at these places, in this order."""
        return replace(
            self,
            images=ImagePaths.of(self.images).take(rows),
            annotations=self.annotations.rows(rows),
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
        return replace(self, label_names=list(label_names), annotations=self.annotations.columns(columns))

    @property
    def labels_per_image(self) -> float:
        """Mean number of positive labels."""
        return float(self.annotations.positives().sum() / max(len(self), 1))

    def _split_sizes(self) -> str:
        return ", ".join(f"{name} {(self.splits == name).sum():,}" for name in SPLITS)

    def describe(self) -> str:
        """A few lines to print: sizes, splits, the rarest labels, protocol and licence."""
        positives = self.annotations.positives()
        rarest = [f"{self.label_names[i]} {positives[i]:,}" for i in np.argsort(positives, kind="stable")[:5]]
        entries = max(len(self) * len(self.label_names), 1)
        difficult = int((self.annotations.stored.data == DIFFICULT).sum())
        unknowns = 1 - (self.annotations.known().sum() + difficult) / entries
        groups = f" in {len(np.unique(self.groups)):,} groups" if self.groups is not None else ""
        lines = [
            f"{self.name}: {len(self):,} images{groups}, {len(self.label_names):,} labels, "
            f"{self.labels_per_image:.2f} labels per image"
            + (f", {unknowns:.1%} unknown" if unknowns > 0 else "")
            + (f", {difficult:,} difficult" if difficult else ""),
            f"  splits: {self._split_sizes()}",
            f"  rarest labels: {', '.join(rarest)}",
        ]
        lines += [
            f"  {word}: {text}"
            for word, text in (("protocol", self.protocol), ("licence", self.licence))
            if text
        ]
        if difficult:
            treated = (f"{how} for {what}" for what, how in asdict(self.difficult).items())
            lines.append(f"  difficult: {', '.join(treated)}")
        lines += [f"  note: {remark}" for remark in self.remarks]
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
        stored = self.annotations.stored
        for array in (stored.indptr.astype(np.int64), stored.indices.astype(np.int64), stored.data):
            digest.update(np.ascontiguousarray(array).data)
        digest.update(f"{self.annotations.absent} {self.difficult}".encode())
        return digest.hexdigest()
