"""From an experiment to its report: read, grouped, compared, drawn, written."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from beans_exp.errors import BeansExpError
from beans_exp.files import write_whole
from beans_exp.report.csv_files import csv_files
from beans_exp.report.entries import Table
from beans_exp.report.findings import Findings, ReportOptions
from beans_exp.report.page import Report, render_markdown, render_page
from beans_exp.report.replicates import Place, command_for_seeds
from beans_exp.report.runs.collect import Collected, collect
from beans_exp.report.runs.convergence import Scale, longest
from beans_exp.report.runs.groups import Group, data_name
from beans_exp.report.sections import SECTIONS
from beans_exp.report.studies.files import load_studies
from beans_exp.report.studies.study import Study
from beans_exp.report.summary import summarise
from beans_exp.report.tables import in_order, make_tables
from beans_exp.report.titles import assign_rows, shared, words
from beans_exp.terminal import progress
from beans_exp.tracking.reader import Reader, Sweep


def build_report(reader: Reader, options: ReportOptions) -> Report:
    """Return the report on the runs that `options` selects.

    Raises BeansExpError if there is no run, if the baseline is none of them, and for a broken study file.
    """
    studies = load_studies(options.config_dir)
    records = progress(reader.records(options.query, options.sweep), "reading runs")
    collected = collect(reader, records)
    if not collected.runs:
        raise BeansExpError(f"no runs to report: {_scope(reader, options)} has none")
    assign_rows(collected.groups, studies)
    groups = in_order(collected.groups, studies)
    tables = make_tables(groups, studies, options.baseline, options.margin)
    _add_seeds(tables, Place(reader.uri, reader.experiment))
    found = Findings(reader, options, studies, groups, tables, Scale(options.threshold, longest(groups)))
    found.problems.extend([*collected.problems, *_problems(found)])
    sections = [section for make in SECTIONS for section in make(found)]
    return Report(
        title=f"Report on {_scope(reader, options)}",
        facts=_facts(found, collected),
        summary=summarise(tables),
        problems=found.problems,
        sections=sections,
        files=csv_files(groups, tables, found.scale),
        link=reader.page(options.sweep.parent) if options.sweep else reader.page(""),
    )


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write page, Markdown and CSV files into `folder` and return their paths, the page first.

    Raises BeansExpError if that fails.
    """
    texts = {"report.html": render_page(report), "report.md": render_markdown(report)} | report.files
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_whole(folder / name, text)
    except OSError as error:
        raise BeansExpError(f"the report cannot be written ({error}). Set --out to another folder") from error
    return [folder / name for name in texts]


def _add_seeds(tables: Sequence[Table], place: Place) -> None:
    """Set the command that adds seeds on each comparison with a single seed."""
    for entry in (entry for table in tables for entry in table.compared):
        if entry.comparison and entry.comparison.one_seed and entry.group and entry.baseline and entry.baseline.group:
            entry.add_seeds = command_for_seeds([entry.baseline.group, entry.group], place)


def _scope(reader: Reader, options: ReportOptions) -> str:
    parts = [f"the sweep {options.sweep.name} of" if options.sweep else "", f"the experiment {reader.experiment}"]
    parts += [f"with {options.query}"] if options.query else []
    return " ".join(part for part in parts if part)


def _facts(found: Findings, collected: Collected) -> list[tuple[str, str]]:
    finished = sum(len(group.done) for group in found.groups)
    data = dict.fromkeys(data_name(group) for group in found.groups)
    tests = sorted({len(group.tested[0].labels) for group in found.groups if group.tested})
    common = words(shared(found.groups))
    return [
        *[("study", study.title) for study in found.studied],
        ("runs", f"{collected.runs}, of {len(found.groups)} configurations; {finished} finished and counted"),
        ("data", "; ".join(data) + (f"; {' or '.join(map(str, tests))} test images" if tests else "")),
        *([("all with", " ".join(common))] if common else []),
        ("store", found.reader.uri),
        *_families(found.tables),
        ("created", datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")),
    ]


def _families(tables: Sequence[Table]) -> list[tuple[str, str]]:
    """Return how many comparisons the page corrects for."""
    sizes = {entry.comparison.family for table in tables for entry in table.compared if entry.comparison}
    return [("comparisons", f"{size}, of test accuracies; Holm's correction covers all of them") for size in sizes]


def _problems(found: Findings) -> list[str]:
    return [
        *_not_started(found.options.sweep),
        *_single_seeds(found.finished),
        *_different_threads(found.groups),
        *_left_out(found.tables, found.studied),
    ]


def _not_started(sweep: Sweep | None) -> list[str]:
    statuses = [status for run_id, status in sweep.jobs if not run_id] if sweep else []
    return [f"{len(statuses)} job(s) of the sweep have no run ({', '.join(sorted(set(statuses)))})"] if statuses else []


def _single_seeds(finished: Sequence[Group]) -> list[str]:
    single = [group for group in finished if len(group.done) == 1]
    if not single:
        return []
    counted = f"{len(single)} of {len(finished)} configurations {'has' if len(single) == 1 else 'have'}"
    if len(single) == len(finished):
        counted = "Every configuration has"
    return [f"{counted} a single seed: one seed cannot show seed-to-seed variance ('seed=range(3)' adds replicates)"]


def _different_threads(groups: Sequence[Group]) -> list[str]:
    threads = sorted({run.threads for group in groups for run in group.runs if run.threads}, key=int)
    return [f"runs used {' or '.join(threads)} threads: their times are not comparable"] if threads[1:] else []


def _left_out(tables: Sequence[Table], studies: Sequence[Study]) -> list[str]:
    made = {table.key for table in tables}
    missing = [plan.title for study in studies for plan in study.tables if plan.key not in made]
    return [f"tables left out, because fewer than two of their rows have runs: {', '.join(missing)}"] if missing else []
