"""An open sweep: its folder, its parent run, and the overrides that its jobs are started with."""

import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from beans_exp.errors import BeansExpError, StorageError, StoreError
from beans_exp.launcher.diagnosis import JobError
from beans_exp.locks import locked
from beans_exp.schema import TrackingConfig
from beans_exp.schema.composed import user_overrides
from beans_exp.schema.groups import EXPERIMENT_VARIABLE
from beans_exp.sweep.point import Point
from beans_exp.tracking.outbox import count_queued, send_all_queued, send_queued
from beans_exp.tracking.parent_run import Outcome, ParentRun, open_parent
from beans_exp.tracking.patience import patiently
from beans_exp.tracking.resume import close_dead_runs
from beans_exp.tracking.store import open_unless_unavailable, store_uri, ui_hint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenSweep:
    """A sweep's id, store, experiment, folder and open parent run."""

    sweep_id: str
    uri: str
    experiment_id: str | None
    """None: its server is unreachable."""
    parent: ParentRun
    folder: Path

    @property
    def hint(self) -> str:
        """How to see the sweep in a browser."""
        if self.experiment_id is None:
            command = shlex.join(["python", "-m", "beans_exp.sync", str(self.folder)])
            return f"saved locally; once its server is reachable, run: {command}"
        return ui_hint(self.uri, self.experiment_id, self.sweep_id)

    def job_overrides(self, point: Point, added: Mapping[str, Any]) -> list[str]:
        """Return the overrides of a job: the point's, and those that the parent process adds, `added` included."""
        all_added: dict[str, Any] = {
            "sweep.id": self.sweep_id,
            "sweep.opened": int(self.parent.opened),
            "sweep.fingerprint": point.fingerprint,
            "tracking.uri": quoted(self.uri),
        }
        if EXPERIMENT_VARIABLE in os.environ:  # another host may lack it
            all_added["tracking.experiment"] = quoted(point.config.tracking.experiment)
        all_added |= {"sweep.parent_run": self.parent.run_id} if self.parent.run_id else {}
        all_added |= {"trainer.precision": point.config.trainer.precision} if point.precision_was_auto else {}
        return [*point.overrides, *(f"{key}={value}" for key, value in {**all_added, **added}.items())]

    def close_open_run(self, fingerprint: str, error: BaseException | None) -> None:
        """End the run of a job whose process died before it could."""
        if isinstance(error, JobError):
            self.parent.close_run(fingerprint, error.kind, error.message)
        elif isinstance(error, StorageError | StoreError):
            self.parent.close_run(fingerprint, "killed", str(error))

    def send_queued(self) -> None:
        """Send what jobs could not send: this is the sweep's last chance."""
        if count := count_queued(self.folder):
            patience = self.parent.patience
            text = "sending %d updates that jobs left, for %g seconds a run at most (tracking.patience)"
            log.info(text, count, patience)
            send_all_queued(self.folder, patience)

    def close(self, outcomes: Sequence[Outcome]) -> None:
        """End the parent run; if no disk takes its end, one line says so, and the same command ends it."""
        try:
            self.parent.close(outcomes)
        except (OSError, StoreError) as error:
            log.error("the end of the sweep could not be written: %s. Run the same command again", error)

    def report_unsent(self) -> bool:
        """Print how much is not sent and how to send it; return whether there is any."""
        count = count_queued(self.folder)
        if count:
            command = shlex.join(["python", "-m", "beans_exp.sync", str(self.folder)])
            print(f"unsent: {count} updates for {self.uri}. Once it is reachable, send them with: {command}")
        return count > 0

    def close_interrupted_run(self, fingerprint: str) -> None:
        """End the run of a job that was running when the sweep was interrupted, if its process is known to be dead."""
        self.parent.close_run(fingerprint, "killed", "the sweep was interrupted", if_dead=True)


def open_sweep(config: DictConfig, tracking: TrackingConfig, sweep_id: str) -> OpenSweep:
    """Make the sweep's folder, store, experiment and parent run, before the first job starts.

    Runs that a dead process left open are closed. Raises StoreError for a store that cannot be used.
    """
    folder = _sweep_folder(config, sweep_id)
    uri = store_uri(tracking)
    experiment_id = open_unless_unavailable(tracking, offline=tracking.offline)
    name = " ".join(user_overrides(config.hydra.overrides.task))[:250]
    with locked(folder / ".lock", "is opening the same sweep"):
        if experiment_id is not None:
            patiently(uri, tracking.patience, lambda: _settle(folder, str(experiment_id)))
        parts = (uri, tracking.experiment, experiment_id, sweep_id, name, folder, tracking.patience)
        parent = patiently(uri, tracking.patience, lambda: open_parent(*parts))
    return OpenSweep(sweep_id, uri, experiment_id, parent, folder)


def _settle(folder: Path, experiment_id: str) -> None:
    """Send what an earlier command left, and close the runs of dead processes."""
    send_queued(folder)
    close_dead_runs(experiment_id)


def _sweep_folder(config: DictConfig, sweep_id: str) -> Path:
    """Make the sweep's folder, named by the sweep, and save the configuration in it, as Hydra's sweeper does."""
    with read_write(config), open_dict(config):
        config.sweep.id = sweep_id
    folder = Path(config.hydra.sweep.dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, folder / "multirun.yaml")
    except OSError as error:
        raise BeansExpError(f"the output folder {folder} cannot be written ({error}). Set hydra.sweep.dir") from error
    return folder


def silence_launcher(launcher: Launcher) -> None:
    """Keep `launcher` from printing the overrides of its jobs, most of which the user did not choose."""
    logging.getLogger(type(launcher).__module__).setLevel(logging.WARNING)


def quoted(text: str) -> str:
    """Return `text` as a quoted string of Hydra's override grammar."""
    return QuotedString(text, Quote.single).with_quotes()
