from __future__ import annotations

import errno
import io
import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from zoo.data.images import STORAGE, ImageError, StorageError, find_images, read_image, to_rgb
from zoo.lookup import InputError


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (8, 4), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    image.save(tmp_path / "turned.png", exif=exif)
    upright = read_image(tmp_path / "turned.png")
    assert upright.size == (4, 8)
    assert upright.getpixel((3, 0)) == (255, 255, 255)
    assert to_rgb(upright).size == (4, 8), "a second pass must not turn it again"


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_keep_their_range(tmp_path, suffix):
    pixels = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / f"deep.{suffix}")
    image = np.asarray(read_image(tmp_path / f"deep.{suffix}"))
    np.testing.assert_array_equal(image[0, :, 0], [0, 1, 1, 128, 255])
    assert image.shape == (1, 5, 3)


def test_big_endian_and_32_bit_integer_modes():
    pixels = np.array([[0, 32768, 65535]])
    big_endian = Image.frombytes("I;16B", (3, 1), pixels.astype(">u2").tobytes())
    for image in (big_endian, Image.fromarray(pixels.astype(np.int32))):
        np.testing.assert_array_equal(np.asarray(to_rgb(image))[0, :, 1], [0, 128, 255])


def test_alpha_lies_over_white(tmp_path):
    image = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((0, 128, 255)):
        image.putpixel((x, 0), (200, 0, 0, alpha))
    image.save(tmp_path / "alpha.png")
    rgb = np.asarray(read_image(tmp_path / "alpha.png")).astype(int)[0]
    weight = np.array([0, 128, 255])[:, None] / 255
    np.testing.assert_allclose(rgb, weight * [200, 0, 0] + (1 - weight) * 255, atol=1)


def test_transparent_palette_and_colour_key(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putdata([0, 1])
    palette.save(tmp_path / "palette.png", transparency=0)
    image = read_image(tmp_path / "palette.png")
    assert [image.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (10, 20, 30)]
    palette.save(tmp_path / "opaque.png")
    assert read_image(tmp_path / "opaque.png").getpixel((0, 0)) == (0, 0, 0)
    grey = Image.new("L", (1, 1), 7)
    grey.save(tmp_path / "key.png", transparency=7)
    assert read_image(tmp_path / "key.png").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBX", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_mode_becomes_rgb(mode):
    assert to_rgb(Image.new(mode, (5, 3))).mode == "RGB"


def test_grey_is_the_same_in_each_channel():
    assert to_rgb(Image.new("L", (1, 1), 99)).getpixel((0, 0)) == (99, 99, 99)


def test_floating_point_is_refused(tmp_path):
    Image.new("F", (2, 2), 0.5).save(tmp_path / "float.tif")
    with pytest.raises(InputError, match=r"float\.tif does not decode.*floating-point pixels"):
        read_image(tmp_path / "float.tif")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif"])
def test_a_damaged_file_is_named(tmp_path, suffix):
    path = tmp_path / f"whole.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for length in (0, 3, 20, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=rf"whole\.{suffix} does not decode as an image: .+"):
            read_image(path)


def test_text_and_missing_files(tmp_path):
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    with pytest.raises(
        InputError, match=r"page.jpg does not decode as an image: it begins with '<html>404</html>'"
    ):
        read_image(tmp_path / "page.jpg")
    with pytest.raises(InputError, match=r"gone.jpg: no such image file"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(InputError, match="this is a folder, not an image file"):
        read_image(tmp_path)


def test_find_images(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "empty").mkdir()
    for name in ("b.JPG", "a.png", "deep/c.webp", "notes.txt"):
        (tmp_path / name).touch()
    found = [tmp_path / "a.png", tmp_path / "b.JPG", tmp_path / "deep" / "c.webp"]
    assert find_images([str(tmp_path)]) == found
    assert find_images([tmp_path / "notes.txt", tmp_path / "deep"]) == [tmp_path / "notes.txt", found[2]]
    with pytest.raises(InputError, match="holds no images"):
        find_images([tmp_path / "empty"])
    with pytest.raises(InputError, match="no such image file or folder"):
        find_images([tmp_path / "gone"])


# --- images of real life -----------------------------------------------------------------------------------


def kind_of(path: Path) -> str:
    with pytest.raises((ImageError, StorageError)) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value.kind


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "webp", "tif"])
def test_every_orientation(tmp_path, orientation, suffix):
    """The four corners as EXIF 2.3, tag 0x0112, places row 0 and column 0."""
    red, green, blue, white = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    stored = Image.new("RGB", (2, 2))
    stored.putdata([red, green, blue, white])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = stored.resize((64, 32), Image.Resampling.NEAREST)  # no block of a codec has two colours
    stored.save(tmp_path / f"a.{suffix}", exif=exif, quality=100)
    image = read_image(tmp_path / f"a.{suffix}")
    width, height = image.size
    assert (width, height) == ((64, 32) if orientation <= 4 else (32, 64))
    corners = [(x, y) for y in (8, height - 8) for x in (8, width - 8)]
    wanted = {
        1: [red, green, blue, white],
        2: [green, red, white, blue],
        3: [white, blue, green, red],
        4: [blue, white, red, green],
        5: [red, blue, green, white],
        6: [blue, red, white, green],
        7: [white, green, blue, red],
        8: [green, white, red, blue],
    }
    np.testing.assert_allclose([image.getpixel(xy) for xy in corners], wanted[orientation], atol=12)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # pytest undoes what the module ignores
