"""The report as one page and as Markdown, from templates: sections of tables and pictures, summed up in words."""

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from beans_exp.report.cells import points
from beans_exp.report.svg import Picture
from beans_exp.report.tables import Entry, Table
from beans_exp.report.views import THREE, View

LONG = 20
"""Lines of a table above which it scrolls in a window of its own."""
MANY = 8
"""Comparisons of a table above which the summary counts them."""


@dataclass(frozen=True)
class Section:
    """A part of the page: a table from its sides with its pictures, or pictures alone."""

    key: str
    title: str
    question: str = ""
    notes: list[str] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    @property
    def is_long(self) -> bool:
        """Whether its pictures come first: nobody reads so many lines to get to them."""
        return any(len(view.rows) > LONG for view in self.views)


@dataclass(frozen=True)
class Report:
    """Everything that the page says."""

    title: str
    facts: list[tuple[str, str]]
    summary: list[tuple[str, list[str]]]
    problems: list[str]
    sections: list[Section]
    files: dict[str, str]
    link: str | None = None
    """Where the runs are seen in a browser."""


def summarise(tables: Sequence[Table]) -> list[tuple[str, list[str]]]:
    """Return title and verdicts, in sentences, of each of `tables` that compares; LeNet against Inception first."""
    ordered = sorted(tables, key=lambda table: not table.key.startswith("best"))
    return [(table.title, lines) for table in ordered if (lines := _sentences(table))]


def _sentences(table: Table) -> list[str]:
    compared = [entry for entry in table.entries if entry.comparison and entry.baseline]
    if len(compared) <= MANY:
        return [_sentence(entry) for entry in compared]
    counts = Counter(entry.verdict[0] for entry in compared)
    told = [_sentence(entry) for entry in compared if entry.verdict[0] in ("better", "worse")][:MANY]
    parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return [f"{len(compared)} configurations against their baselines: {parts}.", *told]


def _sentence(entry: Entry) -> str:
    found, baseline = entry.comparison, entry.baseline
    assert found and baseline
    seeds = f"{found.seeds[0]} and {found.seeds[1]} seeds" if max(found.seeds) > 1 else "one seed each"
    span = f"{points(found.difference)} points (95 % bootstrap {points(found.low)} to {points(found.high)}; {seeds})"
    return f"{entry.title} against {baseline.title}: {entry.verdict[0]}, {span}."


def render_page(report: Report) -> str:
    """Return the report as a self-contained HTML document: it asks for nothing from elsewhere."""
    downloads = {
        name: f"data:text/csv;base64,{base64.b64encode(text.encode()).decode()}" for name, text in report.files.items()
    }
    return _render("page.html.jinja", report, downloads=downloads, columns=_columns(report.sections))


def render_markdown(report: Report) -> str:
    """Return the report's words and tables as Markdown."""
    return _render("report.md.jinja", report)


def _render(template: str, report: Report, **more: Any) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("beans_exp.report"),
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _markdown_cell
    environment.filters["keep"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    return environment.get_template(template).render(report=report, **more)


def _columns(sections: Sequence[Section]) -> list[tuple[str, str]]:
    """Every column's heading with what it means, once."""
    every = (heading for section in sections for view in section.views for heading in view.headings if heading[1])
    meanings: dict[str, str] = {}
    classes: list[str] = []
    for heading, meaning in every:
        if meaning == THREE and heading != "macro mean":
            classes = list(dict.fromkeys([*classes, heading]))
        else:
            meanings.setdefault(heading, meaning)
    if classes:
        meanings[", ".join(classes)] = "precision / recall / F1 of the class, mean over seeds"
    return list(meanings.items())


def _markdown_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
