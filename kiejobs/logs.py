"""Logs without secrets, for every process of ours: one handler on standard error, text on a terminal and JSON elsewhere.

Every line passes one filter, whoever wrote it: ours, Celery's, a library's, a traceback nobody caught. What a line is
about (job, submission, Kie's task, Celery's message) stands beside it in the JSON, wherever in the work it was written.
"""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType

from kiejobs.redaction import Redaction, redaction_of
from kiejobs.settings import Settings

FIELDS = ("job", "submission", "kie_task", "celery_task")
"""What a line can be about."""

_about: ContextVar[dict[str, str]] = ContextVar("kiejobs_about")


def note(**ids: str | None) -> None:
    """Say of what follows here what it is about; what is None is left as it was."""
    _about.set(_about.get({}) | {name: one for name, one in ids.items() if one})


def forget() -> None:
    """Say that what follows here is about nothing in particular."""
    _about.set({})


@contextmanager
def about(**ids: str | None) -> Iterator[None]:
    """Say of the block what it is about."""
    before = _about.set(_about.get({}))
    try:
        note(**ids)
        yield
    finally:
        _about.reset(before)


class Redactor(logging.Filter):
    """Takes secrets out of every line and its traceback, and notes what the line is about."""

    def __init__(self, redaction: Redaction) -> None:
        super().__init__()
        self._clean = redaction.clean

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the line; every line passes."""
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - a log line whose arguments do not fit must not end what it tells of
            text = str(record.msg)
        record.msg, record.args = self._clean(text), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self._clean(record.exc_text)
        if record.stack_info:
            record.stack_info = self._clean(record.stack_info)
        record.about = {name: self._clean(one) for name, one in _about.get({}).items()}
        return True


class JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a line."""
        line = {"at": self.formatTime(record), "level": record.levelname, "logger": record.name}
        line |= getattr(record, "about", {})
        line["message"] = record.getMessage()
        for name, text in (("traceback", record.exc_text), ("stack", record.stack_info)):
            if text:
                line[name] = text
        return json.dumps(line, ensure_ascii=False)


def setup_logging(settings: Settings) -> None:
    """Log to standard error, as text on a terminal and JSON elsewhere, secrets redacted."""
    handler = logging.StreamHandler(sys.stderr)
    chosen = settings.log_format or ("text" if sys.stderr.isatty() else "json")
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s")
    handler.setFormatter(JsonLines() if chosen == "json" else text)
    handler.addFilter(Redactor(redaction_of(settings)))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    for noisy in (
        "urllib3",
        "requests",
        "kombu",
        "amqp",
        "alembic",
        "celery.worker.strategy",
        "celery.app.trace",
        "celery.pool",  # at DEBUG it writes the whole message of every task, prompt included
        "celery.beat",
        "uvicorn.access",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log what nobody caught: Python's own words about it would show what is in it."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger("kiejobs").critical("uncaught %s", kind.__name__, exc_info=(kind, error, trace))


def _uncaught_in_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is not None and not issubclass(told.exc_type, SystemExit):
        name = told.thread.name if told.thread else "a thread"
        caught = (told.exc_type, told.exc_value, told.exc_traceback)
        logging.getLogger("kiejobs").critical("thread %s ended by %s", name, told.exc_type.__name__, exc_info=caught)
