"""The worker's consumer tells of a look that leads to another one as Celery does, at a fraction of the price."""

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Retry

from workers.consumer import Outcome


@pytest.fixture
def traced() -> Callable[[Callable[[], None]], tuple[Any, Any]]:
    """Run a function as a task of an app, traced with `Outcome`; return how it ended and what Celery's request is given."""

    def run(body: Callable[[], None]) -> tuple[Any, Any]:
        app = Celery("test", broker="memory://", set_as_current=False)
        app.conf.task_ignore_result = True
        task = app.task(body, name="kiejobs.test")
        answer, info, _, _ = build_tracer(task.name, task, app.loader, "host", app=app, Info=Outcome)(
            "id", (), {}, {"id": "id", "delivery_info": {}}
        )
        return info, answer

    return run


def test_a_retry_is_passed_on_as_it_is(traced: Any) -> None:
    """Celery's request reads the exception, and finds no traceback to send about."""
    retry = Retry("generating", when=2.0)

    def body() -> None:
        raise retry

    info, told = traced(body)
    assert info.state == "RETRY"
    assert told.exception is retry
    assert told.exception.__traceback__ is None
    assert (told.traceback, told.internal) == ("", False)


def test_what_is_ignored_or_fails_is_told_by_celery_itself(traced: Any) -> None:
    """A bug keeps its traceback."""

    def ignored() -> None:
        raise Ignore

    def broken() -> None:
        raise ValueError("a bug")

    assert traced(ignored)[0].state == "IGNORED"
    info, told = traced(broken)
    assert info.state == "FAILURE"
    assert "a bug" in told.traceback
