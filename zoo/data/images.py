"""Any picture file to an upright 8-bit RGB image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from zoo.lookup import InputError


def read_image(path: str | Path) -> Image.Image:
    """Reads a picture as the viewer would show it.

    Args:
        path: a file in any format that Pillow decodes.

    Returns:
        An RGB image: turned by its EXIF orientation, 16 bits reduced to 8, transparency over white.

    Raises:
        InputError: the file does not exist or does not decode; the message names it and says why.
    """
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except Exception as error:  # On a damaged file the decoders raise whatever the damage leads to.
        if isinstance(error, FileNotFoundError):
            raise InputError(f"{path}: no such image file") from error
        raise InputError(f"{path} does not decode as an image: {error or type(error).__name__}") from error


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """The image files among files and folders; folders are searched with all that is in them, sorted by path.

    Raises:
        InputError: a path does not exist, or a folder holds no file with an image's suffix.
    """
    suffixes = Image.registered_extensions()
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path}: no such image file or folder")
        if path.is_file():
            found.append(path)
            continue
        inside = sorted(
            file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file()
        )
        if not inside:
            raise InputError(f"{path}: the folder holds no images")
        found += inside
    return found


def to_rgb(image: Image.Image) -> Image.Image:
    """The same picture, upright and in RGB, whatever its mode.

    Args:
        image: an opened image of any mode but floating point.

    Raises:
        InputError: floating-point pixels, whose range nothing tells.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise InputError("floating-point pixels have no agreed range; save the image with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow clips these at 255, which turns most of the picture white. Its readers bring "I" to 16 bits.
        pixels = np.asarray(image).clip(0, 65535) / 257
        image = Image.fromarray(pixels.round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
