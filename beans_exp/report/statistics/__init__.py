"""Statistics of accuracies over training seeds and test images, as pure functions of arrays.

`compare_accuracies(group, baseline)` compares two configurations; `docs/statistics.md` explains what it returns.
"""

from beans_exp.report.statistics.contrast import Contrast, compare_accuracies

__all__ = ["Contrast", "compare_accuracies"]
