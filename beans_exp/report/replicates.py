"""The command that adds seeds to configurations, and reuses the runs that they have."""

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import yaml

from beans_exp.report.deciding import DEFAULTS
from beans_exp.report.runs.groups import Group
from beans_exp.schema import CONF, TrackingConfig
from beans_exp.schema.rules import shown
from beans_exp.tracking.params import as_text
from beans_exp.tracking.store import store_uri

SEEDS = 3
OPTIONS = ("model", "data")
"""Groups whose options set more than a name."""


@dataclass(frozen=True)
class Place:
    """Where runs are: the address of the store, and the experiment."""

    uri: str
    experiment: str

    @property
    def overrides(self) -> list[str]:
        """The overrides that a run of this place needs."""
        usual = TrackingConfig()
        found = [] if self.experiment == usual.experiment else [f"tracking.experiment={self.experiment}"]
        return found if self.uri == store_uri(usual) else [*found, f"tracking.uri={self.uri}"]


def command_for_seeds(groups: Sequence[Group], place: Place) -> str:
    """Return a command that runs each of `groups` with three seeds, among them those of its finished runs."""
    seeds = _seeds([group.seeds for group in groups])
    common = [*place.overrides, seeds]
    return " && ".join(shlex.join(["python", "-m", "beans_exp", "-m", *words, *common]) for words in _words(groups))


def _seeds(known: Sequence[Collection[int]]) -> str:
    """Return the override of the seeds that any side has, and of new ones up to three."""
    found = set().union(*known)
    new = (seed for seed in range(SEEDS + len(found)) if seed not in found)
    while len(found) < SEEDS:
        found.add(next(new))
    ordered = sorted(found)
    return f"seed=range({len(ordered)})" if ordered == [*range(len(ordered))] else f"seed={','.join(map(str, ordered))}"


def _words(groups: Sequence[Group]) -> list[list[str]]:
    """Return the overrides of a grid of exactly `groups`: one if they differ in one key, else one for each."""
    every = [overrides(group.values) for group in groups]
    keys = list(dict.fromkeys(key for values in every for key in values))
    apart = [key for key in keys if len({values.get(key) for values in every}) > 1]
    if len(apart) == 1 and apart[0] not in OPTIONS:
        (key,) = apart
        both = ",".join(shown(yaml.safe_load(group.values[key])) for group in groups)
        return [[f"{name}={both if name == key else every[0].get(name)}" for name in keys]]
    return [[f"{name}={value}" for name, value in values.items()] for values in every]


def overrides(values: Mapping[str, str]) -> dict[str, str]:
    """Return the overrides, by key, of a run with these deciding `values`.

    The file of pre-trained weights is that of this machine, and its folder or table of images must be filled in.
    """
    found, usual = {}, dict(DEFAULTS)
    for option in OPTIONS:
        name = yaml.safe_load(values[f"{option}.name"])
        if values[f"{option}.name"] != DEFAULTS[f"{option}.name"]:
            found[option] = str(name)
        usual |= _option(option, name)
    if values["model.weights"] != "null":
        usual["model.weights"] = values["model.weights"]
    if values["data.name"] == "folder":
        found["data.data_dir"] = "DIR"
    if values["data.name"] == "table":
        found["data.file"] = "TABLE"
    kept = (key for key, value in values.items() if value != usual.get(key) and not key.endswith(".name"))
    return found | {key: shown(yaml.safe_load(values[key])) for key in kept}


def _option(group: str, name: str) -> dict[str, str]:
    """Return the values that an option of the project sets; none for an unknown one."""
    file = CONF / group / f"{name}.yaml"
    content = yaml.safe_load(file.read_text()) if file.is_file() else {}
    return {f"{group}.{key}": as_text(value) for key, value in content.items()}
