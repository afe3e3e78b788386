"""The report's figures as CSV: runs, configurations and comparisons, every number in full."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from beans_exp.files import csv_text
from beans_exp.report.entries import Entry, Table
from beans_exp.report.runs.convergence import Scale, area, convergence, reached
from beans_exp.report.runs.groups import METRICS, FinishedRun, Group
from beans_exp.report.statistics.comparison import Comparison
from beans_exp.report.statistics.contrast import Contrast
from beans_exp.report.statistics.exact import wilson
from beans_exp.report.statistics.forecast import forecast
from beans_exp.report.statistics.gap import GapContrast
from beans_exp.report.statistics.means import interval_of_mean, interval_of_next

FORMULA = ("=", "+", "-", "@", "\t")
"""How texts begin that a spreadsheet runs."""


def csv_files(groups: Sequence[Group], tables: Sequence[Table], scale: Scale) -> dict[str, str]:
    """Return the text of each file by its name."""
    return {
        "runs.csv": _text(_runs(groups, scale)),
        "configurations.csv": _text(_configurations(groups, scale)),
        "comparisons.csv": _text(_comparisons(tables)),
    }


def _text(lines: Iterable[Mapping[str, Any]]) -> str:
    """Return `lines` as CSV with the columns of all of them; unknown values stay empty."""
    found = list(lines)
    names = list(dict.fromkeys(name for line in found for name in line))
    return csv_text(names, ([_plain(line.get(name, "")) for name in names] for line in found))


def _plain(value: Any) -> Any:
    """Return `value` as text; one that a spreadsheet would run as a formula begins with an apostrophe."""
    if isinstance(value, float | np.floating):
        return f"{value:.6g}" if math.isfinite(value) else ""
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ")  # it would end the line
    return f"'{text}" if text.startswith(FORMULA) else text


def _runs(groups: Sequence[Group], scale: Scale) -> Iterator[dict[str, Any]]:
    for group in groups:
        for run in group.runs:
            named = {"run_id": run.run_id, "configuration": group.title, "row": group.row or "", "seed": run.seed}
            yield named | _run(run, scale)


def _run(run: FinishedRun, scale: Scale) -> dict[str, Any]:
    fast = reached(run, scale.threshold)
    line: dict[str, Any] = {name: run.metrics[name] for name in METRICS if name in run.metrics}
    line |= {"test_accuracy": run.test, "training_seconds": run.training_seconds}
    line |= {"epochs_to_threshold": fast.epoch, "seconds_to_threshold": fast.seconds, "held": fast.held}
    if run.curve:
        line["mean_validation"] = area(run.curve.validation, scale.horizon)
    if run.tested:
        line |= {"images": len(run.tested.labels), "right": int(run.tested.right.sum())}
        found = run.tested.calibration
        line |= {"calibration_error": found.error, "calibration_error_perfect": found.perfect_mean}
        line |= {"calibration_error_perfect_95": found.perfect_high, "calibration_squared_error": found.squared_error}
        line |= {"brier": run.tested.brier}
    return line


def _configurations(groups: Sequence[Group], scale: Scale) -> Iterator[dict[str, Any]]:
    for group in groups:
        reported = group.matches[0].row.reported if group.matches else {}
        line: dict[str, Any] = {
            "configuration": group.title,
            "row": group.row or "",
            "beside": "; ".join(group.notes),
            "data": group.data[0] if group.data else "",
            "digest": group.data[1] if group.data else "",
            "seeds": " ".join(map(str, group.seeds)),
            "unfinished": " ".join(f"{name}:{count}" for name, count in group.unfinished.items()),
        }
        line |= {f"reported {name}": value for name, value in reported.items()}
        line |= _means(group) | _tests(group) | _speed(group, scale)
        yield line


def _means(group: Group) -> dict[str, float]:
    series = {name: group.metric(name) for name in METRICS}
    series |= {"test/accuracy": group.figures(lambda run: run.test)}
    series |= {"selected train/accuracy": group.figures(lambda run: run.train)}
    series |= {"selected val/accuracy": group.figures(lambda run: run.validation)}
    series |= {"training_seconds": group.figures(lambda run: run.training_seconds)}
    means = {f"{name} mean": float(values.mean()) for name, values in series.items() if values.size}
    return means | {f"{name} sd": float(values.std(ddof=1)) for name, values in series.items() if values.size > 1}


def _tests(group: Group) -> dict[str, Any]:
    results = group.results
    if results is None:
        return {}
    images = results.right.shape[1]
    right = float(results.right.sum(axis=1).mean())
    line: dict[str, Any] = {"images": images, "right mean": right, "runs with predictions": len(results.right)}
    if len(results.right) == 1:
        line["Wilson low"], line["Wilson high"] = wilson(right, images)
    elif images > 1:
        line["mean low"], line["mean high"] = interval_of_mean(results.right)
        line["next low"], line["next high"] = interval_of_next(results.right)
    line["calibration error mean"] = float(np.mean([tested.calibration.error for tested in group.tested]))
    line["Brier mean"] = float(np.mean([tested.brier for tested in group.tested]))
    for name in ("precision", "recall", "f1"):
        by_class = np.mean([tested.by_class[name] for tested in group.tested], axis=0)
        line[f"{name} macro"] = float(by_class.mean())
        line |= {f"{name} {kind}": float(value) for kind, value in zip(group.tested[0].classes, by_class, strict=True)}
    return line


def _speed(group: Group, scale: Scale) -> dict[str, Any]:
    found = convergence(group, scale.threshold, scale.horizon)
    if found is None:
        return {}
    return {
        "threshold": scale.threshold,
        "epochs_to_threshold median": found.epochs,
        "seconds_to_threshold median": found.seconds,
        "reached": found.reached,
        "held": found.held,
        "horizon": scale.horizon,
        "mean_validation": found.area,
    }


def _comparisons(tables: Sequence[Table]) -> Iterator[dict[str, Any]]:
    for table in tables:
        for entry in table.compared:
            assert entry.baseline
            names = {"table": table.key, "configuration": entry.title, "baseline": entry.baseline.title}
            yield names | _comparison(entry)


def _comparison(entry: Entry) -> dict[str, Any]:
    found = entry.comparison
    if found is None:
        return {"verdict": f"not compared: {entry.why_not}"}
    line: dict[str, Any] = {
        "verdict": entry.verdict[0],
        "difference": found.difference,
        "images": found.images,
        "seeds": found.seeds[0],
        "seeds_baseline": found.seeds[1],
        "p": found.p,
        "p_holm": found.p_holm,
        "comparisons": found.family,
        "mcnemar": " ".join(
            f"seed{test.seed}:{test.only_group}:{test.only_baseline}:p={test.p:.4g}" for test in found.mcnemar
        ),
    }
    line |= _contrast(found, found.contrast) if found.contrast else {"add_seeds": entry.add_seeds}
    return line | (_gap(entry.gap) if entry.gap else {})


def _contrast(found: Comparison, contrast: Contrast) -> dict[str, Any]:
    needs = forecast(contrast, found.corrected_level)
    variance = contrast.variance
    return {
        "low": contrast.low,
        "high": contrast.high,
        "interval": "95 % t over new test images and seeds",
        "freedom": variance.freedom,
        "margin": found.margin,
        "p_same": found.p_same,
        "p_same_holm": found.p_same_holm,
        "margin_shown": contrast.margin(found.corrected_level),
        "variance_images": variance.images,
        "variance_seeds": variance.seeds,
        "variance_both": variance.both,
        "seeds_needed_low": needs.seeds[0] or "",
        "seeds_needed_high": needs.seeds[1] or "",
        "images_needed": needs.images or "",
        "tellable": needs.detectable,
    }


def _gap(found: GapContrast) -> dict[str, Any]:
    return {
        "gap difference": found.difference,
        "gap low": found.low,
        "gap high": found.high,
        "gap p": found.p,
        "gap p_holm": found.p_holm,
        "gap verdict": found.verdict,
    }
