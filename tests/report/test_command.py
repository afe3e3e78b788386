"""`python -m beans_exp.report` as a user runs it: its files, its output, its errors."""

from pathlib import Path

import pytest

from beans_exp.report.__main__ import main
from beans_exp.schema import Config
from beans_exp.tracking.store import open_store
from tests.report.conftest import L2
from tests.report.simulated import Point, Writer

pytestmark = pytest.mark.xdist_group("report")


def test_the_command_writes_the_page_and_prints_its_verdicts(
    store: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    main(["grid", "--tracking-uri", store, "--out", "made/here", "--no-images", "--threshold", "0.6", "--margin", "60"])
    printed = capsys.readouterr().out
    assert "the same within 60 points" in printed
    assert "LeNet + L2 0.01 against LeNet: better" in printed
    assert f"open {tmp_path / 'made/here/report.html'}" in printed
    names = {file.name for file in Path("made/here").iterdir()}
    assert names == {"report.html", "report.md", "runs.csv", "configurations.csv", "comparisons.csv"}
    assert "epochs to 60 %" in Path("made/here/report.md").read_text()
    for line in Path("made/here/report.md").read_text().splitlines():
        assert "{{" not in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["empty"], "no runs to report: the experiment empty has none"),
        (
            ["grid", "--filter", "params.seed = '99'"],
            "no runs to report: the experiment grid with params.seed = '99' has",
        ),
        (["grid", "--filter", "this is no filter"], "Invalid"),
        (["nothing"], "has no experiment nothing. It has Default"),
        (["grid", "--sweep", "12345678"], "12345678 is no sweep of the experiment grid"),
        (["one", "--baseline", "resnet"], "--baseline=resnet: must be"),
        (["one", "--config-dir", "nowhere"], "nowhere: must be a folder with report/*.yaml. Name the folder above"),
        (["one", "--out", "file/report", "--no-images"], "the report cannot be written"),
    ],
)
def test_bad_input_is_one_line(store: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("in the folder's place")
    with pytest.raises(SystemExit) as ended:
        main([*words, "--tracking-uri", store])
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("margin", ["0", "100", "-5", "nan", "five"])
def test_a_margin_must_be_points_between_0_and_100(margin: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--margin={margin}"])
    assert ended.value.code == 2
    assert "--margin" in capsys.readouterr().err


def test_a_folder_without_a_store_is_named_and_nothing_is_created(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "no store" in capsys.readouterr().err
    assert not Path("mlruns").exists()


def test_runs_that_all_failed_make_a_page_without_comparisons(store: str) -> None:
    writer = Writer(store, open_store(store, "failed"))
    writer.write(Point(Config(), 0.5, 1), status="failed")
    writer.write(Point(Config(reg=L2), 0.5, 1), status="pruned")
    main(["failed", "--tracking-uri", store])
    page = Path("report/report.html").read_text()
    assert "Nothing could be compared" in page
    assert "1 failed" in page
    assert "1 pruned" in page


def test_times_of_runs_with_different_numbers_of_threads_are_not_comparable(store: str) -> None:
    writer = Writer(store, open_store(store, "threads"))
    for number, threads in enumerate(("2", "16")):
        run_id = writer.write(Point(Config(seed=number), 0.5, 1))
        writer.client.set_tag(run_id, "beans.threads", threads)
    main(["threads", "--tracking-uri", store, "--no-images"])
    assert "runs used 2 or 16 threads: their times are not comparable" in Path("report/report.html").read_text()


def test_one_run_with_one_seed_makes_a_page(store: str) -> None:
    main(["one", "--tracking-uri", store, "--no-images"])
    page = Path("report/report.html").read_text()
    assert "Every configuration has a single seed" in page
