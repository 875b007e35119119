"""One look at an image file: whether it can be read, and what is unusual about it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from PIL import ExifTags, Image

from zoo.data.images import ImageError, StorageError, opened_image, to_rgb

MODES = {
    "1": "grey",
    "L": "grey",
    "LA": "grey",
    "I": "16-bit",  # what Pillow's readers bring to it
    "P": "palette",
    "PA": "palette",
    "CMYK": "CMYK",
}
NARROW = 10  # long to short side


class Look(NamedTuple):
    """What is found: unusual kinds with (width, height) in pixels, upright; or a problem's kind and message."""

    kinds: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)
    problem: tuple[str, str] | None = None


def look_at(path: str | Path) -> Look:
    """Decodes an image, as :func:`zoo.data.images.read_image` does, and notes what it was before."""
    try:
        with opened_image(path) as image:
            kinds = _unusual(image)
            size = to_rgb(image).size
            if _has_more_frames(image):
                kinds.append("animated or of several pages")
    except (ImageError, StorageError) as error:
        return Look(problem=(error.kind, str(error)))
    if max(size) > NARROW * min(size):
        kinds.append(f"narrower than 1:{NARROW}")
    return Look(tuple(kinds), size)


def _unusual(image: Image.Image) -> list[str]:
    """Of an image that is opened but not decoded: decoding forgets the 16 bits."""
    # Pillow's raw modes: "RGB;16B" has 16 bits a channel, "BGR;16" a pixel.
    deep = image.mode.startswith("I;16") or re.search(r"(?<!BGR);16", str(getattr(image, "tile", "")))
    kind = "16-bit" if deep else MODES.get(image.mode)
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    kinds = (kind, turned and "rotated by EXIF", image.has_transparency_data and "transparent")
    return [kind for kind in kinds if kind]


def _has_more_frames(image: Image.Image) -> bool:
    if image.format == "MPO":  # how phones store a photo with its depth map or its preview
        return False
    try:
        return getattr(image, "is_animated", False)
    except Exception:  # A second frame that is damaged is one nevertheless, and the first is read.
        return True
