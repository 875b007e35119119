"""What is done to training images, by name: a PIL image to a normalised tensor, another one at every call.

Every augmentation is made for a backbone's input: its size, its mean and standard deviation, its interpolation. All
of them see the whole image, border included, and draw from torch's generator alone: ``torch.manual_seed`` decides.
A flip is a horizontal one; where a label depends on left and right, ``flip=0``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from zoo.arguments import parse_options, split_options
from zoo.lookup import InputError, lookup, unknown

Augmentation: TypeAlias = Callable[[Image.Image], Float[Tensor, "3 H W"]]


def crop(
    data_config: Mapping[str, Any], *, scale: tuple[float, float] = (0.5, 1.0), flip: float = 0.5
) -> Augmentation:
    """A random part of the image, resized, and flipped at times.

    The "inception crop" of Szegedy et al., CVPR 2015, https://arxiv.org/abs/1409.4842, section 6, with sides that
    are to each other as 3:4 at most.

    Args:
        data_config: of the backbone.
        scale: least and greatest share of the image's area that is kept. ImageNet's usual 0.08 would cut off the
            objects that most labels stand for.
        flip: how often.

    Raises:
        InputError: shares that are none, or the greater one first.
    """
    _require(0 < scale[0] <= scale[1] <= 1, "scale", "two shares of the area, the smaller one first", scale)
    size, interpolation = data_config["input_size"][1:], _interpolation(data_config)
    part = v2.RandomResizedCrop(size, scale=scale, interpolation=interpolation, antialias=True)
    return _augmentation(data_config, part, _flip(flip))


def multiscale(
    data_config: Mapping[str, Any],
    *,
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66, 0.5),
    max_distort: int = 2,
    flip: float = 0.5,
) -> Augmentation:
    """One of a few boxes of the squashed image, resized, and flipped at times: ML-GCN's.

    Corner cropping and scale jittering of Wang et al., Temporal Segment Networks, ECCV 2016,
    https://arxiv.org/abs/1608.00859, section 3.2, as ML-GCN trains (https://arxiv.org/abs/1904.03582): the image is
    squashed to 512/448 of the input size first, and the boxes are at 13 places.

    Args:
        data_config: of the backbone.
        scales: what a box may keep of the height, and of the width.
        max_distort: how many places in ``scales`` may lie between the height's and the width's.
        flip: how often.

    Raises:
        InputError: a scale that is no share, or a negative distance.
    """
    _require(
        bool(scales) and all(0 < s <= 1 for s in scales), "scales", "shares of the image's sides", scales
    )
    _require(max_distort >= 0, "max_distort", "a number of places, 0 or more", max_distort)
    box = partial(_box, scales=scales, max_distort=max_distort)
    return _augmentation(data_config, _squash(data_config, 512 / 448), box, _squash(data_config), _flip(flip))


def randaugment(
    data_config: Mapping[str, Any],
    *,
    cutout: float = 0.5,
    fill: Literal["gray", "random"] = "random",
    num_ops: int = 2,
    magnitude: int = 9,
) -> Augmentation:
    """The image squashed, a rectangle cut out, then operations at random: ASL's, Q2L's, ML-Decoder's.

    Cutout: DeVries & Taylor, https://arxiv.org/abs/1708.04552. RandAugment: Cubuk et al., NeurIPS 2020,
    https://arxiv.org/abs/1909.13719, with torchvision's 14 operations; what those move in from outside is black.
    Like that family's, it does not flip.

    Args:
        data_config: of the backbone.
        cutout: the rectangle's share of both sides, 0 for none. Its centre is anywhere in the image, and what of it
            lies beyond the border cuts nothing out.
        fill: the colour of what is cut out: one drawn for each image, or mid-gray (128).
        num_ops: how many operations, one after the other; each may be drawn again.
        magnitude: how far they go, 0 to 30.

    Raises:
        InputError: a value out of its range.
    """
    _require(0 <= cutout <= 1, "cutout", "a share of the image's sides", cutout)
    _require(num_ops >= 0, "num_ops", "a number of operations, 0 or more", num_ops)
    _require(0 <= magnitude <= 30, "magnitude", "within 0 and 30", magnitude)
    operations = v2.RandAugment(num_ops, magnitude, interpolation=_interpolation(data_config))
    cut_out = partial(_cut_out, share=cutout, fill=fill)
    return _augmentation(data_config, _squash(data_config), cut_out, operations)


def affine(
    data_config: Mapping[str, Any],
    *,
    degrees: float = 20.0,
    translate: float = 0.2,
    scale: tuple[float, float] = (0.5, 1.5),
    flip: float = 0.5,
) -> Augmentation:
    """The image squashed, flipped at times, turned, shifted and scaled: LearnOpenCV's tutorial's.

    "Graph Convolutional Networks: model relations in data", https://learnopencv.com; what is moved in from outside
    is black.

    Args:
        data_config: of the backbone.
        degrees: the largest angle, in both directions.
        translate: the largest shift, as a share of each side, in both directions.
        scale: the least and the greatest size, 1 for the image's own.
        flip: how often.

    Raises:
        InputError: a value out of its range.
    """
    _require(0 <= degrees <= 180, "degrees", "within 0 and 180", degrees)
    _require(0 <= translate <= 1, "translate", "a share of the image's sides", translate)
    _require(0 < scale[0] <= scale[1], "scale", "two sizes, the smaller one first", scale)
    shift, interpolation = (translate, translate), _interpolation(data_config)
    move = v2.RandomAffine(degrees, translate=shift, scale=scale, interpolation=interpolation)
    return _augmentation(data_config, _squash(data_config), _flip(flip), move)


def none(data_config: Mapping[str, Any]) -> Augmentation:
    """The whole image squashed to the input size, as for evaluation."""
    return _augmentation(data_config, _squash(data_config))


# Name -> what makes one for a backbone's data_config. Add yours: AUGMENTATIONS["mine"] = mine; options of it are
# what else its signature takes, and data_config holds input_size (3, H, W), mean, std and interpolation.
AUGMENTATIONS: dict[str, Callable[..., Augmentation]] = {
    "affine": affine,
    "crop": crop,
    "multiscale": multiscale,
    "none": none,
    "randaugment": randaugment,
}


def build_augmentation(spec: str, data_config: Mapping[str, Any]) -> Augmentation:
    """An augmentation by its name: ``build_augmentation("crop:scale=[0.3,1]", backbone.data_config)(image)``.

    Args:
        spec: a key of ``AUGMENTATIONS``, with options after colons or without.
        data_config: :attr:`zoo.backbones.Backbone.data_config`, of which ``input_size`` (3, H, W), ``mean``, ``std``
            and ``interpolation`` count.

    Returns:
        What takes an RGB image to a float32 tensor (3, H, W), normalised.

    Raises:
        InputError: the augmentation or one of its options is unknown, or an option's value is wrong.
    """
    name, given = split_options(spec)
    augmentation = lookup("augmentation", name, AUGMENTATIONS)
    known = [option for option in inspect.signature(augmentation).parameters if option != "data_config"]
    for option in given:
        if not known:
            raise InputError(f"the {name} augmentation has no options, got {option!r}")
        if option not in known:
            raise unknown(f"option of the {name} augmentation", option, known)
    options = parse_options(f"the {name} augmentation", augmentation, given, skip={"data_config"})
    try:
        return augmentation(data_config, **options)
    except InputError as error:
        raise InputError(f"option of the {name} augmentation: {error}") from None


def check_augmentation(spec: str) -> None:
    """Raises what :func:`build_augmentation` would, before there is a backbone.

    Raises:
        InputError: as there.
    """
    build_augmentation(
        spec, {"input_size": (3, 224, 224), "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    )


def _box(image: Image.Image, *, scales: Sequence[float], max_distort: int) -> Image.Image:
    steps = range(len(scales))
    shares = [(scales[i], scales[j]) for i in steps for j in steps if abs(i - j) <= max_distort]
    # In quarters of what the box leaves free, the places of one colour on a chessboard of 5 x 5: the corners, the
    # centre, the middles of the edges, and four between.
    places = [(i / 4, j / 4) for i in range(5) for j in range(5) if (i + j) % 2 == 0]
    share, place = (options[torch.randint(len(options), ())] for options in (shares, places))
    width, height = (max(1, int(side * kept)) for side, kept in zip(image.size, share, strict=True))
    left, upper = int((image.width - width) * place[0]), int((image.height - height) * place[1])
    return image.crop((left, upper, left + width, upper + height))


def _cut_out(image: Image.Image, *, share: float, fill: str) -> Image.Image:
    width, height = (round(side * share) for side in image.size)
    left = int(torch.randint(image.width, ())) - width // 2
    upper = int(torch.randint(image.height, ())) - height // 2
    colour = torch.randint(256, (3,)).tolist() if fill == "random" else [128] * 3
    image = image.copy()
    image.paste(tuple(colour), (left, upper, left + width, upper + height))
    return image


def _augmentation(data_config: Mapping[str, Any], *steps: Callable) -> Augmentation:
    """The steps, on PIL images, then a tensor, normalised as in the backbone's pretraining."""
    to_tensor = (
        v2.PILToTensor(),
        torch.Tensor.contiguous,  # Pillow has the channels last, and every step from here on would be slower
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(data_config["mean"]), list(data_config["std"]), inplace=True),
    )
    return v2.Compose([*steps, *to_tensor])


def _squash(data_config: Mapping[str, Any], ratio: float = 1.0) -> v2.Transform:
    """The whole image to the input size times a ratio, whatever its shape."""
    size = [math.ceil(side * ratio) for side in data_config["input_size"][1:]]
    return v2.Resize(size, interpolation=_interpolation(data_config), antialias=True)


def _flip(share: float) -> v2.Transform:
    _require(0 <= share <= 1, "flip", "a probability", share)
    return v2.RandomHorizontalFlip(share)


def _interpolation(data_config: Mapping[str, Any]) -> InterpolationMode:
    return InterpolationMode(data_config["interpolation"])


def _require(condition: bool, option: str, words: str, value: object) -> None:
    if not condition:
        raise InputError(f"{option} must be {words}, not {value}")
