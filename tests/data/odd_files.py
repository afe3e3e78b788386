"""Odd image files, drawn with Pillow, and what each must give; the picture has quarters of four colors."""

import io
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 60, 40
COLORS = np.array([[(200, 30, 30), (30, 200, 30)], [(30, 30, 200), (230, 230, 230)]], np.uint8)
PICTURE = COLORS.repeat(HEIGHT // 2, axis=0).repeat(WIDTH // 2, axis=1)
GREY = np.asarray(Image.fromarray(PICTURE).convert("L"))
GREYS = np.repeat(GREY[[[0, 0], [-1, -1]], [[0, -1], [0, -1]]][..., None], 3, axis=2)
RIGHT_HALF = (np.arange(WIDTH) >= WIDTH // 2)[None].repeat(HEIGHT, axis=0)
ON_WHITE = np.where([[[False], [True]]], 255, COLORS)
"""The right half white."""


def quarters(image: np.ndarray) -> np.ndarray:
    """The mean color of each quarter of an upright picture, (2, 2, 3)."""
    assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8
    return image.reshape(2, HEIGHT // 2, 2, WIDTH // 2, 3).mean((1, 3))


def encoded(pixels: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, kind, **options)
    return stream.getvalue()


def oriented(orientation: int, kind: str) -> bytes:
    """The picture stored turned or mirrored, with the tag that turns it upright."""
    undo = {2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2)}
    undo |= {6: np.rot90, 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: lambda a: np.rot90(a, -1)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind == "JPEG" else {}
    return encoded(np.ascontiguousarray(undo[orientation](PICTURE)), kind, exif=exif, **options)


def broken_tags(value: int) -> bytes:
    """A JPEG with orientation 6 beside a resolution whose tag points to the offset `value`."""
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x011A, 5, 1, value)
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + struct.pack("<I", 0)
    return encoded(np.rot90(PICTURE).copy(), "JPEG", quality=95, exif=block)


def alpha(hidden: tuple[int, int, int], kind: str = "PNG") -> bytes:
    """The picture, transparent in its right half, where it hides a color."""
    shown = np.where(RIGHT_HALF[..., None], np.array(hidden, np.uint8), PICTURE)
    opacity = np.where(RIGHT_HALF, 0, 255).astype(np.uint8)
    return encoded(np.dstack([shown, opacity]), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))


def palette_with_hole() -> bytes:
    """A palette whose first entry, red, is transparent."""
    image = Image.fromarray(PICTURE).quantize(4)
    red = int(np.asarray(image)[0, 0])
    return encoded(image, "PNG", transparency=red)


def frames(kind: str) -> bytes:
    second = Image.fromarray(255 - PICTURE)
    first = Image.fromarray(PICTURE)
    if kind == "GIF":
        first, second = first.quantize(8), second.quantize(8)
    return encoded(first, kind, save_all=True, append_images=[second])


def cmyk() -> bytes:
    return encoded(Image.fromarray(PICTURE).convert("CMYK"), "JPEG", quality=95)


def inverted_tiff() -> bytes:
    """A TIFF of 16-bit greys in which 0 is white."""
    return encoded(65535 - GREY.astype(np.uint16) * 257, "TIFF", tiffinfo={262: 0})


AS_PICTURE: dict[str, Callable[[], bytes]] = {
    "plain.jpg": lambda: encoded(PICTURE, "JPEG", quality=95),
    "plain.jfif": lambda: encoded(PICTURE, "JPEG", quality=95),
    "plain.webp": lambda: encoded(PICTURE, "WEBP", lossless=True),
    "plain.bmp": lambda: encoded(PICTURE, "BMP"),
    "plain.TIFF": lambda: encoded(PICTURE, "TIFF"),
    "packed.tif": lambda: encoded(PICTURE, "TIFF", compression="tiff_lzw"),
    "webp_named.jpg": lambda: encoded(PICTURE, "WEBP", lossless=True),
    "png_named.jpg": lambda: encoded(PICTURE, "PNG"),
    "cmyk.jpg": cmyk,
    "palette.gif": lambda: encoded(Image.fromarray(PICTURE).quantize(8), "GIF"),
    "frames.gif": lambda: frames("GIF"),
    "pages.tif": lambda: frames("TIFF"),
    "frames.png": lambda: frames("PNG"),
    "frames.webp": lambda: frames("WEBP"),
    "mpo.jpg": lambda: frames("MPO"),
    **{f"exif{number}.jpg": partial(oriented, number, "JPEG") for number in range(2, 9)},
    "exif6.png": lambda: oriented(6, "PNG"),
    "exif6.webp": lambda: oriented(6, "WEBP"),
    "exif6.tif": lambda: oriented(6, "TIFF"),
    "bad_pointer.jpg": lambda: broken_tags(0x7FFFFFF0),
    "no_pointer.jpg": lambda: broken_tags(0),
}
AS_GREY: dict[str, Callable[[], bytes]] = {
    "grey.png": lambda: encoded(GREY, "PNG"),
    "grey.jpg": lambda: encoded(GREY, "JPEG", quality=95),
    "la.png": lambda: encoded(np.dstack([GREY, np.full_like(GREY, 255)]), "PNG"),
    "grey16.png": lambda: encoded(GREY.astype(np.uint16) * 257, "PNG"),
    "grey16.tif": lambda: encoded(GREY.astype(np.uint16) * 257, "TIFF"),
    "white_is_zero.tif": inverted_tiff,
    "float.tif": lambda: encoded(GREY.astype(np.float32) / 255, "TIFF"),
}
ON_GROUND: dict[str, Callable[[], bytes]] = {
    "magenta.png": lambda: alpha((255, 0, 255)),
    "black.png": lambda: alpha((0, 0, 0)),
    "magenta.webp": lambda: alpha((255, 0, 255), "WEBP"),
    "magenta.tif": lambda: alpha((255, 0, 255), "TIFF"),
}
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "half.jpg": (lambda: encoded(PICTURE, "JPEG")[:400], "Truncated"),
    "half.png": (lambda: encoded(PICTURE, "PNG")[:90], "truncated"),
    "zero.jpg": (lambda: b"", "it is empty"),
    "text.jpg": (lambda: b"no image\n" * 9, "it is not an image"),
    "heic.jpg": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "it is not an image"),
    "int32.tif": (lambda: encoded(GREY.astype(np.int32) << 20, "TIFF"), "32-bit values have no known range"),
    "float255.tif": (lambda: encoded(GREY.astype(np.float32), "TIFF"), "are not in 0 to 1"),
    "nan.tif": (lambda: encoded(np.full((4, 4), np.nan, np.float32), "TIFF"), "are not in 0 to 1"),
    "huge.png": (lambda: encoded(Image.new("1", (13400, 13400)), "PNG"), "more than 178 million"),
}


def write(folder: Path, files: dict[str, Callable[[], bytes]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in files.items():
        (folder / name).write_bytes(make())
