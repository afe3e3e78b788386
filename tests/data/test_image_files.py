"""Odd image files: read alike by training, prediction and report, or refused by name."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from beans_exp.data.image_files import UnreadableError, read_image
from beans_exp.data.images import resize
from beans_exp.data.pixels import Pixels
from beans_exp.errors import DataError
from beans_exp.models.inference import batches
from beans_exp.schema import CONF
from tests.data.builders import folder_config, load_all
from tests.data.odd_files import (
    AS_GREY,
    AS_PICTURE,
    COLORS,
    GREYS,
    HEIGHT,
    ON_GROUND,
    ON_WHITE,
    PICTURE,
    REFUSED,
    WIDTH,
    encoded,
    palette_with_hole,
    quarters,
    write,
)

LOSS = 12
"""Of a lossy format, in the mean of a quarter."""
READ = {**dict.fromkeys(AS_PICTURE, COLORS), **dict.fromkeys(AS_GREY, GREYS), **dict.fromkeys(ON_GROUND, ON_WHITE)}
MAKE: dict[str, Callable[[], bytes]] = {**AS_PICTURE, **AS_GREY, **ON_GROUND}


@pytest.mark.parametrize("decoder", ["pillow", "tensorflow"])
@pytest.mark.parametrize("name", READ)
def test_odd_files_are_upright_rgb(tmp_path: Path, name: str, decoder: str) -> None:
    if decoder == "tensorflow" and Path(name).suffix != ".jpg":
        pytest.skip("Pillow reads it")
    write(tmp_path, {name: MAKE[name]})
    image = read_image(tmp_path / name, Pixels(decoder=decoder))
    np.testing.assert_allclose(quarters(image), READ[name], atol=LOSS)


@pytest.mark.parametrize("ground", [(255, 255, 255), (10, 20, 30)])
def test_hidden_color_never_shows(tmp_path: Path, ground: tuple[int, int, int]) -> None:
    write(tmp_path, {**ON_GROUND, "palette.png": palette_with_hole})
    read = {name: read_image(tmp_path / name, Pixels(background=ground)) for name in ON_GROUND}
    for image in read.values():
        assert np.array_equal(image, read["black.png"])
        assert np.array_equal(image[0, -1], ground) and np.array_equal(image[0, 0], COLORS[0, 0])
    palette = read_image(tmp_path / "palette.png", Pixels(background=ground))
    assert np.array_equal(palette[0, 0], ground) and np.array_equal(palette[0, -1], COLORS[0, 1])


def test_jpeg_is_decoded_as_tfds_does_where_the_model_was(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    (tmp_path / "x.jpg").write_bytes(encoded(noise, "JPEG", quality=60))
    expected = tf.io.decode_image((tmp_path / "x.jpg").read_bytes(), channels=3).numpy()
    assert np.array_equal(read_image(tmp_path / "x.jpg", Pixels(decoder="tensorflow")), expected)
    assert not np.array_equal(read_image(tmp_path / "x.jpg"), expected), "the decoders differ by rounding"


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_not_understood_is_refused_by_name(tmp_path: Path, name: str) -> None:
    make, reason = REFUSED[name]
    write(tmp_path, {name: make})
    with pytest.raises(UnreadableError, match=reason) as caught:
        read_image(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name} cannot be read (")
    if name == "half.jpg":
        with pytest.raises(UnreadableError, match=r"damaged|Truncated"):
            read_image(tmp_path / name, Pixels(decoder="tensorflow"))


# ---- the whole way: a folder is prepared, the same files are predicted


def folder_of(root: Path, sources: dict[str, bytes]) -> Path:
    """A folder without splits: each file in the class `odd`, ten plain pictures in the class `plain`."""
    for name, content in sources.items():
        (root / "odd").mkdir(parents=True, exist_ok=True)
        (root / "odd" / name).write_bytes(content)
    (root / "plain").mkdir(parents=True)
    for number in range(10):
        (root / "plain" / f"{number}.png").write_bytes(encoded(PICTURE, "PNG"))
    return root


def require_equal_reading(root: Path, refused: set[str]) -> None:
    """Training and report, which share prepared images, see what predict sees; all refused files are in one message."""
    with pytest.raises(DataError) as caught:
        load_all(folder_config(root))
    assert refused <= {
        Path(word).name for word in str(caught.value).replace("(", ";").split(";") for word in [word.strip()]
    }
    data = load_all(folder_config(root, on_error="skip"))
    assert {Path(name).name for name, _ in data.skipped} == refused
    named = [
        (split.names[i], split.images[i])
        for split in (data.train, data.validation, data.test)
        for i in range(len(split))
    ]
    files = [root / name for name, _ in named]
    predicted = np.concatenate([batch.images for batch in batches(files, 8, pytest.fail, data.pixels)])
    assert np.array_equal(predicted, np.stack([image for _, image in named]))


def test_training_and_prediction_read_odd_files_alike(tmp_path: Path) -> None:
    refused = {name: make for name, (make, _) in REFUSED.items() if name != "huge.png"}
    root = folder_of(tmp_path / "leaves", {name: make() for name, make in {**MAKE, **refused}.items()})
    require_equal_reading(root, set(refused))


SHARED = Path(os.environ.get("BEANS_EXP_ODD_IMAGES") or CONF.parent.parent / "shared" / "odd_images").resolve()
SHARED_REFUSED = {"trunc_half.jpg", "zero.jpg", "text.jpg", "heic_named.jpg"}
SHARED_GREY = {"grey.png", "la.png", "grey16.png", "grey16.pgm", "float01.tif", "onebit.png"}
SHARED_ON_GROUND = {"alpha_hidden_magenta.png": ON_WHITE, "alpha_hidden_black.png": ON_WHITE}
WITHOUT_LAST = np.array([[COLORS[0, 0], COLORS[0, 1]], [COLORS[1, 0], (255, 255, 255)]])


@pytest.mark.skipif(not SHARED.is_dir(), reason="BEANS_EXP_ODD_IMAGES names no folder of odd images")
class TestSharedFiles:
    def test_each_file_gives_what_its_table_says(self) -> None:
        expected = SHARED_ON_GROUND | {"palette_transparent.png": WITHOUT_LAST} | dict.fromkeys(SHARED_GREY, GREYS)
        files = [file for file in SHARED.iterdir() if file.suffix != ".md" and file.name not in SHARED_REFUSED]
        assert len(files) == 27
        for file in files:
            np.testing.assert_allclose(
                quarters(read_image(file)), expected.get(file.name, COLORS), atol=LOSS, err_msg=file
            )

    def test_training_and_prediction_read_them_alike(self, tmp_path: Path) -> None:
        files = {file.name: file.read_bytes() for file in SHARED.iterdir() if file.suffix not in (".md", ".pgm")}
        require_equal_reading(folder_of(tmp_path / "leaves", files), SHARED_REFUSED)


# ---- one way from pixels to the model


def test_antialias_averages_where_bilinear_skips_pixels() -> None:
    stripes = np.zeros((80, 80, 3), np.uint8)
    stripes[:, ::2] = 255
    stripes[:, 4::10] = 0
    averaged = resize(stripes, 8, Pixels(resize="antialias"))
    expected = np.rint(tf.image.resize(stripes, (8, 8), antialias=True).numpy()).clip(0, 255)
    assert np.array_equal(averaged, expected.astype(np.uint8))
    assert not np.array_equal(averaged, resize(stripes, 8))


@pytest.mark.parametrize("turned", [False, True])
def test_crop_takes_the_center_and_pad_adds_the_background(turned: bool) -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 10:30] = 200
    image = image.transpose(1, 0, 2) if turned else image
    assert np.array_equal(resize(image, 10, Pixels(fit="crop")), np.full((10, 10, 3), 200, np.uint8))
    padded = resize(image, 40, Pixels(fit="pad", background=(1, 2, 3)))
    padded = padded.transpose(1, 0, 2) if turned else padded
    assert np.array_equal(padded[:10], np.broadcast_to((1, 2, 3), (10, 40, 3)))
    assert np.array_equal(padded[30:], np.broadcast_to((1, 2, 3), (10, 40, 3)))
    assert np.array_equal(padded[10:30], image.transpose(1, 0, 2) if turned else image)


def test_a_thin_image_is_padded_to_at_least_a_pixel() -> None:
    padded = resize(np.zeros((1, 400, 3), np.uint8), 8, Pixels(fit="pad"))
    assert (padded == 0).any() and (padded == 255).any()
