"""The order of images: each once an epoch, shared among processes and parts, and a function of its numbers alone."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch

from zoo.lookup import InputError
from zoo.order import Batches, Rows, TrainingOrder, key, own_rows, seed_everything


def steps(
    size: int, batch: int, parts: int, processes: int, epoch: int = 0, **options
) -> list[list[tuple[int, int]]]:
    """The draws of each step, over all processes and parts."""
    orders = []
    for rank in range(processes):
        order = TrainingOrder(size, batch, 7, parts=parts, rank=rank, processes=processes, **options)
        order.set_epoch(epoch)
        orders.append(list(order))
        assert len(orders[-1]) == len(order)
    return [
        [draw for own in orders for part in range(parts) for draw in own[i + part]]
        for i in range(0, len(orders[0]), parts)
    ]


@pytest.mark.parametrize(("size", "batch"), [(97, 16), (96, 16), (5, 16), (100, 7)])
@pytest.mark.parametrize(("parts", "processes"), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("epoch", [0, 3])
def test_shares_are_the_same_batches_however_they_are_cut(size, batch, parts, processes, epoch):
    whole, cut = steps(size, batch, 1, 1, epoch), steps(size, batch, parts, processes, epoch)
    assert sorted(image for step in whole for image, _ in step) == list(range(size)), "each once"
    rest = size % batch
    if rest and rest < parts * processes:
        assert len(cut) == len(whole) - 1, "one image cannot be shared by two"
    else:
        assert len(cut) == len(whole)
    for one, other in zip(whole, cut, strict=False):
        assert Counter(one) == Counter(other)


def test_every_draw_of_a_training_has_its_number():
    draws = [draw for epoch in range(3) for step in steps(10, 4, 1, 1, epoch) for _, draw in step]
    assert draws == list(range(30))


def test_the_order_is_decided_by_seed_and_epoch():
    first, again, later = steps(50, 8, 1, 1), steps(50, 8, 1, 1), steps(50, 8, 1, 1, 1)
    assert first == again
    assert [[image for image, _ in step] for step in first] != [
        [image for image, _ in step] for step in later
    ]
    other = list(TrainingOrder(50, 8, 8))
    assert other != first


@pytest.mark.parametrize("batches", range(13))
def test_it_goes_on_anywhere(batches):
    """Five batches an epoch; the rest of the epoch at hand, and then whole ones."""
    whole = []
    order = TrainingOrder(33, 8, 0)
    for epoch in range(4):
        order.set_epoch(epoch)
        whole += list(order)
    resumed = TrainingOrder(33, 8, 0)
    resumed.begin_at(batches)
    rest = list(resumed)
    for epoch in range(batches // 5 + 1, 4):
        resumed.set_epoch(epoch)
        rest += list(resumed)
    assert rest == whole[batches:]


@pytest.mark.parametrize(("parts", "processes"), [(1, 1), (2, 1), (3, 2)])
def test_the_mean_over_shares_is_the_mean_over_images(parts, processes):
    values = torch.randn(97, generator=torch.Generator().manual_seed(0))
    orders = [
        TrainingOrder(97, 20, 7, parts=parts, rank=rank, processes=processes) for rank in range(processes)
    ]
    batches = [list(order) for order in orders]
    whole = steps(97, 20, 1, 1)
    for step in range(5):
        shares = [
            order.share(i) * values[[image for image, _ in own[i]]].mean()
            for order, own in zip(orders, batches, strict=True)
            for i in range(step * parts, (step + 1) * parts)
        ]
        expected = values[[image for image, _ in whole[step]]].mean()
        torch.testing.assert_close(torch.stack(shares).mean(), expected)


def test_drawn_with_weights():
    weights = torch.tensor([0.0, 3.0, 1.0])
    drawn = Counter(
        image
        for epoch in range(400)
        for step in steps(3, 2, 1, 1, epoch, weights=weights)
        for image, _ in step
    )
    assert set(drawn) == {1, 2}
    assert 2.5 < drawn[1] / drawn[2] < 3.6


def test_a_batch_smaller_than_its_shares():
    with pytest.raises(
        InputError, match="batch of 3 images cannot be shared among 2 devices with 2 parts each"
    ):
        TrainingOrder(100, 3, 0, parts=2, processes=2)
    with pytest.raises(InputError, match="1 images cannot be evaluated on 2 devices"):
        own_rows(1, 0, 2)


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_each_image_is_evaluated_once(processes):
    rows = [own_rows(17, rank, processes) for rank in range(processes)]
    assert sorted(row for own in rows for row in own) == list(range(17))


def test_keys_differ_in_their_numbers_and_their_order():
    keys = {key(*parts) for parts in [(0,), (1,), (0, 1), (1, 0), (0, 0), (2**40, 3), (3, 2**40)]}
    assert len(keys) == 7
    assert all(0 <= value < 2**63 for value in keys)


def test_every_generator_is_seeded():
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    seed_everything(1, 2)
    first = draw()
    seed_everything(1, 2)
    assert draw() == first
    seed_everything(2, 1)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_an_image_is_augmented_by_its_draw_alone(colours):
    """Not by the batch it is in, by what was drawn before, or by the process that reads it."""
    noisy = colours.with_transform(lambda image: torch.rand(2) + random.random())
    batches = Batches(noisy, seed=3)
    images, targets = batches[[(4, 10), (4, 11), (0, 12)]]
    assert not torch.equal(images[0], images[1]), "the same image, drawn anew"
    torch.rand(5)
    again, _ = batches[[(0, 12), (4, 10)]]
    assert torch.equal(again, images[[2, 0]])
    assert torch.equal(targets, torch.from_numpy(colours.targets[[4, 4, 0]]))
    assert not torch.equal(Batches(noisy, seed=4)[[(0, 12)]][0], images[2:])


def test_rows_of_tensors():
    data = Rows(torch.arange(5.0), torch.arange(10).view(5, 2))
    first, second = data[[(3, 0), (3, 1), (1, 2)]]
    assert first.tolist() == [3, 3, 1]
    assert second.tolist() == [[6, 7], [6, 7], [2, 3]]