@pytest.mark.parametrize(
    "block", [b"no TIFF header at all", b"II*\0\x08\0\0\0\x05\0\x12\x01", b"II*\0\xff\xff\xff\xff"]
)
def test_a_damaged_exif_block_does_not_matter(tmp_path, block):
    Image.new("RGB", (8, 8), (0, 200, 0)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + block, quality=100)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg").getpixel((4, 4)), (0, 200, 0), atol=3)


@pytest.mark.parametrize("marked", [True, False])
def test_cmyk(tmp_path, marked):
    """JPEGs hold CMYK inverted, with Adobe's marker and, as Pillow has it, without."""
    file = io.BytesIO()
    Image.new("CMYK", (16, 16), (255, 0, 0, 51)).save(file, "jpeg", quality=100)
    data = file.getvalue()
    at = data.index(b"Adobe") - 4
    length = struct.unpack(">H", data[at + 2 : at + 4])[0] + 2
    (tmp_path / "a.jpg").write_bytes(data if marked else data[:at] + data[at + length :])
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg").getpixel((8, 8)), (0, 204, 204), atol=2)
    Image.new("CMYK", (4, 4), (255, 0, 0, 51)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif").getpixel((1, 1)) == (0, 204, 204)


def png(width: int, height: int, depth: int, colours: int, rows: bytes) -> bytes:
    """A PNG of the specification's parts, for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    written = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


@pytest.mark.parametrize(
    ("colours", "pixel", "wanted"),
    [
        (0, (32768,), (128, 128, 128)),
        (2, (65535, 32768, 0), (255, 128, 0)),
        (4, (0, 65535), (0, 0, 0)),
        (4, (0, 0), (255, 255, 255)),
        (6, (65535, 0, 0, 0), (255, 255, 255)),
        (6, (65535, 32768, 0, 65535), (255, 128, 0)),
    ],
    ids=["grey", "RGB", "grey + alpha", "grey, transparent", "RGBA, transparent", "RGBA"],
)
def test_sixteen_bits_in_every_kind_of_png(tmp_path, colours, pixel, wanted):
    (tmp_path / "a.png").write_bytes(png(1, 1, 16, colours, struct.pack(f">B{len(pixel)}H", 0, *pixel)))
    np.testing.assert_allclose(read_image(tmp_path / "a.png").getpixel((0, 0)), wanted, atol=1)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_first_frame_is_read(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        assert image.n_frames == 3
    assert read_image(tmp_path / f"a.{suffix}").getpixel((4, 4)) == (200, 0, 0)


def test_names_of_every_length_and_alphabet(tmp_path):
    deep = tmp_path.joinpath(*["d" * 200] * 3)
    deep.mkdir(parents=True)
    for name in ("Stra\u00dfe \U0001f415 \u5199\u771f.png", "a b\nc%20#.png", "n" * 251 + ".png"):
        Image.new("RGB", (1, 1), (1, 2, 3)).save(deep / name)
        assert len(os.fsencode(deep / name)) > 600
        assert read_image(deep / name).getpixel((0, 0)) == (1, 2, 3)
    with pytest.raises(ImageError, match=r"\.png: the name is longer than the file system takes"):
        read_image(tmp_path / ("n" * 300 + ".png"))
    with pytest.raises(InputError, match="no such image file or folder"):
        find_images([tmp_path / ("n" * 300 + ".png")])


BOMB = """
import resource, sys, time
from zoo.data.images import ImageError, read_image

start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        read_image(path)
    except ImageError as error:
        print(error.kind, error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.monotonic() - start)
"""


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    size = (30_000, 30_000)
    (tmp_path / "a.png").write_bytes(png(*size, 1, 0, bytes(30_000 * 3_751)))
    small = io.BytesIO()
    Image.new("L", (8, 8)).save(small, "jpeg")
    header = small.getvalue().replace(struct.pack(">HH", 8, 8), struct.pack(">HH", *size), 1)
    (tmp_path / "a.jpg").write_bytes(header)
    # In a process of its own: the most memory that one had never falls.
    command = [sys.executable, "-c", BOMB, tmp_path / "a.png", tmp_path / "a.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    *messages, last = done.stdout.splitlines()
    assert len(messages) == 2
    for name, message in zip(("a.png", "a.jpg"), messages, strict=True):
        assert message == (
            f"too large {tmp_path / name} is too large: Image size (900000000 pixels) exceeds limit of "
            "178956970 pixels. Save it smaller"
        )
    grown, seconds = map(float, last.split())
    assert grown < 50_000, "KiB on Linux; decoded, it would be 900,000"
    assert seconds < 2


def test_kinds_of_damage(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    contents = {"truncated": whole[: len(whole) // 2], "not an image": b"hello", "empty": b""}
    for kind, content in contents.items():
        (tmp_path / "a.jpg").write_bytes(content)
        assert kind_of(tmp_path / "a.jpg") == kind
    Image.new("F", (2, 2)).save(tmp_path / "a.tif")
    assert kind_of(tmp_path / "a.tif") == "unsupported"
    assert kind_of(tmp_path) == "a folder"
    assert kind_of(tmp_path / "gone.jpg") == "missing"
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert kind_of(tmp_path / "loop.jpg") == "missing"
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "empty")))
    assert (str(error), error.kind) == ("a.jpg", "empty"), "as a worker process sends it"


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("RGB", (1, 1)).save(path)
    path.chmod(0)
    if os.geteuid() == 0:  # to whom nothing is forbidden

        def refuse(*_):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr(Image, "open", refuse)
    assert kind_of(path) == "permission denied"


def test_lost_storage_is_no_damage_of_the_image(tmp_path):
    folder = tmp_path / "disk"
    with pytest.raises(
        StorageError,
        match=r"a\.jpg: no such image file; the folder .*disk is gone: is the disk still mounted\?",
    ):
        read_image(folder / "a.jpg")
    folder.mkdir()
    with pytest.raises(StorageError, match="disk is empty: is the disk still mounted"):
        read_image(folder / "a.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
    with pytest.raises(StorageError, match="elsewhere is gone"):
        read_image(tmp_path / "link.jpg")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/mem, which answers with EIO, is Linux's")
def test_an_error_of_the_device(tmp_path):
    (tmp_path / "a.jpg").symlink_to("/proc/self/mem")
    with pytest.raises(
        StorageError, match=r"a\.jpg: Input/output error: is the disk still mounted and sound"
    ):
        read_image(tmp_path / "a.jpg")
    assert kind_of(tmp_path / "a.jpg") == STORAGE


def test_a_plain_photo_is_what_pillow_reads(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as plain:
        np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), plain.convert("RGB"))
    image = Image.fromarray(noise)
    to_rgb(image).paste("black", (0, 0, 53, 37))
    np.testing.assert_array_equal(image, noise, "to_rgb gives a copy")


def test_photos_as_they_are_found():
    """Some of a folder of photos, against Pillow's own steps."""
    if not os.environ.get("ZOO_DATA"):
        pytest.skip("ZOO_DATA names no folder of photos")
    files = find_images([os.environ["ZOO_DATA"]])
    for file in files[:: len(files) // 50 + 1]:
        with Image.open(file) as image:
            np.testing.assert_array_equal(read_image(file), ImageOps.exif_transpose(image).convert("RGB"))
