"""A lock for confirming a search: one of the machines that share its study does it, the others wait."""

from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.trial import TrialState

from beans_exp.hpo.study import SharedStudy


@contextmanager
def confirmation_lock(study: SharedStudy) -> Iterator[None]:
    """Wait until no other process that shares the storage of `study` is in the block.

    A storage has no locks; the trials of a second study are the queue, and a dead process loses its place in it.
    """
    if study.url.startswith("sqlite:///"):  # one machine, where runs wait for each other
        yield
        return
    name = f"{study.name}.confirmation"
    queue = optuna.create_study(storage=study.study._storage, study_name=name, load_if_exists=True)
    with SharedStudy(study.url, queue, {}) as places:
        place = places.ask()
        try:
            places.leases.wait_for(lambda trial: trial.number < place.number, "confirm the search")
            yield
        finally:
            places.tell(place, 0.0, TrialState.COMPLETE)
