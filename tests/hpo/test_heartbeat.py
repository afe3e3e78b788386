"""The heartbeat beats until it is stopped, also after a beat that failed."""

import threading

from beans_exp.hpo.heartbeat import Heartbeat


def test_beats_continue_after_an_error_and_end_with_stop() -> None:
    beats = threading.Semaphore(0)

    def beat() -> None:
        beats.release()
        raise ConnectionError

    heartbeat = Heartbeat(beat, seconds=0.01)
    heartbeat.start()
    assert all(beats.acquire(timeout=10) for _ in range(3))
    heartbeat.stop()
    while beats.acquire(timeout=0.2):
        pass
