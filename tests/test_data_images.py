from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from zoo.data.images import find_images, read_image, to_rgb
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
    with pytest.raises(InputError, match=r"page.jpg does not decode as an image: cannot identify"):
        read_image(tmp_path / "page.jpg")
    with pytest.raises(InputError, match=r"gone.jpg: no such image file"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(InputError, match="does not decode"):
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
