"""The sections of the page, in their order: to add one, write a module with a function and register it here."""

from collections.abc import Callable

from beans_exp.report.findings import Findings
from beans_exp.report.page import Section
from beans_exp.report.sections import comparison, errors, images, overview

SECTIONS: tuple[Callable[[Findings], list[Section]], ...] = (
    comparison.sections,
    overview.sections,
    errors.sections,
    images.sections,
)
"""Each returns the sections that it has something to show in."""
