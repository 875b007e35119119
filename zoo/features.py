"""Frozen features: the backbone runs over a data set once, and heads train on the result in seconds.

Pooled vectors (avg, max) are kept as float32; whole feature maps, for heads that need positions or a learned
pooling, as float16. Both are memory-mapped files in the cache, keyed by the weights, the input size and the data.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from zoo.backbones import Backbone
from zoo.data import ImageDataset, cache_dir
from zoo.heads.head import POOLINGS, Head
from zoo.lookup import InputError

POOLED = ("avg", "max")  # poolings without parameters: what they give can be computed once


class OnFeatures(nn.Module):
    """A head that takes up where its frozen features end: after the pooling, or at the feature map."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor, known: Tensor | None = None) -> Tensor:
        if features.dim() == 2:
            return self.head.from_pooled(features, known)
        return self.head(features.float(), known)


def features_kind(head: Head) -> str:
    """Which frozen features a head trains on: ``avg``, ``max`` or ``map``."""
    return head.pooling if head.pooling in POOLED else "map"


def frozen_features(
    backbone: Backbone, data: ImageDataset, kind: str, *, batch_size: int = 32, workers: int = 2
) -> Tensor:
    """Features of every image of a data set, (N, D) for ``avg`` and ``max``, (N, D, h, w) for ``map``.

    Computed with a progress bar where the cache does not hold them; a run that was killed goes on where it was.

    Args:
        backbone: in evaluation mode while it runs; its weights are part of the cache's key.
        data: the images, in their order.
        kind: ``avg``, ``max`` or ``map``.
        batch_size: images at a time.
        workers: processes that read and resize images.

    Raises:
        InputError: a backbone of several levels; what is kept is one feature map an image.
    """
    if backbone.levels > 1:
        raise InputError(
            f"frozen features hold one feature map, and this head takes {backbone.levels}: "
            "train it with freeze_backbone=False, or choose levels=1"
        )
    folder = cache_dir() / "features" / _key(backbone, data)
    files = {name: folder / f"{name}.npy" for name in ([*POOLED] if kind in POOLED else [kind])}
    if not all(file.is_file() for file in files.values()):
        _compute(backbone, data, folder, files, batch_size, workers)
    # "c": torch wants memory that could be written.
    return torch.from_numpy(np.load(files[kind], mmap_mode="c"))


def standardize_features(head: Head, features: Tensor, targets: Tensor, rows: Tensor) -> None:
    """Gives a head the start of :meth:`zoo.heads.head.Head.standardize`, from the training images.

    Args:
        head: it is changed in place.
        features: what :func:`frozen_features` gives for this head, N rows.
        targets: (N, L) of {1, 0, -1}.
        rows: indices of the training images.
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    with torch.no_grad():
        for some in rows.split(256):
            pooled = features[some].float()
            if pooled.dim() == 4:
                pooled = head.pool(pooled)
            channels = pooled.transpose(0, 1).flatten(1).double()
            count += channels.size(1)
            total, squares = total + channels.sum(1), squares + channels.square().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    # A channel that is nearly silent must not become as loud as the others.
    std = std.clamp(min=float(0.1 * std.mean()) or 1.0)
    positive, negative = ((targets[rows] == value).sum(0) + 0.5 for value in (1, 0))
    head.standardize(mean.float(), std.float(), (positive / negative).log())


def _compute(
    backbone: Backbone,
    data: ImageDataset,
    folder: Path,
    files: dict[str, Path],
    batch_size: int,
    workers: int,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    device = next(backbone.parameters()).device
    pools = {name: POOLINGS["none" if name == "map" else name]() for name in files}
    parts = {name: file.with_suffix(".part.npy") for name, file in files.items()}
    counter = folder / f"{'-'.join(files)}.rows"
    done = int(counter.read_text()) if counter.is_file() and all(p.is_file() for p in parts.values()) else 0
    arrays = {name: np.load(part, mmap_mode="r+") for name, part in parts.items()} if done else {}
    images = data.with_transform(backbone.transform())
    loader = DataLoader(Subset(images, range(done, len(data))), batch_size=batch_size, num_workers=workers)
    training = backbone.training
    backbone.eval()
    try:
        with Progress(
            *Progress.get_default_columns()[:-1], TimeRemainingColumn(), transient=True
        ) as progress:
            task = progress.add_task(f"features of {data.name}", total=len(data), completed=done)
            for step, (batch, _) in enumerate(loader):
                with torch.inference_mode():
                    feature_map = backbone(batch.to(device)).float()
                for name, pool in pools.items():
                    rows = pool(feature_map).cpu().numpy()
                    if name not in arrays:
                        arrays[name] = np.lib.format.open_memmap(
                            parts[name],
                            mode="w+",
                            dtype=np.float16 if name == "map" else np.float32,
                            shape=(len(data), *rows.shape[1:]),
                        )
                    arrays[name][done : done + len(rows)] = rows
                done += len(batch)
                progress.update(task, completed=done)
                if step % 20 == 19:
                    _note_progress(counter, done, arrays)
    finally:
        backbone.train(training)
    for name, file in files.items():
        arrays[name].flush()
        os.replace(parts[name], file)
    counter.unlink(missing_ok=True)


def _note_progress(counter: Path, done: int, arrays: dict[str, np.memmap]) -> None:
    for array in arrays.values():
        array.flush()
    # Written aside and renamed: a stop in the middle must not leave an empty number behind.
    part = counter.with_suffix(".part")
    part.write_text(str(done))
    os.replace(part, counter)


def _key(backbone: Backbone, data: ImageDataset) -> str:
    digest = hashlib.sha256()
    digest.update(
        json.dumps([backbone.name, backbone.data_config, data.images_fingerprint()], default=str).encode()
    )
    for tensor in backbone.state_dict().values():
        digest.update(tensor.numpy(force=True).tobytes())
    return f"{backbone.name}-{digest.hexdigest()[:16]}"
