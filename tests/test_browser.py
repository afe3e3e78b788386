"""The MLflow page of a sweep in a browser. A local page can be tested with the fixture `watched` alone."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import mlflow
import pytest
from mlflow.entities import Run

from tests.conftest import TINY
from tests.forked import run_forked
from tests.servers import ui

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

pytestmark = pytest.mark.xdist_group("browser")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Response

BROWSER = (
    os.environ.get("BEANS_EXP_BROWSER") or which("chromium") or which("chromium-browser") or which("google-chrome")
)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ONE_PROCESS = "hydra/launcher=basic"
MILLISECONDS = 60_000
"""How long an element may take to appear on a busy machine."""
KNOWN = (
    "/mlflow/users/current",  # MLflow 3.17 requests the current user even from servers without logins: 404
    "ResizeObserver loop completed with undelivered notifications.",  # harmless: the browser draws one frame later
)
"""Known problems of MLflow's own page: the ends of addresses and messages."""


@dataclass
class Watched:
    """A new page of the browser, and every problem on it."""

    page: "Page"
    problems: list[str] = field(default_factory=list)
    """Console errors, uncaught exceptions, and responses of 400 and above."""
    requests: list[str] = field(default_factory=list)
    """Every requested address."""

    def __post_init__(self) -> None:
        self.page.set_default_timeout(MILLISECONDS)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        self.page.on("response", self._response)
        self.page.on("request", lambda request: self.requests.append(request.url))

    def _console(self, message: "ConsoleMessage") -> None:
        known = message.location["url"].endswith(KNOWN) or message.text.endswith(KNOWN)
        if message.type == "error" and not known:
            self.problems.append(f"console: {message.text}")

    def _response(self, response: "Response") -> None:
        if response.status >= 400 and not response.url.endswith(KNOWN):
            self.problems.append(f"{response.status}: {response.url}")

    def outside(self, home: str) -> list[str]:
        """Return the requested addresses outside `home`."""
        return [address for address in self.requests if not address.startswith((home, f"blob:{home}", "data:"))]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Debian's Chromium, or the program in BEANS_EXP_BROWSER, with a temporary profile."""
    if BROWSER is None:
        pytest.skip("no browser: apt install chromium, or set BEANS_EXP_BROWSER")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def watched(browser: "Browser") -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    yield Watched(context.new_page())
    context.close()


def see(found: "Locator") -> None:
    """Wait until `found` is visible."""
    playwright.expect(found).to_be_visible(timeout=MILLISECONDS)


PAGE = """<!doctype html><title>page</title><h1>Figures</h1><a href="#end">on</a>
<img alt="red" src="data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>">
<h2 id="end">End</h2>{script}"""


