"""Image files as people have them: every one becomes upright RGB, or is refused by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from beans_exp.data.pixels import PLAIN, Pixels
from beans_exp.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
"""Of image files in a folder, in any case; the content decides how a file is read."""
MOST_PIXELS = 178_956_970
"""Pillow's own limit: half a gigabyte once decoded."""
ORIENTATION = 0x0112
"""The EXIF tag."""
BITS, PHOTOMETRIC = 258, 262
"""TIFF tags: bits of a value, and whether 0 is white."""
NAMED = 200
"""Files in one message; beyond it they are counted."""


class UnreadableError(DataError):
    """A file that is missing, damaged, too large, or not an image that is understood."""

    def __init__(self, file: str, reason: str) -> None:
        self.file = file
        self.reason = reason
        super().__init__(f"{file} cannot be read ({reason}). Fix or remove it")


def read_image(file: Path, pixels: Pixels = PLAIN) -> "np.ndarray":
    """Return the image in `file`, its first page or frame, as uint8 (H, W, 3).

    It is turned upright by its EXIF orientation, and composed on `pixels.background` where it is transparent. Raises
    UnreadableError for a file that is not an image, is damaged or truncated, exceeds `MOST_PIXELS`, or whose range of
    values is unknown.
    """
    import warnings

    import PIL.Image

    warnings.filterwarnings(
        "ignore", module=r"PIL\."
    )  # about tags; a filter for this call alone would not be thread-safe
    PIL.Image.MAX_IMAGE_PIXELS = None  # it warns below its limit; `_require_size` has the same one, without a warning
    try:
        with file.open("rb") as stream, PIL.Image.open(stream) as image:
            _require_size(image)
            if pixels.decoder == "tensorflow" and image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
                return _decoded_by_tensorflow(file, image)
            image.load()
            return _upright(_as_rgb(image, pixels.background), _orientation(image))
    except UnreadableError:
        raise
    except PIL.UnidentifiedImageError as error:
        reason = "it is not an image that Pillow knows" if file.stat().st_size else "it is empty"
        raise UnreadableError(str(file), reason) from error
    except Exception as error:  # Pillow raises many types for files that are damaged or no images
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise UnreadableError(str(file), reason.splitlines()[0][:200]) from error


def _require_size(image: "Image") -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width} x {height} pixels are more than {MOST_PIXELS // 10**6} million. Shrink it")


def _decoded_by_tensorflow(file: Path, image: "Image") -> "np.ndarray":
    """The image as TFDS decodes it."""
    import tensorflow as tf

    orientation = _orientation(image)
    try:
        decoded = tf.io.decode_image(file.read_bytes(), channels=3).numpy()
    except tf.errors.OpError as error:
        raise ValueError("it is damaged or truncated") from error
    return _upright(decoded, orientation)


def _orientation(image: "Image") -> int:
    """The EXIF orientation; 1, upright, where it is missing or unreadable. No other tag matters."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a malformed block of tags raises many types
        return 1


def _upright(array: "np.ndarray", orientation: int) -> "np.ndarray":
    """Return `array` (H, W, 3) turned and mirrored as its EXIF `orientation`, 1 to 8, says."""
    import numpy as np

    if orientation in (5, 6, 7, 8):
        array = array.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _as_rgb(image: "Image", background: tuple[int, int, int]) -> "np.ndarray":
    import numpy as np
    import PIL.Image

    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep_grey(image, background)
    if image.has_transparency_data:
        ground = PIL.Image.new("RGBA", image.size, (*background, 255))
        image = PIL.Image.alpha_composite(ground, image.convert("RGBA"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _deep_grey(image: "Image", background: tuple[int, int, int]) -> "np.ndarray":
    """A grey image of more than 8 bits, scaled by the range of its format; Pillow would clip it to white."""
    import numpy as np

    values = np.asarray(image).astype(np.float64)
    largest = _largest_value(image, values)
    white_is_zero = image.format == "TIFF" and _tag(image, PHOTOMETRIC, 1) == 0
    grey = np.rint((largest - values if white_is_zero else values) * (255 / largest)).astype(np.uint8)
    rgb = np.repeat(grey[..., None], 3, axis=2)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        rgb[values == transparent] = background
    return rgb


def _largest_value(image: "Image", values: Any) -> float:
    """The value of white; raises ValueError where the file does not tell it."""
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 1):
            raise ValueError(f"its floating-point values, {low:g} to {high:g}, are not in 0 to 1. Convert it to 8 bits")
        return 1
    bits = _tag(image, BITS, 16) if image.format == "TIFF" else 16
    if bits > 16 or low < 0 or high >= 2**bits:
        raise ValueError("its 32-bit values have no known range. Convert it to 8 or 16 bits")
    return 2**bits - 1


def _tag(image: "Image", number: int, default: int) -> int:
    """A TIFF tag that is one number, or one for each channel."""
    value = image.tag_v2.get(number, default)  # type: ignore[attr-defined]
    return int(value[0] if isinstance(value, tuple) else value)


def one_message(errors: "list[UnreadableError]") -> DataError:
    """Return the error that names all the files that cannot be read, and the way to leave them out."""
    way_out = "Fix or remove {}, or leave {} out with data.on_error=skip"
    if len(errors) == 1:
        return DataError(f"{errors[0].file} cannot be read ({errors[0].reason}). {way_out.format('it', 'it')}")
    named = "; ".join(f"{error.file} ({error.reason})" for error in errors[:NAMED])
    more = f"; and {len(errors) - NAMED} more" if len(errors) > NAMED else ""
    return DataError(f"{len(errors)} files cannot be read: {named}{more}. {way_out.format('them', 'them')}")
