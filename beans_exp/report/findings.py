"""The material of a report: its sections and problems are made from it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from beans_exp.report.entries import Table
from beans_exp.report.figures.looks import Palette
from beans_exp.report.runs.convergence import Scale
from beans_exp.report.runs.groups import Group
from beans_exp.report.statistics.comparison import MARGIN
from beans_exp.report.studies.study import Study
from beans_exp.tracking.reader import Reader, Sweep


@dataclass(frozen=True)
class ReportOptions:
    """The options of the command."""

    query: str = ""
    sweep: Sweep | None = None
    baseline: str | None = None
    threshold: float = 0.75
    data_dir: str | None = None
    images: bool = True
    """Whether test images and Grad-CAM are shown."""
    config_dir: Path | None = None
    """A folder with studies of the user's own."""
    margin: float = MARGIN
    """A difference in accuracy that does not matter."""


@dataclass(frozen=True)
class Findings:
    """A section's material: configurations, tables, studies, and the palette that all figures share."""

    reader: Reader
    options: ReportOptions
    studies: list[Study]
    groups: list[Group]
    tables: list[Table]
    scale: Scale
    palette: Palette = field(default_factory=Palette)
    problems: list[str] = field(default_factory=list)
    """Sentences for the reader of the report; sections add to them."""

    @property
    def finished(self) -> list[Group]:
        """The groups that have a finished run."""
        return [group for group in self.groups if group.done]

    @property
    def studied(self) -> Sequence[Study]:
        """The studies that configurations get their titles from."""
        return [study for study in self.studies if any(group.row in study.rows for group in self.groups)]
