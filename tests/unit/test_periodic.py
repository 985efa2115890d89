"""The periodic tasks: a run that hangs holds one thread of its worker, not one more with every second."""

import threading

import pytest

from workers import tasks

PERIODIC = {
    "pump": tasks.pump_submissions,
    "watch": tasks.watch_accounts,
    "prune_rows": tasks.prune,
    "sweep": tasks.sweep_stale,
}


@pytest.fixture(autouse=True)
def _without_a_runtime(monkeypatch):
    monkeypatch.setenv("KIEJOBS_BROKER_URL", "redis://127.0.0.1:1/0")  # Celery asks for its settings; nobody connects
    monkeypatch.setattr(tasks, "runtime", lambda: None)
    monkeypatch.setattr(tasks, "tally", lambda rt: None)


@pytest.mark.parametrize("work", PERIODIC)
def test_what_comes_while_one_hangs_is_dropped(monkeypatch, work):
    runs, hangs, go_on = [], threading.Event(), threading.Event()

    def hang(rt):
        runs.append(rt)
        hangs.set()
        assert go_on.wait(10)

    monkeypatch.setattr(tasks, work, hang)
    first = threading.Thread(target=PERIODIC[work])
    first.start()
    assert hangs.wait(10)
    PERIODIC[work]()
    assert len(runs) == 1
    go_on.set()
    first.join(10)
    PERIODIC[work]()
    assert len(runs) == 2


@pytest.mark.parametrize("work", PERIODIC)
def test_one_that_fails_does_not_bar_the_next(monkeypatch, work):
    def fail(rt):
        raise ValueError("no luck")

    monkeypatch.setattr(tasks, work, fail)
    for _ in range(2):
        with pytest.raises(ValueError, match="no luck"):
            PERIODIC[work]()
