"""Matplotlib figures as SVG for a page: text stays text, and ink takes the page's text color, light or dark."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK = "#010203"
"""Replaced by the page's text color; nothing else may use it."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with dollar signs is no formula
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "lines.markersize": 5,
}


@dataclass(frozen=True)
class Tile:
    """An image with a few words; `data` is a data URI, empty without an image, `mark` is right or wrong."""

    text: str
    alt: str
    data: str
    mark: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure of the page: an SVG, or rows of tiles under `heads`."""

    key: str
    title: str
    caption: str
    svg: str = ""
    tiles: tuple[tuple[Tile, ...], ...] = ()
    heads: tuple[str, ...] = ()


@contextmanager
def page_style() -> Iterator[None]:
    """Draw for the page: no background, `INK` in place of black."""
    with mpl.rc_context(STYLE):
        yield


def picture(key: str, title: str, caption: str, figure: Figure, alt: str) -> Picture:
    """Return `figure` as an SVG with the text alternative `alt`."""
    text = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": key}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r' id="(?:figure|axes|patch|line2d|text|legend|matplotlib\.axis|xtick|ytick|[A-Z]\w+)_\d+"', "", svg)
    names = f'role="img" aria-labelledby="{key}-title {key}-alt"'
    head = f'<title id="{key}-title">{escape(title)}</title><desc id="{key}-alt">{escape(alt)}</desc>'
    svg = re.sub(r"<svg ([^>]*)>", lambda match: f"<svg {names} {_scalable(match[1])}>{head}", svg, count=1)
    return Picture(key, title, caption, svg)


def _scalable(attributes: str) -> str:
    """Return the attributes of `<svg>` with its size as the maximum, so that narrow windows shrink it."""
    width = re.search(r'\bwidth="([\d.]+)pt"', attributes)
    kept = re.sub(r'\b(?:width|height)="[^"]*"\s*', "", attributes)
    return f'{kept} style="max-width:{float(width[1]) * 4 / 3:.0f}px"' if width else kept
