"""Beat sends what is due when it is due, and sleeps until then."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import celery.beat
import pytest
from celery import Celery
from celery.schedules import schedule
from kombu.utils.imports import symbol_by_name

from workers.scheduler import Scheduler

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


class Clock:
    """A moment that moves when it is told to."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def ticks_for(
    kind: type[celery.beat.Scheduler], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, list[float]]:
    """Let a scheduler with a task for each second run on a clock that moves by what it asks to sleep; a tick takes 50 µs."""
    clock = Clock()
    app = Celery("test", broker="memory://", set_as_current=False)
    app.conf.update(timezone="UTC", beat_max_loop_interval=5)
    monkeypatch.setattr(celery.beat.ScheduleEntry, "default_now", lambda _: clock.now)
    every = schedule(timedelta(seconds=1), nowfun=clock, app=app)
    app.conf.beat_schedule = {"pump": {"task": "pump", "schedule": every}}
    sent: list[float] = []
    scheduler = kind(app=app)
    monkeypatch.setattr(scheduler, "apply_entry", lambda *_, **__: sent.append((clock.now - NOON).total_seconds()))
    count = 0
    while (clock.now - NOON).total_seconds() < seconds:
        sleep_s = scheduler.tick()
        count += 1
        clock.now += timedelta(seconds=max(sleep_s or 0.0, 0.0) + 50e-6)
    return count, sent


def test_each_second_costs_a_few_ticks_and_none_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's own takes a hundred and more in the last ten milliseconds before each."""
    count, sent = ticks_for(Scheduler, 10.0, monkeypatch)
    assert len(sent) == pytest.approx(10, abs=1)
    assert all(1.0 <= later - earlier < 1.01 for earlier, later in pairwise(sent))
    assert count <= 4 * len(sent)
    assert ticks_for(celery.beat.Scheduler, 10.0, monkeypatch)[0] > 50 * len(sent)


def test_beat_is_told_to_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the configuration that every process reads."""
    monkeypatch.setenv("KIEJOBS_BROKER_URL", "redis://127.0.0.1:1/0")
    app = Celery("test", set_as_current=False)
    app.config_from_object("celeryconfig")
    assert symbol_by_name(app.conf.beat_scheduler) is Scheduler
