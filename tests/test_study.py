"""The published study: its packed runs give the figures that its pages state."""

import csv
import re
from pathlib import Path

import pytest

from beans_exp.report.__main__ import main as report
from beans_exp.unpack.__main__ import main as unpack

STUDY = Path(__file__).resolve().parents[1] / "docs" / "study"
LINE = re.compile(r"\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|")
COLUMNS = ("val/accuracy mean", "test/accuracy mean", "reported test/accuracy")


def test_the_packed_runs_give_the_figures_of_the_page(tmp_path: Path) -> None:
    for packed in sorted(STUDY.glob("*.zip")):
        assert packed.stat().st_size < 2**20
        unpack([str(packed)])
    report(["--no-images", "--out", str(tmp_path / "report")])
    lines = csv.DictReader((tmp_path / "report" / "configurations.csv").read_text(encoding="utf-8").splitlines())
    measured = {line["row"]: tuple(float(line[column]) for column in COLUMNS) for line in lines}
    stated = {row: tuple(map(float, figures)) for row, *figures in LINE.findall((STUDY / "README.md").read_text())}
    assert stated.keys() == measured.keys()
    for row, figures in stated.items():
        assert measured[row] == pytest.approx(figures, abs=5e-5)