def test_a_correct_local_page_has_no_problems(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(PAGE.format(script=""))
    watched.page.goto((tmp_path / "page.html").as_uri())
    watched.page.get_by_role("link", name="on").click()
    see(watched.page.get_by_role("heading", name="End"))
    assert watched.page.url.endswith("#end")
    assert watched.page.get_by_alt_text("red").evaluate("picture => picture.naturalWidth") == 9
    assert watched.problems == []
    assert watched.outside(tmp_path.as_uri()) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("<script>console.error('oh')</script>", "console: oh"),
        ("<script>nothing()</script>", "nothing is not defined"),
        ("<img src='missing.png'>", "missing.png|ERR_FILE_NOT_FOUND"),
    ],
)
def test_a_faulty_page_has_problems(fault: str, message: str, watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(PAGE.format(script=fault))
    watched.page.goto((tmp_path / "page.html").as_uri(), wait_until="load")
    assert any(part in problem for part in message.split("|") for problem in watched.problems)


@dataclass(frozen=True)
class Sweep:
    """The page of an experiment with one sweep of two runs."""

    address: str
    experiment: str
    parent: Run
    children: list[Run]

    @property
    def runs_page(self) -> str:
        return f"{self.address}/#/experiments/{self.experiment}/runs?workflowType=machine_learning"

    def run_page(self, tab: str = "") -> str:
        return f"{self.address}/#/experiments/{self.experiment}/runs/{self.children[0].info.run_id}{tab}"


@pytest.fixture(scope="module")
def sweep(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    """A real sweep, served by the command in README; `browser` comes first, so that nothing is trained without one."""
    folder = tmp_path_factory.mktemp("sweep")
    words = ["-m", ONE_PROCESS, *TINY, "trainer.epochs=2", "kernel.filters=[2,2,4]", "reg=none,l2"]
    variables = {"XDG_CACHE_HOME": str(folder / "cache")}
    run_forked(*words, folder=folder, env=variables, timeout=600).check_returncode()
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("beans_exp")
    assert experiment is not None
    *children, parent = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    with ui(folder) as shown:
        yield Sweep(shown.address, experiment.experiment_id, parent, children)


def _row(watched: Watched, run: Run) -> "Locator":
    return watched.page.get_by_role("row").filter(has=_link(watched, run))


def _link(watched: Watched, run: Run) -> "Locator":
    return watched.page.get_by_role("link", name=run.info.run_name, exact=True)


def _unfold(watched: Watched, sweep: Sweep) -> None:
    """Open the list of runs and unfold the parent run."""
    watched.page.goto(sweep.runs_page)
    _row(watched, sweep.parent).locator("[col-id*='Run Name']").get_by_role("button").click()


def test_the_page_nests_runs_under_their_sweep(watched: Watched, sweep: Sweep) -> None:
    watched.page.goto(sweep.runs_page)
    see(_link(watched, sweep.parent))
    for child in sweep.children:
        playwright.expect(_link(watched, child)).to_be_hidden()
    _unfold(watched, sweep)
    for child in sweep.children:
        see(_link(watched, child))
    assert watched.problems == []
    assert watched.outside(sweep.address) == []


def test_a_run_shows_its_sweep_and_data_set(watched: Watched, sweep: Sweep) -> None:
    watched.page.goto(sweep.run_page())
    see(watched.page.get_by_role("heading", name=sweep.children[0].info.run_name))
    see(_link(watched, sweep.parent))
    see(watched.page.get_by_text("Finished", exact=True))
    see(watched.page.get_by_text("synthetic (").first)
    assert watched.problems == []


def test_a_run_shows_its_curves(watched: Watched, sweep: Sweep) -> None:
    watched.page.goto(sweep.run_page())
    watched.page.get_by_role("tab", name="Model metrics").click()
    watched.page.get_by_placeholder("Search metric charts").fill("val/accuracy")
    see(watched.page.get_by_text("(val/accuracy)"))
    playwright.expect(watched.page.locator(".scatterlayer path.point")).to_have_count(2, timeout=MILLISECONDS)
    assert watched.problems == []


def test_a_run_shows_its_artifacts(watched: Watched, sweep: Sweep) -> None:
    watched.page.goto(sweep.run_page())
    watched.page.get_by_role("tab", name="Artifacts").click()
    for name in ("config.yaml", "confusion_matrix.png", "predictions.csv"):
        see(watched.page.get_by_text(name, exact=True).first)
    watched.page.get_by_text("curves.png", exact=True).first.click()
    picture = watched.page.get_by_role("img", name="curves.png").first
    see(picture)
    assert picture.evaluate("picture => picture.naturalWidth") > 100
    assert watched.problems == []


def test_two_runs_are_compared_side_by_side(watched: Watched, sweep: Sweep) -> None:
    _unfold(watched, sweep)
    for child in sweep.children:
        _row(watched, child).get_by_role("checkbox").first.check()
    watched.page.get_by_role("button", name="Compare").click()
    see(watched.page.get_by_role("heading", name="Comparing 2 Runs"))
    shown = watched.page.get_by_role("row").filter(has_text="reg.l2")
    for value in ("0.0", "0.01"):
        see(shown.get_by_text(value, exact=True))
    for child in sweep.children:
        see(watched.page.get_by_role("link", name=child.info.run_id))
    assert watched.problems == []


@dataclass(frozen=True)
class Comparison:
    """The pages that compare a LeNet and an Inception run, and the names of the runs."""

    address: str
    curves: str
    side_by_side: str
    names: list[str]


@pytest.fixture(scope="module")
def comparison(browser: "Browser", weights: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comparison]:
    """Two jobs of `experiment=lenet_vs_inception` on drawn leaves, compared by the command in README."""
    folder = tmp_path_factory.mktemp("comparison")
    words = ["experiment=lenet_vs_inception", "study=lenet,inception_top2", *TINY]
    words += ["data.image_size=75", "trainer.epochs=2", "finetune.epochs=1", "kernel.filters=[2,2,4]"]
    words += ["tracking.save_model=none", ONE_PROCESS]
    variables = {"XDG_CACHE_HOME": str(folder / "cache"), "BEANS_EXP_INCEPTION_WEIGHTS": weights}
    run_forked(*words, folder=folder, env=variables, timeout=600).check_returncode()
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("beans_exp")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "params.`model.name` != ''")  # all but the parent run
    with ui(folder, *(run.info.run_id[:8] for run in runs), pages=2) as shown:
        curves, side_by_side = shown.pages.values()
        yield Comparison(shown.address, curves, side_by_side, [run.info.run_name for run in runs])


def test_lenet_and_inception_are_on_one_chart(watched: Watched, comparison: Comparison) -> None:
    watched.page.goto(comparison.curves)
    see(watched.page.get_by_role("heading", name="val/accuracy").first)
    assert len(comparison.names) == 2
    for name in comparison.names:
        see(watched.page.get_by_text(f"{name} (val/accuracy)"))
    playwright.expect(watched.page.locator(".scatterlayer")).to_have_count(1, timeout=MILLISECONDS)
    curves = watched.page.locator(".scatterlayer path.js-line:not([style*='stroke-opacity: 0.'])")  # with faint doubles
    playwright.expect(curves).to_have_count(2, timeout=MILLISECONDS)
    assert watched.problems == []
    assert watched.outside(comparison.address) == []


def test_lenet_and_inception_are_compared_side_by_side(watched: Watched, comparison: Comparison) -> None:
    watched.page.goto(comparison.side_by_side)
    see(watched.page.get_by_role("heading", name="Comparing 2 Runs"))
    for name in comparison.names:
        see(watched.page.get_by_text(name, exact=True).first)
    shown = watched.page.get_by_role("row").filter(has_text="model.name")
    for value in ("lenet", "inception"):
        see(shown.get_by_text(value, exact=True))
    assert watched.problems == []
