"""Synthetic bean leaf photographs, in place of the TFDS `beans` images where no data set can be downloaded.

A picture is a scene (background, leaf, light, camera) and, on the leaf, the symptoms of its class. Scene and symptoms
come from separate random streams, so only the symptoms distinguish the classes. Lengths are fractions of the picture's
side until `_Pen` turns them into pixels: one seed gives one scene at every size.
"""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from beans_exp.data.leaf_classes import CLASSES, SMALLEST_SIZE

_OVERSAMPLING = 2
_SOFT = 64  # side in pixels of everything that is blurred: drawn small, then enlarged
_BANDS = 4  # angular spots that fit between two side veins, from midrib to margin

_Floats = NDArray[np.float64]
_Plane = NDArray[np.float32]
_Range = tuple[float, float]
_Colour = Sequence[float] | _Floats  # RGB, 0..1


def draw_split(n: int, size: int, seed: int, split: str) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Draw one split, leaf by leaf: the image, uint8 `(size, size, 3)` in 0..255, and its label.

    Each group of three consecutive images holds every class once, in a seeded order, so class counts differ by at most
    one, and a smaller `n` gives the first images of a larger one. Image `i` is seeded by (seed, split, i): splits share
    no image.
    Raises ValueError for a negative `n` or `seed` and for a `size` below 32.
    """
    if n < 0:
        raise ValueError(f"n: at least 0 images, not {n}")
    key = zlib.crc32(split.encode())
    rng = np.random.default_rng((seed, key))
    rounds = np.tile(np.arange(len(CLASSES), dtype=np.int64), (-(-n // len(CLASSES)), 1))
    for index, label in enumerate(rng.permuted(rounds, axis=1).ravel()[:n].tolist()):
        yield draw_leaf(label, size, (seed, key, index)), label


def draw_leaf(label: int, size: int, seed: tuple[int, ...]) -> NDArray[np.uint8]:
    """Draw one leaf of class `CLASSES[label]`: uint8 `(size, size, 3)`, RGB in 0..255; same arguments, same bytes.

    Raises ValueError for an unknown label, a `size` below 32 pixels or a negative number in `seed`.
    """
    if label not in range(len(CLASSES)):
        raise ValueError(f"label: one of 0..{len(CLASSES) - 1} for {', '.join(CLASSES)}, not {label}")
    if size < SMALLEST_SIZE:
        raise ValueError(f"size: at least {SMALLEST_SIZE} pixels, not {size}")
    scene, symptoms, camera = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3))
    canvas = size * _OVERSAMPLING
    leaf = _Leaf(scene)
    picture = _draw_background(scene, canvas)
    blade = _draw_blade(leaf, scene, canvas)
    if label == 0:
        _draw_angular_spots(_Pen(blade), leaf, symptoms)
    elif label == 1:
        _draw_pustules(_Pen(blade), leaf, symptoms)
    _draw_specks(_Pen(blade), scene)
    picture.paste(blade, mask=_cut_out(leaf, scene, canvas))
    return _expose(picture.reduce(_OVERSAMPLING), camera)


class _Leaf:
    """A leaf's shape. Leaf coordinates: `v` where a side vein leaves the midrib (0 stalk, 1 tip), `s` across, -1..1."""

    def __init__(self, rng: Generator) -> None:
        angle = rng.uniform(0, 2 * np.pi)
        self.length = rng.uniform(0.9, 1.25)
        self.along = np.array([np.cos(angle), np.sin(angle)])  # unit vector from stalk to tip
        self.base = 0.5 + rng.uniform(-0.1, 0.1, 2) - 0.48 * self.length * self.along  # the stalk's end
        self.width = self.length * rng.uniform(0.27, 0.4)  # half of it, at the widest place
        self.bend = rng.uniform(-0.12, 0.12)
        self.slant = rng.uniform(0.12, 0.25)  # how far a side vein climbs on its way to the margin
        self.belly = rng.uniform((0.4, 0.7), (0.65, 1.1))  # exponents of the outline at the stalk and at the tip
        self.ripple = rng.uniform((0, 15, 0), (0.05, 40, 6))  # of the margin: height, waves, phase
        count = int(rng.integers(6, 10))
        self.veins = np.linspace(0.07, 0.85, count) + rng.uniform(-0.015, 0.015, count)

    def place(self, v: _Floats, s: _Floats) -> _Floats:
        """Points of the picture, (..., 2), for leaf coordinates that broadcast."""
        t = np.minimum(np.maximum(v + self.slant * np.abs(s), 0), 1)
        a, b = self.belly
        peak = a / (a + b)
        half = self.width * (t / peak) ** a * ((1 - t) / (1 - peak)) ** b
        side = s * half + self.bend * self.length * 4 * t * (1 - t)
        across = self.along[::-1] * (-1, 1)
        points: _Floats = self.base + (t * self.length)[..., None] * self.along + side[..., None] * across
        return points

    def outline(self) -> _Floats:
        t = np.linspace(0, 1, 60)
        height, waves, phase = self.ripple
        s = 1 + height * np.sin(waves * t + phase)
        v = t - self.slant * s
        return np.concatenate([self.place(v, s), self.place(v, -s)[::-1]])


