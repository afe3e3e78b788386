"""How the pixels of an image file become those that a model is given: a choice that a model keeps with it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from beans_exp.schema import DataConfig


@dataclass(frozen=True)
class Pixels:
    """The same in training, prediction and report; the defaults are those of models that say nothing."""

    resize: str = "bilinear"
    """`bilinear` interpolates between four pixels, `antialias` averages all pixels that fall on one."""
    fit: str = "squash"
    """How a rectangle becomes a square: `squash` its sides, `crop` its center, or `pad` it with `background`."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Red, green and blue below transparent pixels and around padded images."""
    decoder: str = "pillow"
    """What decodes JPEG: `pillow`, or `tensorflow` for data sets that TFDS decodes; they differ by rounding."""

    def as_metadata(self) -> dict[str, Any]:
        """Return the choice as plain values, which `from_metadata` reads."""
        return {**asdict(self), "background": list(self.background)}

    def changes(self) -> tuple[object, ...]:
        """Return the values that differ from the defaults, as part of a cache's key; the decoder follows the source."""
        default = PLAIN
        chosen = {name: getattr(self, name) for name in ("resize", "fit", "background")}
        return tuple((name, value) for name, value in chosen.items() if value != getattr(default, name))


PLAIN = Pixels()
"""The choice of models that say nothing."""


def from_config(config: DataConfig, decoder: str) -> Pixels:
    """Return the choice of `config` for images of a source that `decoder` reads."""
    red, green, blue = config.background
    return Pixels(config.resize, config.fit, (red, green, blue), decoder)


def from_metadata(values: Mapping[str, Any]) -> Pixels:
    """Return the choice that a model's metadata describe; what they leave out has its default."""
    known = {item.name: values[item.name] for item in fields(Pixels) if item.name in values}
    if "background" in known:
        known["background"] = tuple(int(value) for value in known["background"])
    return Pixels(**known)
