"""The report's tables as data: lines with their groups and comparisons."""

from dataclasses import dataclass, field

import numpy as np

from beans_exp.report.runs.groups import Group
from beans_exp.report.statistics.comparison import Comparison
from beans_exp.report.statistics.gap import GapContrast
from beans_exp.report.studies.rows import Row
from beans_exp.report.verdicts import verdict_in_words


@dataclass
class Entry:
    """A line of a table: a group of runs, or a row of a study that has no run."""

    title: str
    group: Group | None
    row: Row | None = None
    notes: list[str] = field(default_factory=list)
    """The runs' differences from the row's values."""
    baseline: "Entry | None" = None
    comparison: Comparison | None = None
    gap: GapContrast | None = None
    why_not: str = ""
    """The reason if there is no comparison."""
    add_seeds: str = ""
    """The command that adds seeds to both sides, where one of them has a single seed."""

    @property
    def verdict(self) -> tuple[str, str]:
        """The comparison's verdict and its caveat, or why there is none."""
        if self.comparison:
            verdict, caveat = verdict_in_words(self.comparison)
            return verdict, f"{caveat}; to add seeds: {self.add_seeds}" if self.add_seeds else caveat
        return ("not compared", self.why_not) if self.why_not else ("", "")

    @property
    def validation(self) -> float:
        """Mean validation accuracy over seeds; nan if there is none."""
        return self.group.validation if self.group else np.nan

    @property
    def is_done(self) -> bool:
        """Whether it has a finished run."""
        return self.group is not None and bool(self.group.done)


@dataclass
class Table:
    """Configurations side by side."""

    key: str
    title: str
    question: str
    entries: list[Entry]
    notes: list[str] = field(default_factory=list)
    rule: str = ""
    """The rule that chose the baselines, in words; empty if the study planned them."""
    pairs: list[Entry] = field(default_factory=list)
    """Comparisons of all pairs of entries, in a table without a baseline."""
    is_contrast: bool = False

    @property
    def groups(self) -> list[Group]:
        """The groups that have a finished run."""
        return [entry.group for entry in self.entries if entry.group and entry.group.done]

    @property
    def compared(self) -> list[Entry]:
        """Entries and pairs that have a baseline."""
        return [entry for entry in (*self.entries, *self.pairs) if entry.baseline]