class _Pen:
    """Draws on an RGB image in fractions of its side and colours of 0..1, with transparency."""

    def __init__(self, image: Image.Image) -> None:
        self._draw = ImageDraw.Draw(image, "RGBA")
        self._scale = image.width

    def polygon(self, points: _Floats, colour: _Colour, alpha: float = 1.0) -> None:
        self._draw.polygon((points * self._scale).ravel().tolist(), fill=_bytes(*colour, alpha))

    def line(self, points: _Floats, width: float, colour: _Colour, alpha: float = 1.0) -> None:
        pixels = max(1, round(width * self._scale))
        self._draw.line((points * self._scale).ravel().tolist(), _bytes(*colour, alpha), pixels, "curve")

    def dot(self, centre: _Floats, radius: float, colour: _Colour, alpha: float = 1.0) -> None:
        x, y = centre * self._scale
        r = radius * self._scale
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=_bytes(*colour, alpha))


def _bytes(*parts: float) -> tuple[int, ...]:
    return tuple([int(255 * part) for part in parts])  # Pillow clips


def _pick(rng: Generator, hue: _Range, strength: _Range, value: _Range) -> _Floats:
    """A colour between limits of hue (degrees), saturation and value."""
    return np.array(colorsys.hsv_to_rgb(rng.uniform(*hue) / 360, rng.uniform(*strength), rng.uniform(*value)))


def _count(rng: Generator, few: int, many: int) -> int:
    """A number of symptoms: early infections with few of them are as common as late ones with many."""
    return int(np.exp(rng.uniform(np.log(few), np.log(many))))


def _smooth(rng: Generator, cells: int, side: int) -> _Plane:
    """Noise with `cells` bumps a side, about 0..1, (side, side)."""
    grid = Image.fromarray(rng.random((cells, cells), np.float32))
    return np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC))


def _blob(rng: Generator, centre: _Floats, radius: float) -> _Floats:
    angles = (np.arange(8) + rng.uniform(0, 0.8, 8)) * (np.pi / 4)
    return centre + np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.6, 1.2, (8, 1)) * radius


def _tint(colours: Sequence[_Colour], amount: _Plane, gain: _Plane) -> Image.Image:
    """Blend two colours by `amount` (0..1) and shade them by `gain`, (side, side) each."""
    first, second = np.asarray(colours, np.float32)
    pixels = (first + (second - first) * amount[..., None]) * gain[..., None]
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))


def _draw_background(rng: Generator, canvas: int) -> Image.Image:
    """Soil with pebbles, or leaves out of focus over it; blurred more or less."""
    earth = [_pick(rng, (20, 45), (0.1, 0.45), (0.15, 0.7)) for _ in range(2)]
    ground = _tint(earth, np.clip(_smooth(rng, 6, _SOFT), 0, 1), 0.6 + 0.8 * _smooth(rng, 32, _SOFT))
    pen = _Pen(ground)
    for _ in range(rng.integers(0, 16)):
        pebble = _pick(rng, (10, 60), (0.05, 0.4), (0.15, 0.8))
        pen.polygon(_blob(rng, rng.random(2), rng.uniform(0.01, 0.05)), pebble, 0.7)
    for _ in range(rng.integers(0, 6)):
        far = _Leaf(rng).outline() + rng.uniform(-0.6, 0.6, 2)
        pen.polygon(far, _pick(rng, (65, 140), (0.2, 0.7), (0.1, 0.6)))
    blurred = ground.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 4)))
    return blurred.resize((canvas, canvas), Image.Resampling.BILINEAR)


