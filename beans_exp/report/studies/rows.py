"""The rows of studies: the values of their runs, and the figures that the study printed."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from beans_exp.errors import ConfigError, first_line
from beans_exp.metrics import BY_NAME
from beans_exp.report.deciding import DECIDING, deciding_params
from beans_exp.report.studies.checked_yaml import Node, read_yaml
from beans_exp.schema import Config
from beans_exp.tracking.params import flat_params

GROUPS: dict[str, Any] = {item.name: item.type for item in fields(Config) if item.name in DECIDING}
"""The dataclasses of the groups that decide a result."""
IMAGENET = "imagenet"
"""The weights of a study's pre-trained rows, whichever file this machine's environment names."""


@dataclass(frozen=True)
class Row:
    """A row of a study: the values of its runs, and the figures that the study printed."""

    name: str
    title: str
    values: dict[str, str]
    reported: dict[str, float]
    """Printed figures by the names of the metrics."""
    beside: frozenset[str] = frozenset()
    """Keys in which runs may differ from `values` and still count for the row; the difference is noted."""

    def counts(self, values: dict[str, str]) -> bool:
        """Whether runs with `values` count for the row; pre-trained and random weights are never the same row."""
        if (values["model.weights"] == "null") != (self.values["model.weights"] == "null"):
            return False
        return all(values.get(key) == value for key, value in self.values.items() if key not in self.beside)

    def differences(self, values: dict[str, str]) -> dict[str, str]:
        """Return the `values` that differ from the row's, of runs that count for it; unknown keys differ, too."""
        noted = (key for key in values if key in self.beside or key not in self.values)
        return {key: values[key] for key in noted if values[key] != self.values.get(key)}


@dataclass(frozen=True)
class RowFile:
    """A file of `study/`: the row, and the study it belongs to."""

    file: Path
    study: str
    values: dict[str, str]
    reported: dict[str, float]

    @property
    def name(self) -> str:
        """The row's name, by which `study=NAME` chooses it."""
        return self.file.stem


def read_rows(folders: Sequence[Path]) -> list[RowFile]:
    """Return the rows in `study/` of each of `folders`; earlier folders win for the options that rows name.

    The files are read without Hydra, which composes the same values (a test compares them) in many times the time.
    Raises ConfigError for a file that breaks a rule.
    """
    rows: dict[str, RowFile] = {}
    for folder in folders:
        for file in sorted((folder / "study").glob("*.yaml")):
            if file.stem in rows:
                raise name_taken(file, rows[file.stem].file)
            rows[file.stem] = _row(file, folders)
    return list(rows.values())


def name_taken(file: Path, other: Path) -> ConfigError:
    """Return the error for a `file` whose name another folder has, too."""
    return ConfigError(f"{file}: must have a name of its own: {other} exists. Rename it")


def _row(file: Path, folders: Sequence[Path]) -> RowFile:
    entries = read_yaml(file).mapping(required=("study",))
    study = entries["study"].mapping(required=("report",), optional=("name", "reported"))
    reported = study["reported"].mapping() if "reported" in study else {}
    for metric, figure in reported.items():
        Node(file, figure.key, metric).choice(tuple(BY_NAME), "Name the figure by its metric")
    config = _config(file, entries, folders)
    values = deciding_params(flat_params(config))
    if config.model.pretrained:
        values["model.weights"] = IMAGENET
    figures = {metric: figure.number() for metric, figure in reported.items()}
    return RowFile(file, study["report"].text(), values, figures)


def _config(file: Path, entries: dict[str, Node], folders: Sequence[Path]) -> Config:
    """Return the configuration of a row, composed of its options and its own values."""
    options = _chosen_options(entries["defaults"]) if "defaults" in entries else {}
    groups: dict[str, Any] = {}
    for group in DECIDING:
        option = _option(options[group], folders) if group in options else {}
        own = entries[group].mapping() if group in entries else {}
        values = {key: node.value for key, node in (option | own).items()}
        if group == "data":  # where the images are decides nothing, and differs by machine
            values |= {"folder": {"data_dir": "."}, "table": {"file": "."}}.get(str(values.get("name")), {})
        if values:
            groups[group] = _typed(file, group, values)
    return Config(**groups)


def _typed(file: Path, group: str, values: dict[str, Any]) -> Any:
    """Return a group's dataclass; its types and rules are checked."""
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(GROUPS[group]), values))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{file}: {group}.{error.full_key}: {first_line(error)}. Correct the row") from error
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}. Correct the row") from error


def _chosen_options(defaults: Node) -> dict[str, Node]:
    """Return the option of each group that a row's defaults override."""
    found: dict[str, Node] = {}
    for item in defaults.items():
        if item.value == "_self_":
            continue
        for key, option in item.mapping().items():
            group = key.removeprefix("override /")
            if group not in DECIDING:
                rule = f"override /GROUP: OPTION, with a group of {', '.join(DECIDING)}"
                raise Node(item.file, item.key, key).broken(rule, "Write other values as keys of the row")
            found[group] = Node(option.file, f"{item.key}.{key}", option.value)
    return found


def _option(chosen: Node, folders: Sequence[Path]) -> dict[str, Node]:
    group = chosen.key.rpartition("/")[2]
    files = [folder / group / f"{chosen.value}.yaml" for folder in folders]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        known = sorted({option.stem for folder in folders for option in (folder / group).glob("*.yaml")})
        raise chosen.broken(f"one of {', '.join(known)}", f"Choose one, or add {files[-1]}")
    values = read_yaml(file).mapping()
    if "defaults" in values:
        way_out = f"Write its values in {chosen.file.name}"
        raise ConfigError(f"{file}: defaults: must not be in an option of a study's row. {way_out}")
    return values
