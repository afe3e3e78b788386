"""A callback of a user, which Hydra calls when a sweep has ended."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class NoteEnd(Callback):
    """Leaves a file."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        Path("ended").touch()
