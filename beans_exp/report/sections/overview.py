"""All configurations together: accuracy against cost, against the keys that studies vary, against training images."""

from beans_exp.report.figures.against import cost, data_size, trend
from beans_exp.report.figures.common import PANELS
from beans_exp.report.findings import Findings
from beans_exp.report.page import Section
from beans_exp.report.runs.groups import Group


def sections(found: Findings) -> list[Section]:
    """Return the section, if there is a figure to show."""
    plans = [(plan, study) for study in found.studies for plan in study.trends]
    chosen = found.reader.confirmed() if plans else frozenset()
    trends = [trend(plan, study, found.groups, chosen) for plan, study in plans]
    pictures = [cost(shown(found), found.palette), *trends, data_size(found.finished, found.palette)]
    drawn = [picture for picture in pictures if picture]
    question = "How much does accuracy cost, and what does it depend on?"
    return [Section("together", "All configurations", question, pictures=drawn)] if drawn else []


def shown(found: Findings) -> list[Group]:
    """Return all finished configurations, or only the rows of studies if all are too many."""
    in_rows = [group for group in found.finished if group.matches]
    return found.finished if len(found.finished) <= PANELS or len(in_rows) < 2 else in_rows
