"""Augmentations on images whose pixels say where they come from."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.augment import AUGMENTATIONS, build_augmentation, check_augmentation
from zoo.backbones import Backbone
from zoo.lookup import InputError

HEIGHT, WIDTH = 64, 96
CONFIG = {
    "input_size": [3, HEIGHT, WIDTH],
    "mean": [0.1, 0.2, 0.3],
    "std": [0.5, 0.25, 0.2],
    "interpolation": "bilinear",
}


def drawn(spec, image, times=1, config=CONFIG):
    """Results as shares of full brightness: (times, 3, H, W)."""
    augment = build_augmentation(spec, config)
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    torch.manual_seed(0)
    return torch.stack([augment(image) for _ in range(times)]) * std + mean


@pytest.fixture
def places():
    """Red grows from left to right, green from top to bottom; 4 times the size of the input."""
    pixels = np.zeros((4 * HEIGHT, 4 * WIDTH, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, 4 * WIDTH).round()
    pixels[..., 1] = np.linspace(0, 255, 4 * HEIGHT).round()[:, None]
    return Image.fromarray(pixels)


def box_of(result):
    """(left, right, top, bottom) of the part of ``places`` that became the result, flipped or not."""
    red, green = result[0].mean(0), result[1].mean(1)
    # A pixel's value is that of its centre; half a step beyond the outer ones lie the edges.
    across, down = (red[-1] - red[0]) / (WIDTH - 1) / 2, (green[-1] - green[0]) / (HEIGHT - 1) / 2
    left, right = sorted([float(red[0] - across), float(red[-1] + across)])
    return left, right, float(green[0] - down), float(green[-1] + down)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_torchs_generator_alone_decides(name, places):
    augment = build_augmentation(name, CONFIG)
    results = []
    for i in range(2):
        torch.manual_seed(7)
        random.seed(i)
        np.random.seed(i)  # noqa: NPY002 - the one that transforms elsewhere draw from
        results.append(torch.stack([augment(places) for _ in range(8)]))
    assert torch.equal(*results)
    assert results[0].shape == (8, 3, HEIGHT, WIDTH)
    assert results[0].dtype == torch.float32
    assert type(results[0]) is torch.Tensor
    differ = {pickle.dumps(result.numpy()) for result in results[0]}
    assert len(differ) == 1 if name == "none" else len(differ) >= 6


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_workers_that_are_spawned_can_have_it(name, places):
    augment = pickle.loads(pickle.dumps(build_augmentation(name, CONFIG)))
    before = places.tobytes()
    assert augment(places).isfinite().all()
    assert places.tobytes() == before, "the image itself stays as it is"


@pytest.mark.parametrize("size", [(300, 200), (96, 64), (31, 40)])
def test_none_is_what_evaluation_does(size):
    backbone = Backbone("test_resnet", img_size=(64, 96))
    image = Image.effect_noise(size, 80).convert("RGB")
    result = build_augmentation("none", backbone.data_config)(image)
    torch.testing.assert_close(result, backbone.transform()(image))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_interpolation_is_the_backbones(interpolation):
    image = Image.effect_noise((40, 30), 80).convert("RGB")
    result = drawn("none", image, config=CONFIG | {"interpolation": interpolation})[0]
    expected = image.resize((WIDTH, HEIGHT), getattr(Image.Resampling, interpolation.upper()))
    torch.testing.assert_close(result, torch.from_numpy(np.array(expected)).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("spec", ["crop", "multiscale", "affine:translate=0:scale=[1,1]"])
def test_flips_half_of_the_time_or_as_often_as_asked(spec, places):
    def flipped(spec):
        results = drawn(spec, places, 100)
        return int((results[:, 0, 28:36, :48].mean((1, 2)) > results[:, 0, 28:36, 48:].mean((1, 2))).sum())

    assert 30 < flipped(spec) < 70
    assert flipped(f"{spec}:flip=0") == 0
    assert flipped(f"{spec}:flip=1") == 100


# --- crop ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "low", "high"), [("crop", 0.5, 8 / 9), ("crop:scale=[0.1,0.2]", 0.1, 0.2)])
def test_a_crop_keeps_a_share_of_the_area(spec, low, high, places):
    boxes = [box_of(result) for result in drawn(spec, places, 200)]
    shares = [(right - left) * (bottom - top) for left, right, top, bottom in boxes]
    assert low - 0.02 < min(shares) < low + 0.2 * (high - low)
    assert high - 0.2 * (high - low) < max(shares) < high + 0.02
    # The image is 3:2, of which a crop of 4:3 is 8/9; the smallest have 30 pixels a side.
    ratios = [1.5 * (right - left) / (bottom - top) for left, right, top, bottom in boxes]
    assert 3 / 4 - 0.04 < min(ratios) < max(ratios) < 4 / 3 + 0.04


# --- multiscale ----------------------------------------------------------------------------------------------


def multiscale_boxes(spec, places, times):
    """(share of the width, of the height, place in quarters of the free width, of the free height) of each result."""
    for result in drawn(spec, places, times):
        left, right, top, bottom = box_of(result)
        width, height = right - left, bottom - top
        yield (
            width,
            height,
            4 * left / (1 - width) if width < 0.97 else None,
            4 * top / (1 - height) if height < 0.97 else None,
        )


def test_multiscale_boxes_are_the_allowed_ones(places):
    scales = np.array([1, 0.875, 0.75, 0.66, 0.5])
    pairs, spots = set(), set()
    for width, height, across, down in multiscale_boxes("multiscale", places, 400):
        i, j = (int(np.abs(scales - side).argmin()) for side in (width, height))
        assert abs(scales[i] - width) < 0.025
        assert abs(scales[j] - height) < 0.025
        pairs.add((i, j))
        # Within the smallest free side, that of .875, a pixel is a tenth of it.
        if across is not None and down is not None:
            assert abs(across - round(across)) < 0.4
            assert abs(down - round(down)) < 0.4
        if i >= 2 and j >= 2:
            spots.add((round(across), round(down)))
    assert pairs == {(i, j) for i in range(5) for j in range(5) if abs(i - j) <= 2}
    corners_and_centre = {(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)}
    edges, between = {(0, 2), (2, 0), (2, 4), (4, 2)}, {(1, 1), (1, 3), (3, 1), (3, 3)}
    assert spots == corners_and_centre | edges | between


def test_multiscale_takes_other_scales(places):
    boxes = list(multiscale_boxes("multiscale:scales=[1,0.5]:max_distort=0:flip=0", places, 60))
    assert {(round(width, 1), round(height, 1)) for width, height, _, _ in boxes} == {(1, 1), (0.5, 0.5)}


def test_multiscale_squashes_to_512_of_448_first(monkeypatch, places):
    sizes = []
    crop = Image.Image.crop
    monkeypatch.setattr(
        Image.Image, "crop", lambda self, box: (sizes.append((self.size, box)), crop(self, box))[1]
    )
    drawn("multiscale:scales=[0.66]", places, 120, CONFIG | {"input_size": [3, 224, 112]})
    assert {size for size, _ in sizes} == {(128, 256)}
    assert {(right - left, lower - upper) for _, (left, upper, right, lower) in sizes} == {(84, 168)}
    assert {(left, upper) for _, (left, upper, _, _) in sizes} == {
        (44 * i // 4, 88 * j // 4) for i in range(5) for j in range(5) if (i + j) % 2 == 0
    }


# --- randaugment ---------------------------------------------------------------------------------------------


def test_cutout_covers_a_rectangle_of_half_the_sides():
    cut = drawn("randaugment:num_ops=0:fill=gray", Image.new("RGB", (200, 100), "white"), 200) < 0.9
    assert (cut == cut[:, :1]).all(), "all channels"
    cut = cut[:, 0]
    heights, widths = cut.any(2).sum(1), cut.any(1).sum(1)
    assert (cut.sum((1, 2)) == heights * widths).all(), "rectangles"
    # A centre anywhere in the image: between a quarter and all of it lies inside.
    assert HEIGHT // 4 <= heights.min() < HEIGHT // 4 + 4
    assert WIDTH // 4 <= widths.min() < WIDTH // 4 + 4
    assert heights.max() == HEIGHT // 2
    assert widths.max() == WIDTH // 2
    assert cut.float().mean(0).min() > 0.02, "no place is spared"
    # E of a side's share within the image: 1/2 - 2 * (1/4)^2 / 2 = 7/16.
    assert abs(cut.float().mean() - (7 / 16) ** 2) < 0.02


def test_cutout_has_one_random_colour_or_gray_or_none():
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    gray = drawn("randaugment:num_ops=0:fill=gray", image, 20) * 255
    assert set(gray.round().flatten().tolist()) == {128, 255}
    colours = set()
    for result in drawn("randaugment:num_ops=0", image, 20) * 255:
        (colour,) = {tuple(c) for c in result.flatten(1).T.round().int().tolist()} - {(255, 255, 255)}
        colours.add(colour)
    assert len(colours) == 20
    assert (drawn("randaugment:num_ops=0:cutout=0", image, 20) > 0.999).all()


def test_randaugment_does_as_much_as_asked(places):
    plain = drawn("none", places)

    def change(spec):
        return float((drawn(f"randaugment:cutout=0:{spec}", places, 40) - plain).abs().mean())

    assert change("num_ops=0") == 0
    assert 0.01 < change("num_ops=1") < change("num_ops=4")
    assert change("magnitude=3") < change("magnitude=27")


# --- affine --------------------------------------------------------------------------------------------------


def test_affine_turns_shifts_and_scales_within_its_bounds():
    size, config = 101, CONFIG | {"input_size": [3, 101, 101]}
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[46:55, 46:55, 1] = 255  # a square in the centre
    pixels[49:52, 36:65, 0] = 255  # a bar across it
    results = drawn("affine", Image.fromarray(pixels), 300, config)
    ys, xs = torch.meshgrid(torch.arange(size) - 50.0, torch.arange(size) - 50.0, indexing="ij")
    areas, angles, shifts = [], [], []
    for red, green, _ in results:
        areas.append(float(green.sum()) / 81)
        bar = red / red.sum()
        x, y = (bar * xs).sum(), (bar * ys).sum()
        shifts += [float(x), float(y)]
        spread = [
            (bar * a * b).sum() for a, b in (((xs - x), (xs - x)), ((xs - x), (ys - y)), ((ys - y), (ys - y)))
        ]
        angles.append(float(torch.rad2deg(torch.atan2(2 * spread[1], spread[0] - spread[2]) / 2)))
    scales = np.sqrt(areas)
    for values, low, high in ((scales, 0.5, 1.5), (angles, -20, 20), (shifts, -20.2, 20.2)):
        slack = 0.06 * (high - low)
        assert low - slack / 2 < min(values) < low + slack
        assert high - slack < max(values) < high + slack / 2


# --- errors and extension ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("multiscle", "unknown augmentation 'multiscle'. Did you mean multiscale?"),
        ("crop:scal=[0.5,1]", "unknown option of the crop augmentation 'scal'. Did you mean scale?"),
        ("crop:scale=[1,0.5]", "option of the crop augmentation: scale must be two shares of the area"),
        ("crop:scale=much", "option of the crop augmentation: scale: expected tuple, not 'much'"),
        ("crop:flip=2", "option of the crop augmentation: flip must be a probability, not 2.0"),
        ("crop:flip", "expected option=value after each colon, not 'flip'"),
        ("none:flip=1", "the none augmentation has no options, got 'flip'"),
        ("multiscale:scales=[1,0]", "scales must be shares of the image's sides, not (1.0, 0.0)"),
        ("multiscale:scales=[]", "scales must be shares of the image's sides, not ()"),
        ("multiscale:max_distort=-1", "max_distort must be a number of places, 0 or more, not -1"),
        ("randaugment:fill=grey", "unknown fill 'grey'. Did you mean gray?"),
        ("randaugment:magnitude=31", "magnitude must be within 0 and 30, not 31"),
        ("randaugment:cutout=1.5", "cutout must be a share of the image's sides, not 1.5"),
        ("randaugment:num_ops=-1", "num_ops must be a number of operations, 0 or more, not -1"),
        ("affine:degrees=-5", "degrees must be within 0 and 180, not -5.0"),
        ("affine:translate=3", "translate must be a share of the image's sides, not 3.0"),
        ("affine:scale=[0,1]", "scale must be two sizes, the smaller one first, not (0.0, 1.0)"),
    ],
)
def test_what_is_wrong_is_said_before_there_is_a_backbone(spec, message):
    with pytest.raises(InputError) as caught:
        check_augmentation(spec)
    assert message in str(caught.value)


def test_a_users_own_has_its_options(monkeypatch):
    def shade(data_config, *, brightness: float = 1.0):
        """Everything of one brightness."""
        return lambda image: torch.full(data_config["input_size"], brightness)

    monkeypatch.setitem(AUGMENTATIONS, "shade", shade)
    check_augmentation("shade")
    result = build_augmentation("shade:brightness=0.5", CONFIG)(Image.new("RGB", (5, 5)))
    assert torch.equal(result, torch.full((3, HEIGHT, WIDTH), 0.5))
