"""Images: every kind of file becomes upright RGB, and resizing is bilinear and rounded."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from beans_exp.data.image_files import read_image
from beans_exp.data.images import resize
from tests.data.builders import noise, save

COLOUR = (200, 100, 50)
HALF_ON_WHITE = (227, 177, 152)
LOSSLESS = {
    "RGB": (Image.new("RGB", (3, 2), COLOUR), COLOUR),
    "RGBA": (Image.new("RGBA", (3, 2), (*COLOUR, 128)), HALF_ON_WHITE),
    "palette": (Image.new("RGB", (3, 2), COLOUR).quantize(4), COLOUR),
    "palette and alpha": (Image.new("RGBA", (3, 2), (*COLOUR, 128)).quantize(4), HALF_ON_WHITE),
    "grey": (Image.new("L", (3, 2), 90), (90, 90, 90)),
    "grey and alpha": (Image.new("LA", (3, 2), (90, 0)), (255, 255, 255)),
    "16 bit grey": (Image.fromarray(np.full((2, 3), 90 * 257, np.uint16)), (90, 90, 90)),
    "black and white": (Image.new("1", (3, 2), 1), (255, 255, 255)),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_every_kind_of_png_becomes_rgb(tmp_path: Path, kind: str) -> None:
    image, colour = LOSSLESS[kind]
    image.save(tmp_path / "x.png")
    pixels = read_image(tmp_path / "x.png")
    assert pixels.shape == (2, 3, 3) and pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.broadcast_to(colour, (2, 3, 3)))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_every_kind_of_jpeg_becomes_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (16, 8), (120, 120, 120)).convert(mode).save(tmp_path / "x.jpg", quality=95)
    pixels = read_image(tmp_path / "x.jpg")
    assert pixels.shape == (8, 16, 3)
    assert np.abs(pixels.astype(int) - 120).max() <= 2


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, lambda a: a), (2, np.fliplr), (3, lambda a: np.rot90(a, 2)), (6, lambda a: np.rot90(a, -1)), (8, np.rot90)],
)
def test_the_exif_orientation_is_applied(tmp_path: Path, orientation: int, upright: Callable) -> None:
    pixels = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "x.png", pixels, exif=exif)
    assert np.array_equal(read_image(tmp_path / "x.png"), upright(pixels))


@pytest.mark.parametrize(("height", "width", "size"), [(13, 17, 8), (5, 4, 9), (8, 20, 8)])
def test_resizing_is_bilinear_and_rounded(height: int, width: int, size: int) -> None:
    image = noise(height, width, 3)
    expected = np.rint(tf.image.resize(image, (size, size), "bilinear").numpy()).astype(np.uint8)
    resized = resize(image, size)
    assert resized.dtype == np.uint8 and np.array_equal(resized, expected)


def test_an_image_of_the_right_size_stays_unchanged() -> None:
    image = noise(8, 8, 3)
    assert np.array_equal(resize(image, 8), image)


def test_resizing_keeps_values_in_bounds() -> None:
    assert resize(np.array([[[-5.0, 254.6, 300.0]]]), 2).tolist() == [[[0, 255, 255]] * 2] * 2
