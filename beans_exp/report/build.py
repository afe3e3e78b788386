"""From an experiment to its report: read, grouped, compared, drawn, written."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from beans_exp.errors import BeansExpError
from beans_exp.report import figures, images
from beans_exp.report.convergence import longest
from beans_exp.report.csv_files import csv_files
from beans_exp.report.groups import Collected, Group, collect
from beans_exp.report.page import Report, Section, render_markdown, render_page, summarise
from beans_exp.report.search import search_pictures
from beans_exp.report.study_rows import Row, assign_rows, shared, study_rows, words
from beans_exp.report.svg import Picture
from beans_exp.report.tables import PLANS, Table, data_name, in_order, make_tables
from beans_exp.report.views import Scale, views
from beans_exp.schema import CONF
from beans_exp.terminal import progress
from beans_exp.tracking.reader import Reader, Sweep


@dataclass(frozen=True)
class ReportOptions:
    """What the command line asks for."""

    query: str = ""
    sweep: Sweep | None = None
    baseline: str | None = None
    threshold: float = 0.75
    data_dir: str | None = None
    pictures_of_images: bool = True


def build_report(reader: Reader, wanted: ReportOptions) -> Report:
    """Return the report on what `wanted` finds.

    Raises BeansExpError where there is no run, and for a baseline that is none of them.
    """
    records = progress(reader.records(wanted.query, wanted.sweep), "reading runs")
    collected = collect(reader, records)
    if not collected.runs:
        raise BeansExpError(f"no run to report: {_scope(reader, wanted)} has none")
    rows = study_rows()
    assign_rows(collected.groups, rows)
    groups = in_order(collected.groups)
    tables = make_tables(groups, rows, wanted.baseline)
    scale = Scale(wanted.threshold, longest(groups))
    problems = [*collected.problems, *_not_started(wanted.sweep), *_single_seeds(groups), *_unlike_times(groups)]
    problems += _left_out(tables)
    sections = [_section(table, scale) for table in tables]
    sections += _overview(groups, rows)
    if wanted.pictures_of_images:
        sections += _image_section(reader, groups, wanted.data_dir, problems)
    return Report(
        title=f"Report on {_scope(reader, wanted)}",
        facts=_facts(reader, wanted, collected),
        summary=summarise(tables),
        problems=problems,
        sections=sections,
        files=csv_files(groups, tables, rows, scale),
        link=reader.page(wanted.sweep.parent) if wanted.sweep else reader.page(""),
    )


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write page, Markdown and CSV files into `folder` and return their paths, the page first.

    Raises BeansExpError where that is not possible.
    """
    texts = {"report.html": render_page(report), "report.md": render_markdown(report)} | report.files
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BeansExpError(f"the report cannot be written ({error}). Set --out to another folder") from error
    return [folder / name for name in texts]


def _scope(reader: Reader, wanted: ReportOptions) -> str:
    words = [f"the sweep {wanted.sweep.name} of" if wanted.sweep else "", f"the experiment {reader.experiment}"]
    words += [f"with {wanted.query}"] if wanted.query else []
    return " ".join(word for word in words if word)


