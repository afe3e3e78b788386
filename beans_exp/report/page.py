"""The report as one page and as Markdown, from templates."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from beans_exp.report.columns.classes import MACRO, THREE
from beans_exp.report.columns.views import View
from beans_exp.report.figures.svg import Picture

LONG = 20
"""Lines of a table above which it scrolls in a window of its own."""


@dataclass(frozen=True)
class Section:
    """A part of the page: views of a table and figures, or figures alone."""

    key: str
    title: str
    question: str = ""
    notes: list[str] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    @property
    def is_long(self) -> bool:
        """Whether its figures come first, because its tables are long."""
        return any(len(view.rows) > LONG for view in self.views)


@dataclass(frozen=True)
class Report:
    """The content of the page."""

    title: str
    facts: list[tuple[str, str]]
    summary: list[tuple[str, list[str]]]
    problems: list[str]
    sections: list[Section]
    files: dict[str, str]
    link: str | None = None
    """The address of the runs in a browser."""


def render_page(report: Report) -> str:
    """Return the report as a self-contained HTML document, which loads nothing from elsewhere."""
    downloads = {
        name: f"data:text/csv;base64,{base64.b64encode(text.encode()).decode()}" for name, text in report.files.items()
    }
    return _render("page.html.jinja", report, str, downloads=downloads, columns=_columns(report.sections))


def render_markdown(report: Report) -> str:
    """Return the report's texts and tables as Markdown."""
    return _render("report.md.jinja", report, _without_markup)


def _render(template: str, report: Report, shown: Callable[[str], str], **more: Any) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("beans_exp.report"),
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        finalize=lambda value: shown(value) if type(value) is str else value,  # not markup of the page's own
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _markdown_cell
    environment.filters["keep"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    return environment.get_template(template).render(report=report, **more)


def _columns(sections: Sequence[Section]) -> list[tuple[str, str]]:
    """Return every heading with its meaning, once; the classes share one line."""
    every = (heading for section in sections for view in section.views for heading in view.headings if heading[1])
    meanings: dict[str, str] = {}
    classes: list[str] = []
    for heading, meaning in every:
        if meaning == THREE and heading != MACRO:
            classes = list(dict.fromkeys([*classes, heading]))
        else:
            meanings.setdefault(heading, meaning)
    if classes:
        meanings[", ".join(classes)] = "precision / recall / F1 of the class, mean over seeds"
    return list(meanings.items())


def _without_markup(text: str) -> str:
    """Return `text`, which may be the name of anybody's run, without HTML, links and images in Markdown."""
    return escape(text, quote=False).replace("](", "]\\(")


def _markdown_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