def _draw_blade(leaf: _Leaf, rng: Generator, canvas: int) -> Image.Image:
    """The leaf's surface, filling the canvas: mottled green that may yellow in patches, and the veins."""
    green = _pick(rng, (72, 132), (0.35, 0.8), (0.3, 0.75))
    old = _pick(rng, (45, 90), (0.4, 0.75), (0.5, 0.85))
    side = canvas // _OVERSAMPLING
    patches = np.clip((_smooth(rng, 4, side) - rng.uniform(0.4, 1.1)) * 1.5, 0, 0.8)
    relief = 0.75 + 0.3 * _smooth(rng, 5, side) + rng.uniform(0.05, 0.2) * (_smooth(rng, 40, side) - 0.3)
    blade = _tint([green, old], patches, relief).resize((canvas, canvas), Image.Resampling.BICUBIC)
    _draw_veins(_Pen(blade), leaf, rng, 0.55 * green + (0.32, 0.38, 0.24))
    return blade


def _draw_veins(pen: _Pen, leaf: _Leaf, rng: Generator, colour: _Colour) -> None:
    strength = rng.uniform(0.35, 0.85)
    sides = np.repeat([-1, 1], len(leaf.veins))[:, None]
    starts = np.tile(leaf.veins, 2)[:, None]
    for rib in leaf.place(starts, sides * np.linspace(0, 1, 8)):
        pen.line(rib + 0.006, 0.006, (0, 0, 0), 0.2)
        pen.line(rib, 0.007, colour, strength)
    rungs = sides * rng.uniform(0.1, 0.95, (len(sides), 2))
    for ends in np.stack([leaf.place(starts, rungs), leaf.place(starts + 0.1, rungs)], 2).reshape(-1, 2, 2):
        pen.line(ends, 0.003, colour, 0.4 * strength)
    midrib = leaf.place(np.linspace(0, 1, 16), np.zeros(16))
    pen.line(midrib + 0.008, 0.014, (0, 0, 0), 0.2)
    pen.line(midrib, 0.014, colour, strength)


