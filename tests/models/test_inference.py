"""Image files for a model: modes, orientation, batches, folders, and heat maps."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beans_exp.data.images import resize
from beans_exp.models.inference import BATCH_SIZE, batches, image_files, overlay

SIZE = 32


def _picture() -> np.ndarray:
    """A picture of few colours, wider than high, so that a palette holds it and a turn shows."""
    return np.random.default_rng(0).choice(np.array([0, 60, 130, 255], np.uint8), (40, 60, 3))


def _grey(picture: np.ndarray) -> np.ndarray:
    return np.repeat(picture[..., :1], 3, axis=2)


def _hole(picture: np.ndarray) -> np.ndarray:
    """Transparent and opaque pixels, uint8 (H, W)."""
    return np.where(picture[..., 0] > 100, 255, 0).astype(np.uint8)


def _on_white(picture: np.ndarray, shown: np.ndarray) -> np.ndarray:
    return np.where(_hole(picture)[..., None] > 0, shown, 255).astype(np.uint8)


def _cmyk(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(255 - np.dstack([picture, np.full_like(picture[..., 0], 255)]), "CMYK")


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("rgb.png", lambda p: Image.fromarray(p), lambda p: p),
        ("grey.png", lambda p: Image.fromarray(p[..., 0]), _grey),
        ("palette.png", lambda p: Image.fromarray(p).convert("P", palette=Image.Palette.ADAPTIVE), lambda p: p),
        ("rgba.png", lambda p: Image.fromarray(np.dstack([p, _hole(p)])), lambda p: _on_white(p, p)),
        ("deep.png", lambda p: Image.fromarray(p[..., 0].astype(np.uint16) * 257), _grey),
        ("cmyk.tiff", _cmyk, lambda p: p),
        (
            "grey_alpha.png",
            lambda p: Image.fromarray(np.dstack([p[..., 0], _hole(p)])),
            lambda p: _on_white(p, _grey(p)),
        ),
        ("bitmap.png", lambda p: Image.fromarray(p[..., 0] > 100), lambda p: 255 * (_grey(p) > 100).astype(np.uint8)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_image_mode_becomes_rgb(
    name: str, image: Callable[[np.ndarray], Image.Image], expected: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    image(_picture()).save(tmp_path / name)
    (batch,) = batches([tmp_path / name], SIZE, pytest.fail)
    np.testing.assert_array_equal(batch.images, resize(expected(_picture()), SIZE)[None])


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    Image.fromarray(_picture()).save(tmp_path / "turned.png", exif=exif)
    (batch,) = batches([tmp_path / "turned.png"], SIZE, pytest.fail)
    np.testing.assert_array_equal(batch.images[0], resize(np.rot90(_picture(), k=-1).copy(), SIZE))


def test_images_are_read_a_batch_at_a_time(tmp_path: Path) -> None:
    Image.fromarray(_picture()).save(tmp_path / "one.png")
    read: list[int] = []

    def files() -> Iterator[Path]:
        for number in range(2 * BATCH_SIZE + 1):
            read.append(number)
            yield tmp_path / "one.png"

    for number, batch in enumerate(batches(files(), SIZE, pytest.fail), start=1):
        assert len(read) == min(number * BATCH_SIZE, 2 * BATCH_SIZE + 1)
        assert batch.images.shape == (len(batch.files), SIZE, SIZE, 3)
        assert batch.images.dtype == np.uint8
    assert len(read) == 2 * BATCH_SIZE + 1


def test_a_folder_means_the_files_below_it(tmp_path: Path) -> None:
    for name in ("b.png", "a/2.jpg", "a/1.jpg", ".hidden.png", ".git/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert image_files([tmp_path]) == [tmp_path / name for name in ("b.png", "a/1.jpg", "a/2.jpg")]


def test_the_heat_map_is_blended_into_the_image() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    laid_over = overlay(image, np.array([[0, 0.2], [0.8, 1]], np.float32)).astype(int)
    assert laid_over.shape == (2, 2, 3)
    red, blue = laid_over[..., 0], laid_over[..., 2]
    assert (red - blue)[1, 0] > 0 > (red - blue)[0, 1], "hot is red, cold is blue"
    assert laid_over.min() >= 55
