"""Calibration and confusion of all configurations."""

from beans_exp.report.figures.panels import confusion, reliability
from beans_exp.report.findings import Findings
from beans_exp.report.page import Section
from beans_exp.report.sections.overview import shown


def sections(found: Findings) -> list[Section]:
    """Return the section, if there are predictions."""
    groups = shown(found)
    pictures = [picture for picture in (reliability(groups, found.palette), confusion(groups)) if picture]
    question = "Are the probabilities calibrated, and which classes are confused?"
    return [Section("errors", "Errors", question, pictures=pictures)] if pictures else []
