"""A heartbeat: an action that a daemon thread repeats while its owner works."""

import threading
from collections.abc import Callable
from contextlib import suppress

BEAT_SECONDS = 30.0


class Heartbeat:
    """Calls `beat` every `seconds`, from `start` to `stop`."""

    def __init__(self, beat: Callable[[], None], seconds: float = BEAT_SECONDS) -> None:
        self.beat = beat
        self.seconds = seconds
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start the thread; a beat that raises is skipped: its storage may be unreachable for a while."""
        threading.Thread(target=self._repeat, daemon=True).start()

    def stop(self) -> None:
        """End the thread after the beat that it may be in."""
        self._stopped.set()

    def _repeat(self) -> None:
        while not self._stopped.wait(self.seconds):
            with suppress(Exception):
                self.beat()
