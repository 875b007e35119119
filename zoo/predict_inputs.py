"""What prediction takes besides the model: images in any form, labels that are known already, thresholds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from zoo.data.images import read_image, to_rgb
from zoo.lookup import InputError, lookup, unknown

Known: TypeAlias = Mapping[str, bool | int] | Sequence[Mapping[str, bool | int]]
# Numbers all of them, which label_thresholds checks.
Thresholds: TypeAlias = int | float | Mapping[str, Any] | Sequence[Any] | np.ndarray | Tensor

THRESHOLD = 0.5  # where nothing else is said


def image_list(images: Any) -> list[Any]:
    """One image or several as a list; a tensor or an array of four dimensions is several.

    Raises:
        InputError: none of the forms that :meth:`zoo.MultiLabelClassifier.predict` takes.
    """
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, Tensor | np.ndarray) and images.ndim <= 3:
        return [images]
    if isinstance(images, Iterable):
        return list(images)
    raise unknown(
        "kind of image", type(images).__name__, ("path", "PIL image", "uint8 array", "float tensor")
    )


def image_tensor(image: Any, transform: Callable[[Image.Image], Tensor]) -> Float[Tensor, "3 H W"]:
    """An image as the backbone takes it; a float tensor is that already.

    Args:
        image: a path, a PIL image, a uint8 array (H, W, 3) or a float tensor (3, H, W).
        transform: resizes and normalises.

    Raises:
        InputError: another type or shape, or an image that does not decode.
    """
    if isinstance(image, Tensor) and image.is_floating_point() and image.dim() == 3 and image.size(0) == 3:
        return image
    if isinstance(image, str | Path):
        return transform(read_image(image))
    if isinstance(image, Image.Image):
        return transform(to_rgb(image))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return transform(Image.fromarray(image))
    shape = getattr(image, "shape", None)
    what = type(image).__name__ if shape is None else f"{type(image).__name__} {image.dtype} {tuple(shape)}"
    raise InputError(
        f"cannot read an image from {what}: expected a path, a PIL image, a uint8 array (H, W, 3) "
        "or a normalised float tensor (3, H, W)"
    )


def known_labels(known: Known, label_names: Sequence[str], num_images: int) -> Int[Tensor, "N L"]:
    """What is known of the labels of N images: 1 present, 0 absent, -1 not known.

    Args:
        known: label to presence, the same for all images or one for each.
        label_names: the L labels.
        num_images: N.

    Raises:
        InputError: an unknown label, another value than True or False, another number of images.
    """
    each = [known] * num_images if isinstance(known, Mapping) else list(known)
    if len(each) != num_images:
        raise InputError(f"known labels are given for {len(each)} images, but there are {num_images}")
    column = {name: i for i, name in enumerate(label_names)}
    facts = torch.full((num_images, len(column)), -1)
    for row, labels in zip(facts, each, strict=True):
        for label, present in labels.items():
            if present not in (0, 1):
                raise InputError(f"the known label {label!r} must be True or False, not {present!r}")
            row[lookup("label", label, column)] = int(present)
    return facts


def label_thresholds(thresholds: Thresholds | None, label_names: Sequence[str]) -> Float[Tensor, " L"]:
    """One threshold a label.

    Args:
        thresholds: a number for all labels, L numbers in the labels' order, or label to number, where a label left
            out has 0.5; None is 0.5 for all.
        label_names: the L labels.

    Raises:
        InputError: an unknown label, another number of thresholds, a threshold that is no number in 0..1.
    """
    names = list(label_names)
    numbers: Any = THRESHOLD if thresholds is None else thresholds
    if isinstance(thresholds, Mapping):
        for label in thresholds:
            lookup("label", label, dict.fromkeys(names))
        numbers = [thresholds.get(name, THRESHOLD) for name in names]
    try:
        values = torch.as_tensor(numbers, dtype=torch.float32, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"thresholds must be numbers in 0..1, not {thresholds!r}") from error
    if values.dim() and values.shape != (len(names),):
        raise InputError(
            f"thresholds must be one number or one for each of the {len(names)} labels, "
            f"not of shape {tuple(values.shape)}"
        )
    limits = values.expand(len(names)).clone()
    if (wrong := ~((limits >= 0) & (limits <= 1))).any():  # NaN is neither
        i = int(wrong.nonzero()[0])
        whose = f" of {names[i]!r}" if values.dim() else ""
        raise InputError(
            f"the threshold{whose} must lie in 0..1, not {limits[i]:g}: it is compared with sigmoid(logits)"
        )
    return limits