def _draw_angular_spots(pen: _Pen, leaf: _Leaf, rng: Generator) -> None:
    """Brown to grey-brown polygons between neighbouring side veins, some with a yellow halo."""
    haloed = rng.uniform(0, 0.5)
    cells = 2 * _BANDS * (len(leaf.veins) - 1)
    for cell in rng.choice(cells, _count(rng, 7, 28), replace=False):
        vein, lane = divmod(int(cell), 2 * _BANDS)
        low, high = leaf.veins[vein : vein + 2]
        centre = (lane // 2 + rng.uniform(0.5, 1)) / (_BANDS + 0.5)
        wide, tall = rng.uniform(0.08, 0.17), rng.uniform(0.7, 1.0)
        v = low + (high - low) * tall * (np.array([0.05, 0.0, 0.5, 1.0, 0.95, 0.6]) + rng.uniform(0, 0.12, 6))
        s = centre + wide * (np.array([-1, 0.8, 1.1, 0.9, -0.7, -1.1]) + rng.uniform(-0.3, 0.3, 6))
        spot = leaf.place(v, np.minimum(s, 0.97) * (-1) ** lane)
        middle = spot.mean(0)
        for growth in (1.7, 1.5, 1.3) if rng.random() < haloed else ():
            pen.polygon(middle + (spot - middle) * growth, (0.85, 0.8, 0.3), 0.2)
        brown = _pick(rng, (22, 42), (0.12, 0.42), (0.2, 0.42))
        pen.polygon(spot, 0.7 * brown, 0.92)
        pen.polygon(middle + (spot - middle) * 0.7, brown, 0.92)


def _draw_pustules(pen: _Pen, leaf: _Leaf, rng: Generator) -> None:
    """Small round orange to rust-brown dots, loosely in groups, some with a pale halo."""
    haloed = rng.uniform(0, 0.6)
    count = _count(rng, 45, 160)
    groups = rng.uniform((0, -0.8), (0.75, 0.8), (int(rng.integers(3, 8)), 2))
    v, s = (rng.choice(groups, count) + rng.normal(0, (0.1, 0.25), (count, 2))).T
    centres = leaf.place(np.clip(v, -0.1, 0.85), np.clip(s, -0.95, 0.95))
    rust = _pick(rng, (16, 30), (0.75, 0.95), (0.6, 0.9))
    for centre, radius in zip(centres, 0.01 + 0.014 * rng.beta(1.5, 3, count), strict=True):
        if rng.random() < haloed:
            pen.dot(centre, radius * 1.8, (0.85, 0.85, 0.5), 0.4)
        shade = rng.uniform(0.8, 1.1)
        pen.dot(centre, radius, rust * shade, 0.95)
        pen.dot(centre, radius * 0.4, rust * shade * 0.6, 0.6)


def _draw_specks(pen: _Pen, rng: Generator) -> None:
    """Dust and crumbs of soil, on leaves of every class: a dark dot alone is no symptom."""
    for _ in range(rng.integers(0, 14)):
        crumb = _pick(rng, (20, 60), (0.0, 0.4), (0.1, 0.8))
        pen.polygon(_blob(rng, rng.random(2), rng.uniform(0.004, 0.014)), crumb, 0.8)


def _cut_out(leaf: _Leaf, rng: Generator, canvas: int) -> Image.Image:
    """Mask of the leaf, with holes eaten by insects."""
    mask = Image.new("L", (canvas, canvas))
    draw = ImageDraw.Draw(mask)
    draw.polygon((leaf.outline() * canvas).ravel().tolist(), fill=255)
    for _ in range(rng.choice([0, 0, 1, 2, 4])):
        hole = _blob(rng, rng.uniform(0.15, 0.85, 2), rng.uniform(0.008, 0.03))
        draw.polygon((hole * canvas).ravel().tolist(), fill=0)
    return mask


def _expose(picture: Image.Image, rng: Generator) -> NDArray[np.uint8]:
    """Photograph the scene: shadow, side light, gloss, light colour, contrast, lens blur and sensor noise."""
    size = picture.width
    sharp = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.006) * size))
    pixels = np.asarray(sharp, np.float32) / np.float32(255)
    shade = 1 - rng.uniform(0, 0.6) * _soft_blobs(rng, int(rng.integers(0, 3)), 0.35, size)
    gloss = rng.uniform(0, 0.5) * _soft_blobs(rng, int(rng.integers(0, 8)), 0.06, size)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    side_light = 1 + rng.uniform(-0.25, 0.25) * ramp + rng.uniform(-0.25, 0.25) * ramp[:, None]
    warmth = rng.uniform(-0.08, 0.08)
    lamp = np.array([1 + warmth, 1 + rng.uniform(-0.05, 0.05), 1 - warmth], np.float32) * rng.uniform(0.8, 1.2)
    lit = pixels * lamp * (shade * side_light)[..., None] + gloss[..., None]
    grey = rng.uniform(0.3, 0.5)
    lit = grey + (lit - grey) * rng.uniform(0.75, 1.2)
    lit += rng.uniform(0.005, 0.025) * rng.standard_normal(lit.shape, np.float32)
    return np.asarray(np.clip(lit, 0, 1) * 255, np.uint8)


def _soft_blobs(rng: Generator, count: int, radius: float, side: int) -> _Plane:
    """Blurred blobs on black, 0..1, (side, side)."""
    plane = Image.new("L", (_SOFT, _SOFT))
    for _ in range(count):
        blob = _blob(rng, rng.random(2), rng.uniform(0.4, 1) * radius)
        ImageDraw.Draw(plane).polygon((blob * _SOFT).ravel().tolist(), fill=255)
    soft = plane.filter(ImageFilter.GaussianBlur(rng.uniform(0.15, 0.4) * radius * _SOFT))
    return np.asarray(soft.resize((side, side), Image.Resampling.BILINEAR), np.float32) / np.float32(255)
