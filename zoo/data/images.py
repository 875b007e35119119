"""Any picture file to an upright 8-bit RGB image, or an error that says whose fault it is."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from zoo.lookup import InputError

# Of damaged EXIF blocks, which viewers pass over too, and of half the size that is refused.
warnings.filterwarnings("ignore", module=r"PIL\.")

STORAGE = "unreadable storage"
# Errors of the operating system that are the file's own. Every other one is the machine's: EIO, ESTALE, EMFILE, ...
FILE_ERRORS = {
    errno.EACCES: ("permission denied", "permission denied to read it"),
    errno.EPERM: ("permission denied", "permission denied to read it"),
    errno.EISDIR: ("a folder", "this is a folder, not an image file"),
    errno.ELOOP: ("missing", "this link leads back to itself"),
    errno.ENAMETOOLONG: ("missing", "the name is longer than the file system takes"),
    errno.ENOENT: ("missing", "no such image file"),
    errno.ENOTDIR: ("missing", "no such image file"),
}


class ImageError(InputError):
    """One image file cannot be read; others may well be.

    Attributes:
        kind: missing, permission denied, a folder, empty, not an image, truncated, too large, unsupported or damaged.
    """

    def __init__(self, message: str, kind: str = "damaged") -> None:
        super().__init__(message)
        self.kind = kind


class StorageError(InputError):
    """What holds the images cannot be read: nothing is known about the image itself."""

    kind = STORAGE


def read_image(path: str | Path) -> Image.Image:
    """Reads a picture as the viewer would show it.

    Args:
        path: a file in any format that Pillow decodes. Of several frames or pages the first is read.

    Returns:
        An RGB image: turned by its EXIF orientation, 16 bits reduced to 8, transparency over white. Colour profiles
        are not applied, and a PNG with 16 bits is opaque unless it has an alpha channel.

    Raises:
        ImageError: the file is not there, does not decode, or is too large; the message names it and says why.
        StorageError: the disk or the network file system that holds it failed, or is gone.
    """
    with opened_image(path) as image:
        return _viewed(image)


@contextmanager
def opened_image(path: str | Path) -> Iterator[Image.Image]:
    """Opens an image, not decoded yet; what goes wrong until it is closed is raised as by :func:`read_image`.

    At most ``2 * PIL.Image.MAX_IMAGE_PIXELS`` are taken, 179 million, as the header has them: Pillow's own limit,
    with which a worker needs 0.7 GB for the largest image. Nothing is decoded of what is refused.
    """
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # On a damaged file the decoders raise whatever the damage leads to.
        if isinstance(error, OSError) and error.errno is not None:
            raise _system_error(Path(path), error) from error
        raise _damage(Path(path), error) from error


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """The image files among files and folders; folders are searched with all that is in them, sorted by path.

    Raises:
        InputError: a path does not exist, or a folder holds no file with an image's suffix.
    """
    suffixes = Image.registered_extensions()
    found: list[Path] = []
    for path in map(Path, paths):
        if not os.path.exists(path):  # Path.exists raises for a name that is too long
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
    """A copy of the picture, upright and in RGB, whatever its mode.

    Args:
        image: an opened image of any mode but floating point.

    Raises:
        InputError: floating-point pixels, whose range nothing tells.
    """
    viewed = _viewed(image)
    return viewed.copy() if viewed is image else viewed


def _viewed(image: Image.Image) -> Image.Image:
    """As :func:`to_rgb`, but the image itself where nothing is to be done: most photos, and a copy costs time."""
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
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
    return image if image.mode == "RGB" else image.convert("RGB")


def _system_error(path: Path, error: OSError) -> InputError:
    kind, reason = FILE_ERRORS.get(error.errno or 0, (STORAGE, ""))
    if kind == STORAGE:
        return StorageError(f"{path}: {os.strerror(error.errno or 0)}: is the disk still mounted and sound?")
    # Data sets are checked when they are opened. A whole folder that vanishes since then is rarely deleted.
    folder = Path(os.path.realpath(path)).parent  # of what a link leads to
    if error.errno == errno.ENOENT and (state := _state(folder)):
        return StorageError(f"{path}: {reason}; the folder {folder} is {state}: is the disk still mounted?")
    return ImageError(f"{path}: {reason}", kind)


def _state(folder: Path) -> str:
    try:
        with os.scandir(folder) as entries:
            return "" if any(entries) else "empty"
    except FileNotFoundError:
        return "gone"
    except OSError:
        return ""


def _damage(path: Path, error: Exception) -> ImageError:
    reason = str(error) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        size = reason.partition(", could be")[0]  # "Image size (900000000 pixels) exceeds limit of ..."
        return ImageError(f"{path} is too large: {size}. Save it smaller", "too large")
    if isinstance(error, InputError):
        kind = "unsupported"
    elif isinstance(error, UnidentifiedImageError):
        with open(path, "rb") as file:
            begin = file.read(24)
        kind = "not an image" if begin else "empty"
        reason = f"it begins with {str(begin)[1:]}" if begin else "the file is empty"
    else:
        kind = "truncated" if "truncated" in reason.lower() else "damaged"
    return ImageError(f"{path} does not decode as an image: {reason}", kind)
