"""The page and its files: self-contained, accessible, complete."""

import csv
import html
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from beans_exp.report import build
from beans_exp.report.csv_files import csv_files
from beans_exp.report.entries import Table
from beans_exp.report.figures.svg import page_style, picture
from beans_exp.report.findings import Findings, ReportOptions
from beans_exp.report.page import Report, Section, render_markdown, render_page
from beans_exp.report.runs.collect import Collected
from beans_exp.report.runs.convergence import Scale
from beans_exp.tracking.reader import open_reader
from tests.report.conftest import group_of

pytestmark = pytest.mark.xdist_group("report")


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return render_page(report)


class _Page(HTMLParser):
    """The tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def test_the_page_loads_nothing_from_elsewhere(page: str) -> None:
    parts = _Page(page)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in parts.tags}
    for _, attributes in parts.tags:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), value
    assert not re.findall(r"url\((?!#)", page)
    policy = next(meta for meta in parts.all("meta") if meta.get("http-equiv"))
    assert str(policy["content"]).startswith("default-src 'none'")


def test_every_internal_link_has_a_target_and_ids_are_unique(page: str) -> None:
    parts = _Page(page)
    ids = [attributes["id"] for _, attributes in parts.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    used = [str(value) for _, each in parts.tags for name, value in each.items() if name == "href"]
    named = [name for _, each in parts.tags for name in str(each.get("aria-labelledby") or "").split()]
    targets = [value.removeprefix("#") for value in used if value.startswith("#")] + named
    assert targets
    assert set(targets) <= set(ids)


def test_the_page_is_accessible_to_screen_readers(page: str) -> None:
    parts = _Page(page)
    assert parts.all("html")[0]["lang"] == "en"
    pictures = parts.all("svg")
    assert len(pictures) > 5
    assert all(svg.get("role") == "img" and svg.get("aria-labelledby") for svg in pictures)
    assert all(image.get("alt") for image in parts.all("img"))
    assert all(head.get("scope") for head in parts.all("th"))
    scrolled = [div for div in parts.all("div") if str(div.get("class")).startswith("wide")]
    assert scrolled
    assert all(div.get("tabindex") == "0" and div.get("role") == "region" for div in scrolled)


def test_the_page_has_a_light_a_dark_and_a_printed_form(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert "currentColor" in page
    assert "#010203" not in page, "ink has a colour of its own"


def test_the_page_names_what_is_missing(report: Report, page: str) -> None:
    problems = " ".join(report.problems)
    assert "1 finished run(s) have no readable predictions.csv" in problems
    assert "configurations have a single seed: one seed cannot show seed-to-seed variance" in problems
    assert "no Grad-CAM: no tested run has a saved model" in problems
    assert "test images are not shown" in problems
    for problem in report.problems:
        assert problem.split("'")[0][:60] in page


def test_the_summary_has_every_verdict_with_its_interval(report: Report) -> None:
    lines = dict(report.summary)["Regularization"]
    assert re.fullmatch(
        r"LeNet \+ L2 0\.01 against LeNet: better, \+[\d.]+ points \(95 % interval .+ to .+; 3 and 3 seeds\)\.",
        lines[0],
    )
    assert report.summary[0][0].startswith("LeNet against Inception"), "contrasts come first"


def test_markup_in_a_name_is_text_on_the_page(report: Report) -> None:
    odd = replace(report, title="<script>alert(1)</script>")
    assert "<script>" not in render_page(odd)


def test_csv_files_have_every_number(report: Report, collected: Collected) -> None:
    rows = {name: list(csv.DictReader(io.StringIO(text))) for name, text in report.files.items()}
    assert len(rows["runs.csv"]) == sum(len(group.done) for group in collected.groups)
    plain = next(row for row in rows["configurations.csv"] if row["configuration"] == "LeNet")
    expected = np.mean([run.test for run in group_of(collected, "LeNet").runs])
    assert float(plain["test/accuracy mean"]) == pytest.approx(expected, rel=1e-5)
    assert float(plain["reported test/accuracy"]) == 0.6953
    l2 = next(row for row in rows["comparisons.csv"] if row["configuration"] == "LeNet + L2 0.01")
    assert (l2["baseline"], l2["verdict"], l2["seeds"]) == ("LeNet", "better", "3")
    assert len(l2["mcnemar"].split()) == 3
    assert float(l2["low"]) < float(l2["difference"]) < float(l2["high"])
    assert (l2["seeds_needed_low"], l2["images_needed"]) != ("", "") and l2["images_needed"] == ""


def test_one_seed_gives_no_verdict_on_configurations_anywhere(report: Report, page: str) -> None:
    """In the page, Markdown, CSV and summary (which the terminal prints) alike, and each ends with the way out."""
    title = "LeNet, kernels 3x3"
    command = "python -m beans_exp -m kernel.size=5,3 tracking.experiment=grid tracking.uri=sqlite:///"
    (line,) = [line for line in dict(report.summary)["Kernel size"] if line.startswith(title)]
    (csv_row,) = [
        row for row in csv.DictReader(io.StringIO(report.files["comparisons.csv"])) if row["configuration"] == title
    ]
    markdown = next(row for row in render_markdown(report).splitlines() if row.startswith(f"| {title}"))
    for text in (line, markdown, " ".join(csv_row.values())):
        assert "these two trainings" in text
        assert command in text and "'seed=range(3)'" in text
        assert not re.search("better in this run|worse in this run|: (better|worse),", text)
    assert html.escape(command) in page
    assert (csv_row["low"], csv_row["p_same"], csv_row["seeds_needed_low"]) == ("", "", "")
    assert "one seed cannot show which configuration is better" in line


def test_the_page_names_the_number_of_comparisons(report: Report, tables: list[Table], page: str) -> None:
    family = next(entry.comparison.family for table in tables for entry in table.compared if entry.comparison)
    assert f"{family}, of test accuracies" in dict(report.facts)["comparisons"]
    assert 'class="bar"' in page


def test_the_tables_of_the_markdown_have_as_many_cells_in_each_line(report: Report) -> None:
    for block in re.findall(r"(?:^\|.*\n)+", render_markdown(report), flags=re.MULTILINE):
        counts = {line.replace("\\|", "").count("|") for line in block.splitlines()}
        assert len(counts) == 1, block


def test_a_section_is_a_function_in_the_list(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def epilogue(found: Findings) -> list[Section]:
        return [Section("epilogue", "Epilogue", f"{len(found.groups)} configurations")]

    monkeypatch.setattr(build, "SECTIONS", (epilogue,))
    page = render_page(build.build_report(open_reader(store, "one"), ReportOptions()))
    assert '<h2 id="epilogue">Epilogue</h2>' in page
    assert '<a href="#epilogue">Epilogue</a>' in page


HOSTILE = "<img src=x onerror=alert(1)> [a](javascript:alert(1)) ![b](http://evil)"


def test_names_that_others_gave_are_shown_and_not_run(report: Report) -> None:
    """On a shared server anybody names runs and classes."""
    (table, *_) = (section for section in report.sections if section.views)
    view = table.views[0]
    row = [replace(cell, text=HOSTILE) for cell in view.rows[0]]
    named = replace(table, title=HOSTILE, notes=[HOSTILE], views=[replace(view, title=HOSTILE, rows=[row])])
    hostile = replace(report, title=HOSTILE, facts=[(HOSTILE, HOSTILE)], problems=[HOSTILE], sections=[named])
    text = render_markdown(hostile)
    assert "&lt;img" in text and "<img" not in text
    assert "](" not in text
    assert not [each for each in _Page(render_page(hostile)).all("img") if each.get("src") == "x"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_cell_of_a_table_is_a_formula(start: str, collected: Collected) -> None:
    group = replace(group_of(collected, "LeNet"), title=f"{start}cmd|' /C calc'!A0")
    text = csv_files([group], [], Scale(0.8, 10))["configurations.csv"]
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["configuration"] == f"'{start}cmd|' /C calc'!A0"


def test_names_in_figures_are_no_formulas() -> None:
    with page_style():
        figure = Figure()
        figure.suptitle(r"$\foo$ <b>")
    drawn = picture("key", "title", "caption", figure, "text")
    assert r"$\foo$" in drawn.svg and "<b>" not in drawn.svg
