"""A section for each table: its views and the figures of its rows."""

from beans_exp.report.columns.views import views
from beans_exp.report.entries import Table
from beans_exp.report.figures.curves import curves
from beans_exp.report.figures.search import search_pictures
from beans_exp.report.findings import Findings
from beans_exp.report.page import Section


def sections(found: Findings) -> list[Section]:
    """Return a section for each table."""
    return [_section(table, found) for table in found.tables]


def _section(table: Table, found: Findings) -> Section:
    reported = {name: epochs for study in found.studies for name, epochs in study.epochs.items()}
    pictures = [curves(table, reported, found.palette), *search_pictures(table)]
    notes = [*table.notes, *([table.rule] if table.rule else [])]
    shown = [picture for picture in pictures if picture]
    return Section(table.key, table.title, table.question, notes, views(table, found.scale), shown)
