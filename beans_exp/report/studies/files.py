"""Studies read from `report/` of a configuration folder: YAML files that users write."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from beans_exp.errors import ConfigError
from beans_exp.report.deciding import DEFAULTS
from beans_exp.report.studies.checked_yaml import Node, read_yaml
from beans_exp.report.studies.rows import Row, RowFile, name_taken, read_rows
from beans_exp.report.studies.study import PRETRAINED, Contrast, Family, PlannedTable, Study, Trend
from beans_exp.schema import CONF

EPOCH_COLUMNS = ("row", "epoch", "train_accuracy", "val_accuracy")
RESERVED = ("others", "together", "errors", "images", "short", "how", "main", "problems")
"""Ids of other parts of the page."""


def load_studies(own: Path | None = None) -> list[Study]:
    """Return the studies of the folder `own`, if given, then those of the package.

    Raises ConfigError for a folder without studies, and for a file that breaks a rule.
    """
    folders = [CONF] if own is None or own == CONF else [CONF, own]
    if own is not None and not any(file for group in ("report", "model") for file in (own / group).glob("*.yaml")):
        raise ConfigError(f"--config-dir={own}: must be a folder with report/*.yaml. Name the folder above report/")
    rows = read_rows(folders)
    files: dict[str, Path] = {}
    for folder in folders:
        for file in sorted((folder / "report").glob("*.yaml")):
            if file.stem in files:
                raise name_taken(file, files[file.stem])
            files[file.stem] = file
    _require_studies(rows, files)
    studies = [_study(file, [row for row in rows if row.study == name]) for name, file in files.items()]
    _require_unique_keys(studies, files)
    return sorted(studies, key=lambda study: files[study.name].is_relative_to(CONF))


def _require_studies(rows: Sequence[RowFile], files: Mapping[str, Path]) -> None:
    for row in rows:
        Node(row.file, "study.report", row.study).choice(tuple(files), f"Name a file of report/: {row.study}.yaml")


def _require_unique_keys(studies: Sequence[Study], files: Mapping[str, Path]) -> None:
    """Raise ConfigError if two parts of the page have the same key."""
    taken = dict.fromkeys(RESERVED, "the report itself")
    for study in studies:
        parts: tuple[PlannedTable | Contrast | Trend, ...] = (*study.tables, *study.contrasts, *study.trends)
        for part in parts:
            if part.key in taken:
                raise ConfigError(
                    f"{files[study.name]}: key={part.key}: must be unique, and {taken[part.key]} has it. Rename it"
                )
            taken[part.key] = str(files[study.name])


def _study(file: Path, rows: Sequence[RowFile]) -> Study:
    optional = ("rows", "tables", "contrasts", "trends", "epochs")
    entries = read_yaml(file).mapping(required=("title",), optional=optional)
    known = _rows(entries.get("rows", Node(file, "rows", {})), rows)
    parts = {name: list(entries[name].items()) if name in entries else [] for name in optional[1:4]}
    study = Study(
        file.stem,
        entries["title"].text(),
        known,
        [_table(node, known) for node in parts["tables"]],
        [_contrast(node) for node in parts["contrasts"]],
        [_trend(node, known) for node in parts["trends"]],
        _epochs(entries["epochs"], known) if "epochs" in entries else {},
    )
    for row in rows:
        if row.name not in study.order:
            raise ConfigError(f"{row.file}: study.report={file.stem}: no table there has the row. Add it to {file}")
    return study


def _rows(titles: Node, files: Sequence[RowFile]) -> dict[str, Row]:
    """Return the rows with their titles; trainer keys in which rows differ distinguish them."""
    named = titles.mapping(optional=[row.name for row in files])
    trainer = {key for row in files for key in row.values if key.startswith("trainer.")}
    varied = {key for key in trainer if len({row.values[key] for row in files}) > 1}
    beside = frozenset({"model.weights", *trainer} - varied)
    rows: dict[str, Row] = {}
    for row in files:
        title = named[row.name].text() if row.name in named else row.name
        equal = next((other for other in files if other is not row and other.values == row.values), None)
        if equal is not None:
            rule = f"different from {equal.name}: weights files, labels and memory limits do not make another row"
            raise ConfigError(f"{row.file}: its values must be {rule}. Change one, or remove it")
        rows[row.name] = Row(row.name, title, row.values, row.reported, beside)
    return rows


def _table(node: Node, rows: Mapping[str, Row]) -> PlannedTable:
    entries = node.mapping(required=("key", "title", "rows"), optional=("question", "baseline"))
    names = _row_names(entries["rows"], rows)
    baseline = entries["baseline"].choice(names, "Choose a row of the table") if "baseline" in entries else None
    question = entries["question"].text() if "question" in entries else ""
    return PlannedTable(_key(entries["key"]), entries["title"].text(), question, names, baseline)


def _row_names(node: Node, rows: Mapping[str, Row]) -> tuple[str, ...]:
    way_out = f"Add a file to study/ with study.report: {node.file.stem}"
    return tuple(dict.fromkeys(item.choice(tuple(rows), way_out) for item in node.items()))


def _contrast(node: Node) -> Contrast:
    entries = node.mapping(required=("key", "title", "families"), optional=("question",))
    families = [_family(item) for item in entries["families"].items()]
    if len(families) != 2:
        raise entries["families"].broken("two families, the baseline first", "Write one list item for each")
    question = entries["question"].text() if "question" in entries else ""
    return Contrast(_key(entries["key"]), entries["title"].text(), question, (families[0], families[1]))


def _family(node: Node) -> Family:
    values = node.mapping(optional=(PRETRAINED, *DEFAULTS))
    return Family({key: item.value if isinstance(item.value, list) else [item.value] for key, item in values.items()})


def _trend(node: Node, rows: Mapping[str, Row]) -> Trend:
    entries = node.mapping(required=("key", "title", "value", "label", "rows"), optional=())
    value = entries["value"].choice(tuple(DEFAULTS), "Choose the key that the rows vary")
    names = _row_names(entries["rows"], rows)
    trend = Trend(_key(entries["key"]), entries["title"].text(), value, entries["label"].text(), names)
    for name in names:
        Node(node.file, f"{name}: {value}", yaml.safe_load(rows[name].values[value])).number()
    return trend


def _key(node: Node) -> str:
    if not re.fullmatch(r"[a-z][a-z_]*", node.text()):
        raise node.broken("made of a to z and underscores", "Rename it; links and comparisons.csv use it")
    return node.text()


def _epochs(node: Node, rows: Mapping[str, Row]) -> dict[str, np.ndarray]:
    """Return the epochs that a study printed, from a CSV file of `study/`."""
    file = node.file.parent.parent / "study" / node.text()
    if not file.is_file():
        raise node.broken("a CSV file in study/", f"Add {file}")
    with file.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    found: dict[str, list[list[float]]] = {}
    for number, line in enumerate(lines, start=2):
        try:
            found.setdefault(line["row"], []).append([float(line[name]) for name in EPOCH_COLUMNS[1:]])
        except (KeyError, TypeError, ValueError) as error:
            rule = f"must have numbers in the columns {', '.join(EPOCH_COLUMNS[1:])}, and a row"
            raise ConfigError(f"{file}: line {number}: {rule}. Correct it") from error
        Node(file, f"line {number}: row", line["row"]).choice(
            tuple(rows), f"Correct it, or add study/{line['row']}.yaml"
        )
    return {name: np.array(values) for name, values in found.items()}
