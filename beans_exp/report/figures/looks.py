"""Colors, markers and dashes: a configuration looks the same in every figure of a page."""

from collections.abc import Hashable
from dataclasses import dataclass, field

COLOURS = (
    "#3d87c9", "#d97b29", "#3f9e5f", "#c7568f", "#8b70d6", "#a8922b",
    "#d0514f", "#6fa12e", "#37a0a8", "#9a6b50", "#7c8794", "#b565c9",
)  # fmt: skip
"""Visible on white and on black."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
DASHES = ("-", "--", "-.", ":")
NEUTRAL = "#808080"
"""For everything but configurations."""


@dataclass(frozen=True)
class Look:
    """The appearance of a configuration: distinguishable with and without color."""

    colour: str
    marker: str
    dashes: str


@dataclass
class Palette:
    """The looks of a report's configurations, given out in the order of their first use."""

    given: dict[Hashable, Look] = field(default_factory=dict)

    def look(self, key: Hashable) -> Look:
        """Return the look of the configuration `key`, the same at every call."""
        if key not in self.given:
            self.given[key] = nth_look(len(self.given))
        return self.given[key]


def nth_look(number: int) -> Look:
    """Return a look that differs from all earlier ones: by marker and dashes where the colors repeat."""
    turn, place = divmod(number, len(COLOURS))
    return Look(COLOURS[place], MARKERS[(place + turn) % len(MARKERS)], DASHES[turn % len(DASHES)])