def _facts(reader: Reader, wanted: ReportOptions, collected: Collected) -> list[tuple[str, str]]:
    groups = collected.groups
    finished = sum(len(group.done) for group in groups)
    data = dict.fromkeys(data_name(group) for group in groups)
    tests = sorted({len(group.tested[0].labels) for group in groups if group.tested})
    return [
        ("runs", f"{collected.runs}, of them {finished} finished and counted, of {len(groups)} configurations"),
        ("data", "; ".join(data) + (f"; {' or '.join(map(str, tests))} test images" if tests else "")),
        *([("all with", " ".join(words(common)))] if (common := shared(groups)) else []),
        ("store", reader.uri),
        ("made", datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")),
    ]


def _not_started(sweep: Sweep | None) -> list[str]:
    statuses = [status for run_id, status in sweep.jobs if not run_id] if sweep else []
    return [f"{len(statuses)} job(s) of the sweep have no run ({', '.join(sorted(set(statuses)))})"] if statuses else []


def _single_seeds(groups: Sequence[Group]) -> list[str]:
    finished = [group for group in groups if group.done]
    single = [group for group in finished if len(group.done) == 1]
    if not single:
        return []
    what = f"{len(single)} of {len(finished)} configurations have"
    if len(single) == len(finished):
        what = "Every configuration has"
    rest = "how far the luck of a seed moves a result cannot be known from it ('seed=range(3)' gives replicates)"
    return [f"{what} a single seed: {rest}"]


def _unlike_times(groups: Sequence[Group]) -> list[str]:
    threads = sorted({run.threads for group in groups for run in group.runs if run.threads}, key=int)
    return [f"runs computed with {' or '.join(threads)} threads: their times do not compare"] if threads[1:] else []


def _left_out(tables: Sequence[Table]) -> list[str]:
    made = {table.key for table in tables}
    missing = [plan.title for plan in PLANS if plan.key not in made]
    return [f"left out, for fewer than two of their rows have runs: {', '.join(missing)}"] if missing else []


def _section(table: Table, scale: Scale) -> Section:
    pictures = [figures.curves(table, reported_epochs()), *search_pictures(table)]
    sides = views(table, scale)
    return Section(table.key, table.title, table.question, table.notes, sides, [one for one in pictures if one])


def _overview(groups: Sequence[Group], rows: dict[str, Row]) -> list[Section]:
    """Pictures of all configurations together; of the study's rows alone where all are too many."""
    finished = [group for group in groups if group.done]
    in_rows = [group for group in finished if group.row]
    shown = finished if len(finished) <= figures.PANELS or len(in_rows) < 2 else in_rows
    depths = [row for row in rows.values() if row.name.startswith("inception")]
    reported = {int(row.values["finetune.blocks"]): row.reported["test/accuracy"] for row in depths}
    parts = [
        (
            ("together", "All together", "What does accuracy cost, and what is it made of?"),
            [figures.cost(shown), figures.depth(groups, reported), figures.data_size(finished)],
        ),
        (
            ("errors", "Which errors", "Are the probabilities to be believed, and what is confused?"),
            [figures.reliability(shown), figures.confusion(shown)],
        ),
    ]
    sections = [Section(*names, pictures=[one for one in pictures if one]) for names, pictures in parts]
    return [section for section in sections if section.pictures]


def _image_section(reader: Reader, groups: Sequence[Group], data_dir: str | None, problems: list[str]) -> list[Section]:
    """What every model misses, and where models look; what cannot be shown is said in `problems`."""
    alike = images.same_tests(groups)
    found = images.misses(alike)
    if found is None:
        return []
    pictures: list[Picture] = []
    pixels = None
    try:
        pixels = images.test_images(alike[0], data_dir)
    except BeansExpError as error:
        problems.append(f"test images are not shown: {error}")
    if found.wrong.any():
        pictures.append(images.missed(found, pixels))
    seen = images.families(alike)
    if not seen:
        problems.append("no Grad-CAM: no tested run has a saved model")
    elif pixels is not None:
        try:
            pictures.append(images.where_models_look(reader, seen, data_dir))
        except (BeansExpError, ValueError) as error:
            problems.append(f"no Grad-CAM: {error}")
    section = Section("images", "Images", "What is hard, and where do the models look?", pictures=pictures)
    return [section] if pictures else []


def reported_epochs() -> dict[str, np.ndarray]:
    """Return the epochs that the study printed, by row: (epochs, 3) of epoch, train and validation accuracy."""
    with (CONF / "study" / "reported_epochs.csv").open() as file:
        lines = list(csv.DictReader(file))
    names = dict.fromkeys(line["row"] for line in lines)
    keys = ("epoch", "train_accuracy", "val_accuracy")
    return {
        name: np.array([[float(line[key]) for key in keys] for line in lines if line["row"] == name]) for name in names
    }
