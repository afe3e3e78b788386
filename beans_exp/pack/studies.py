"""The study of a search as a member of the file."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from beans_exp.hpo.packed_study import PackedStudy, read_study
from beans_exp.hpo.trial_attrs import RUN
from beans_exp.pack.portable import Scrubber


def portable_study(
    tag: str, storage: str, scrubber: Scrubber, ids: Mapping[str, str]
) -> tuple[PackedStudy | None, str | None]:
    """Return the study that a parent run names in its `tag`, and a note if it is left out; `ids` are the packed ids.

    It is looked for in `storage` only: an address that a tag names is never opened. Raises StoreError.
    """
    try:
        known = json.loads(tag)
        name, wanted = str(known["name"]), int(known["wanted"])
    except (KeyError, TypeError, ValueError):
        return None, "the trials of a search were left out: its tag does not name a study"
    study = read_study(storage, name, wanted)
    if study is None:
        return None, f"the trials of {name} were left out: {storage} lacks them. Name theirs with --storage"
    if scrubber.text(study.name) != study.name:
        return None, f"the trials of {study.name} were left out: its name is a path"
    return _scrubbed(study, scrubber, ids), None


def _scrubbed(study: PackedStudy, scrubber: Scrubber, ids: Mapping[str, str]) -> PackedStudy:
    description = study.description if scrubber.tree(study.description) == study.description else None
    trials: list[dict[str, Any]] = scrubber.tree(study.trials)
    for trial in trials:
        if RUN in trial["user"]:
            trial["user"][RUN] = ids.get(trial["user"][RUN], "")
    return replace(study, description=description, trials=trials)
