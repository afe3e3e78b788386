"""`python -m beans_exp.report`: finished runs side by side, with statistics and figures, as one page."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from beans_exp.files import user_path
from beans_exp.schema import TrackingConfig
from beans_exp.schema.python_source import use_folder
from beans_exp.startup.console import add_experiment, errors_as_messages
from beans_exp.startup.imports import no_collections, quiet_libraries


def main(words: Sequence[str] | None = None) -> None:
    """Write the report that the command line `words` describe; an error is one line and exit status 1."""
    options = _parser().parse_args(words)
    quiet_libraries()
    with errors_as_messages():
        _report(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m beans_exp.report", description="Compare finished runs on one page: tables, statistics, figures."
    )
    add_experiment(parser)
    parser.add_argument("--sweep", help="one sweep: its id or its parent run's, or the first 8 characters")
    parser.add_argument("--filter", default="", help="an MLflow filter, such as \"params.`model.name` = 'lenet'\"")
    parser.add_argument("--baseline", help="compare all with this configuration, study row or run id")
    parser.add_argument(
        "--config-dir", type=user_path, metavar="DIR", help="a folder with studies and models of your own"
    )
    parser.add_argument("--threshold", type=_share, default=0.75, help="validation accuracy for convergence (0.75)")
    parser.add_argument(
        "--margin", type=_points, default=5.0, help="points by which accuracies may differ and still be the same (5)"
    )
    parser.add_argument("--data-dir", help="the folder of the test images, or the table of data=table")
    parser.add_argument("--no-images", action="store_true", help="leave out test images and Grad-CAM")
    parser.add_argument("--out", type=Path, default=Path("report"), help="the folder to write to (report)")
    return parser


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0 and at most 1")
    return value


def _points(text: str) -> float:
    value = float(text)
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0 and below 100")
    return value


def _report(words: argparse.Namespace) -> None:
    with no_collections():
        from beans_exp.report.build import build_report, write_report
        from beans_exp.report.findings import ReportOptions
        from beans_exp.tracking.reader import open_reader
        from beans_exp.tracking.store import store_uri

    use_folder(words.config_dir)
    reader = open_reader(store_uri(TrackingConfig(uri=words.tracking_uri)), words.experiment)
    sweep = reader.sweep(words.sweep) if words.sweep else None
    options = ReportOptions(
        words.filter,
        sweep,
        words.baseline,
        words.threshold,
        words.data_dir,
        not words.no_images,
        words.config_dir,
        words.margin / 100,
    )
    report = build_report(reader, options)
    files = write_report(report, words.out)
    for title, lines in report.summary:
        print(f"{title}\n" + "\n".join(f"  {line}" for line in lines))
    for problem in report.problems:
        print(f"note: {problem}")
    if sweep:
        reader.attach(sweep.parent, files)
        print(f"attached to the run {sweep.parent}, under report/")
    print(f"open {files[0].resolve()}")


if __name__ == "__main__":
    main()
