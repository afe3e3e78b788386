"""One machine at a time confirms a search."""

import threading
import time

import pytest

from beans_exp.hpo.confirmation_lock import confirmation_lock
from tests.hpo.studies import journal_url, open_test_study, sqlite_url


def test_a_search_is_confirmed_by_one_machine_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beans_exp.hpo.leases.WAIT_SECONDS", 0.01)
    order: list[str] = []
    with open_test_study(journal_url()) as study:

        def follow() -> None:
            with confirmation_lock(study):
                order.append("second")

        with confirmation_lock(study):
            waiting = threading.Thread(target=follow)
            waiting.start()
            time.sleep(0.3)
            order.append("first")
        waiting.join()
    assert order == ["first", "second"]


def test_a_database_of_one_machine_needs_no_lock() -> None:
    with open_test_study(sqlite_url()) as study, confirmation_lock(study), confirmation_lock(study):
        pass
