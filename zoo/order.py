"""Which images a training step sees, and in which random state: functions of seed, epoch and position alone.

Nothing random in a training has a state of its own. So a run that was killed goes on bit by bit as if it had not been,
and neither the number of workers nor that of processes changes what is drawn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from zoo.data import ImageDataset
from zoo.lookup import InputError


def key(*parts: int) -> int:
    """63 bits that differ for different numbers, as a seed."""
    # With their number, since zeros at the end would make no difference.
    return int(np.random.SeedSequence((len(parts), *parts)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_everything(*parts: int) -> None:
    """Sets every generator of this process from a few numbers."""
    seed = key(*parts)
    _seed_cpu(seed)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)


def _seed_cpu(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - a user's own transform may draw from it
    # torch.manual_seed asks for GPUs each time, which takes as long as to read an image.
    torch.default_generator.manual_seed(seed)


class TrainingOrder(Sampler[list[tuple[int, int]]]):
    """The batches of each epoch, for one process: lists of (image, draw), where each draw of a training has its number.

    A batch is what one optimizer step sees. With several processes, or parts that are computed one after the other,
    each gets every so-manyth image of it. Where the last batch of an epoch has fewer images than there are such parts,
    it is left out.

    Args:
        num_images: N.
        batch_size: images of a step, over all processes and parts.
        seed: of the order.
        weights: (N,) how often each image is drawn, with replacement; without them, each comes once an epoch.
        parts: parts of a batch that one process computes one after the other.
        rank: number of this process.
        processes: how many there are.

    Raises:
        InputError: a batch has fewer images than parts.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        seed: int,
        *,
        weights: Tensor | None = None,
        parts: int = 1,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.num_images, self.batch_size, self.seed, self.weights = num_images, batch_size, seed, weights
        self.parts, self.rank, self.processes = parts, rank, processes
        shares = parts * processes
        if min(batch_size, num_images) < shares:
            raise InputError(
                f"a batch of {min(batch_size, num_images)} images cannot be shared among {processes} devices with "
                f"{parts} parts each: raise batch_size, or lower devices or accumulate"
            )
        rest = num_images % batch_size
        self.steps = num_images // batch_size + (rest >= shares)
        self.epoch = 0
        self._resumed: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        """Batches an epoch that this process computes."""
        return self.steps * self.parts

    def set_epoch(self, epoch: int) -> None:
        """Lightning says which epoch comes next."""
        self.epoch = epoch

    def begin_at(self, batches: int) -> None:
        """Goes on after so many batches of a training."""
        self._resumed = divmod(batches, len(self))
        self.epoch = self._resumed[0]

    def share(self, batch: int) -> float:
        """How much the mean over a batch of an epoch counts, where all count 1 on average over their step.

        With it, the mean over parts is the mean over the images of all.
        """
        step, part = divmod(batch, self.parts)
        images = min(self.batch_size, self.num_images - step * self.batch_size)
        shares = self.parts * self.processes
        return len(range(part * self.processes + self.rank, images, shares)) * shares / images

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch
        generator = torch.Generator().manual_seed(key(self.seed, epoch))
        if self.weights is None:
            order = torch.randperm(self.num_images, generator=generator)
        else:
            order = torch.multinomial(self.weights, self.num_images, replacement=True, generator=generator)
        done = self._resumed[1] if epoch == self._resumed[0] else 0
        for batch in range(done, len(self)):
            step, part = divmod(batch, self.parts)
            start, stop = step * self.batch_size, min((step + 1) * self.batch_size, self.num_images)
            own = slice(start + part * self.processes + self.rank, stop, self.parts * self.processes)
            draws = range(epoch * self.num_images, (epoch + 1) * self.num_images)[own]
            yield list(zip(order[own].tolist(), draws, strict=True))


class Batches(Dataset):
    """Whole batches of a data set, as a :class:`TrainingOrder` names them: images (B, 3, H, W) and targets (B, L).

    Each image is augmented in a random state of its own, which its draw decides.
    """

    def __init__(self, images: ImageDataset, seed: int) -> None:
        self.images, self.key = images, key(seed)

    def __getitem__(self, draws: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        rows = []
        for image, draw in draws:
            _seed_cpu((self.key + draw) % 2**63)
            rows.append(self.images[image])
        images, targets = default_collate(rows)  # in a worker straight into memory that is shared
        return images, targets


class Rows(Dataset):
    """Likewise of tensors that are in memory, or mapped into it, sliced at once."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __getitem__(self, draws: Any) -> tuple[Tensor, ...]:
        rows = torch.tensor([image for image, _ in draws])
        return tuple(tensor[rows] for tensor in self.tensors)


def own_rows(num_images: int, rank: int, processes: int) -> range:
    """The images that one process evaluates: every so-manyth, each image in exactly one process.

    Raises:
        InputError: there are fewer images than processes.
    """
    if num_images < processes:
        raise InputError(f"{num_images} images cannot be evaluated on {processes} devices: use fewer devices")
    return range(rank, num_images, processes)
