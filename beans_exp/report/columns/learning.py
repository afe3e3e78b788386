"""Columns of learning: accuracies on training and validation images, and the gap between them."""

from beans_exp.metrics import BY_NAME
from beans_exp.report.columns.cells import NOTHING, Cell, mean_and_spread, p_value, points
from beans_exp.report.columns.column import Column, of_group, of_metric, of_reported
from beans_exp.report.entries import Entry, Table
from beans_exp.report.runs.groups import GAP, Group
from beans_exp.report.statistics.gap import interval_of_gap

RUNNING = "running training accuracy"
GAP_DIFFERENCE = (
    "gap minus the baseline's, points, with a 95 % interval over seeds (Welch's t test) on the same images, and p with "
    "Holm's correction for all gaps of the page; a narrower gap is less overfitting"
)
RUNNING_GAP = "gap/accuracy"


def learning(table: Table) -> list[Column]:
    """Return the columns of accuracies on training and validation images."""
    last = "accuracy in the last epoch, as the study printed it"
    measured = [group for group in table.groups if group.metric("eval/train_accuracy").size]
    return [
        of_reported("train/accuracy", "train, reported", last),
        of_metric(
            "train/accuracy",
            lambda run: run.train,
            "running accuracy during the tested epoch, mean over seeds: with augmentation and dropout",
        ),
        *([of_metric("eval/train_accuracy")] if measured else []),
        of_reported("val/accuracy", "validation, reported", last),
        of_metric("val/accuracy", lambda run: run.validation, "accuracy in the tested epoch, mean over seeds"),
        of_metric("best/val_accuracy"),
        Column("gap, reported", "running training accuracy minus validation, points", _reported_gap, reported=True),
        Column(
            BY_NAME[GAP].heading,
            f'{BY_NAME[GAP].meaning}, with a 95 % t interval over seeds; "{RUNNING}" marks runs without it, which show '
            "the running gap",
            of_group(_gap),
        ),
        *([Column("gap difference", GAP_DIFFERENCE, _gap_difference)] if any(e.gap for e in table.entries) else []),
        of_metric("test/cross_entropy", meaning=f"{BY_NAME['test/cross_entropy'].meaning}, without penalties"),
    ]


def _reported_gap(entry: Entry) -> Cell:
    reported = entry.row.reported if entry.row else {}
    if not {"train/accuracy", "val/accuracy"} <= set(reported):
        return Cell(NOTHING)
    return Cell(points(reported["train/accuracy"] - reported["val/accuracy"]))


def _gap(group: Group) -> Cell:
    """Return the gap of the runs that have one in inference mode, or else the running one, labeled."""
    same_weights = group.metric(GAP)
    if not same_weights.size:
        return mean_and_spread(group.metric(RUNNING_GAP), BY_NAME[RUNNING_GAP].text, RUNNING)
    interval = interval_of_gap(same_weights)
    words = [f"t {points(interval[0])} to {points(interval[1])}"] if interval else []
    words += [] if len(same_weights) == len(group.done) else [f"{len(same_weights)} of {len(group.done)} seeds"]
    return mean_and_spread(same_weights, BY_NAME[GAP].text, "; ".join(words))


def _gap_difference(entry: Entry) -> Cell:
    found = entry.gap
    if found is None:
        return Cell(NOTHING)
    text = f"t {points(found.low)} to {points(found.high)}; p {p_value(found.p_holm)}: {found.verdict}"
    return Cell(points(found.difference), text)
