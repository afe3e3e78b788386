"""The documentation agrees with the code: paths exist, and every metric is listed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from beans_exp.metrics import METRICS, Metric
from beans_exp.schema import CONF

ROOT = CONF.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PATHS = sorted(set(re.findall(r"`((?:beans_exp|conf|tests|hydra_plugins|docs|benchmarks)/[\w/.]*)`", CONTRIBUTING)))


@pytest.mark.parametrize("path", [path for path in PATHS if "NAME" not in path])
def test_every_path_in_contributing_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_documented(metric: Metric) -> None:
    logged = f"{'epoch' if metric.per_epoch else 'run'}{', test' if metric.needs_test else ''}"
    row = f"| `{metric.name}` | {logged} | {metric.direction or ''} | {metric.meaning} |"
    assert row in (ROOT / "docs" / "metrics.md").read_text().splitlines()


@pytest.mark.parametrize("file", [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
def test_every_link_between_pages_works(file: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", file.read_text()):
        assert (file.parent / target).exists(), target


def test_the_counts_of_the_architectures_are_those_of_the_models() -> None:
    command = [sys.executable, str(ROOT / "docs" / "draw_architectures.py"), "--print"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    names = ("lenets", "inception_cell", "depths")
    figures = [(ROOT / "docs" / "images" / f"{name}.svg").read_text() for name in names]
    page = "".join([(ROOT / "docs" / "architectures.md").read_text(), *figures])
    counts = dict(line.split(": ") for line in printed.splitlines())
    assert len(counts) == 20
    assert [name for name, count in counts.items() if not re.search(rf"(?<![\d,]){count}(?![\d,])", page)] == []


RETIRED = (
    r"letters?|go(es|ne)? on with|(is|are) there|(is|are|was) away|what hears|without a word|ever new|by itself alone"
    r"|mend(ed|s)?|told already|taken for dead|the luck of|the plainest|brisk|dear|stands? for"
)
"""Words that read as translated; CHANGELOG may quote them."""


def test_no_retired_word_comes_back() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    files = [ROOT / name for name in tracked.stdout.splitlines()]
    texts = {
        file: file.read_text() for file in files if file.suffix in (".py", ".yaml", ".yml", ".md", ".toml", ".jinja")
    }
    texts.pop(ROOT / "CHANGELOG.md", None)
    texts.pop(Path(__file__), None)
    assert len(texts) > 100, "the files of a git checkout"
    found = {
        f"{file.name}: {match[0]}"
        for file, text in texts.items()
        for match in re.finditer(rf"\b({RETIRED})\b(?!\.json|\.unfinished)", text, flags=re.IGNORECASE)
    }
    assert found == set()
