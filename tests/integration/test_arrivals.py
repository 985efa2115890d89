"""Requests as bare Celery messages: each is one job, whatever comes with it and however often it comes."""

import uuid
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from celery.exceptions import Reject
from sqlalchemy import func, select

from kiejobs import counted
from kiejobs.db import counters
from kiejobs.db.session import Database
from kiejobs.db.tables import jobs
from kiejobs.errors import DatabaseUnavailable
from tests.factories import job_row, make_job
from workers import arrivals, tasks
from workers.runtime import Runtime

REQUEST = {"model": "z-image", "input": {"prompt": "a lamp", "aspect_ratio": "1:1"}}


@pytest.fixture
def rt(database: Database, runtime: Callable[..., Runtime]) -> Runtime:
    return runtime(database)


def rows(database: Database) -> int:
    """Count the jobs."""
    with database.read() as connection:
        return int(connection.scalar(select(func.count()).select_from(jobs)) or 0)


def test_a_task_id_that_is_no_uuid_is_one_failed_job_however_often_it_comes(rt):
    """A message is acknowledged late: it may be delivered again, and must not make a row each time."""
    for _ in range(3):
        assert arrivals.arrived(rt, "not-a-uuid", REQUEST) is None
    assert rows(rt.database) == 1


def test_a_request_belongs_to_the_tenant_of_messages(rt, monkeypatch):
    """Which is a setting: a message names none."""
    monkeypatch.setattr(rt, "settings", rt.settings.model_copy(update={"celery_tenant": "shop"}))
    job_id = arrivals.arrived(rt, str(uuid.uuid4()), REQUEST)
    assert job_row(rt.database, job_id).tenant == "shop"


def test_an_id_of_another_tenants_job_is_dropped_and_counted(rt):
    """Neither taken over nor told about."""
    theirs = make_job(rt.database, tenant="shop")
    assert arrivals.arrived(rt, theirs.id, REQUEST) is None
    assert (rows(rt.database), job_row(rt.database, theirs.id).tenant) == (1, "shop")
    rt.counts.flush(rt.database)
    assert counted.counts_of(counted.REQUESTS_DROPPED, counters.everything(rt.database)) == {(): 1}


def test_without_a_database_the_message_goes_back_after_a_while(rt, monkeypatch):
    """It is the request's only copy."""

    def away(*_, **__):
        raise DatabaseUnavailable("no connection")

    monkeypatch.setattr(tasks, "runtime", lambda: rt)
    monkeypatch.setattr(tasks, "REQUEUE_AFTER_S", 0.01)
    monkeypatch.setattr(arrivals.intake, "enter", away)
    task = SimpleNamespace(request=SimpleNamespace(id=str(uuid.uuid4())))
    with pytest.raises(Reject) as rejected:
        tasks._arrived(task, REQUEST)
    assert rejected.value.requeue is True
    assert rows(rt.database) == 0
