"""What can be seen of workers: logs without secrets, Flower without prompts, and plain words at the start."""

import json
import logging
import re
import sys
from collections.abc import Callable
from typing import Any

from celery import Task
from celery.worker.request import Request

from kiejobs.errors import KieJobsError
from kiejobs.nudge import COPY_QUEUES, QUICK_QUEUES, SUBMIT
from kiejobs.settings import Settings, without_effect
from workers.runtime import Runtime

log = logging.getLogger(__name__)

_BEARER = re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?(?:bearer\s+|basic\s+)?|bearer\s+)[^\s'\",}]+")
_USERINFO = re.compile(r"(\w+://[^\s:/@]*):[^\s@/]+@")


class QuietRequest(Request):  # type: ignore[misc]
    """A received message that shows ids only: a bare request holds a prompt, which is nobody's business in Flower."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.name == SUBMIT:
            self._argsrepr, self._kwargsrepr = "()", f"{{'job_id': '{self.id}'}}"

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - Celery's signature
        """Describe the message for `inspect`, always by its short form."""
        described: dict[str, Any] = super().info(safe=True)
        return described


class QuietTask(Task):  # type: ignore[misc]
    """A task whose messages are received as `QuietRequest`."""

    abstract = True
    Request = "workers.observe:QuietRequest"


class Redactor(logging.Filter):
    """Takes secrets out of every line: by value where the settings know them, by pattern elsewhere."""

    def __init__(self, secrets: list[str]) -> None:
        super().__init__()
        self._secrets = sorted((secret for secret in secrets if len(secret) >= 6), key=len, reverse=True)

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the line; every line passes."""
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - a log line whose arguments do not fit must not end what it tells of
            text = str(record.msg)
        record.msg, record.args = self.clean(text), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self.clean(record.exc_text)
        return True

    def clean(self, text: str) -> str:
        """Return a text without secrets and without control characters."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = _USERINFO.sub(r"\1:***@", _BEARER.sub(r"\1***", text))
        return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


class JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a line."""
        line = {"at": self.formatTime(record), "level": record.levelname, "logger": record.name}
        line["message"] = record.getMessage()
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json.dumps(line, ensure_ascii=False)


def setup_logging(settings: Settings) -> None:
    """Log to standard error, as text on a terminal and JSON elsewhere, secrets redacted."""
    handler = logging.StreamHandler(sys.stderr)
    chosen = settings.log_format or ("text" if sys.stderr.isatty() else "json")
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s")
    handler.setFormatter(JsonLines() if chosen == "json" else text)
    handler.addFilter(Redactor(secrets_of(settings)))
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
        "celery.beat",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def secrets_of(settings: Settings) -> list[str]:
    """List the values that no line may show."""
    found = [own.key.get_secret_value() for own in settings.keys.values()]
    found += [own.hmac_key.get_secret_value() for own in settings.keys.values() if own.hmac_key]
    for listed in (settings.callback_secret, settings.webhook_secrets):
        found += listed.get_secret_value().split(",") if listed else []
    for url in (settings.database_url, settings.broker_url):
        password = re.search(r"://[^:/@]*:([^@/]+)@", url.get_secret_value()) if url else None
        if password:
            found.append(password.group(1))
    if settings.flower_auth:
        found.append(settings.flower_auth.get_secret_value().partition(":")[2])
    return found


def refuse_to_start_without(runtime: Callable[[], Runtime]) -> None:
    """End the process, with one line and its remedy, where the database cannot be used; warn of the rest."""
    try:
        rt = runtime()
        rt.database  # noqa: B018 - connects and checks the schema
    except KieJobsError as error:
        sys.stderr.write(f"kiejobs: {error}\n{error.remedy}\n")
        raise SystemExit(3) from None
    if not rt.settings.keys:
        log.warning("no Kie key is set: nothing will be bought or read (set KIE_API_KEY)")
    for name in without_effect():
        log.warning("%s is set, but this version has nothing that uses it", name)
    if rt.settings.submit == "off":
        log.warning("KIEJOBS_SUBMIT=off: jobs stay in line, nothing is bought")


def warn_of_storage(runtime: Callable[[], Runtime], queues: set[str]) -> None:
    """Say at the start of a worker that copies where its storage cannot be used; results wait for it."""
    if not queues & set(COPY_QUEUES):
        return
    try:
        runtime().store.check()
    except KieJobsError as error:
        log.warning("%s %s Results wait until it can be used.", error, error.remedy)


def warn_of_mixed_queues(queues: set[str]) -> None:
    """Say so where one worker got quick work and copies: sixteen slow copies would hold every thread."""
    if queues & set(QUICK_QUEUES) and queues & set(COPY_QUEUES):
        log.warning(
            "this worker has quick queues and copies: slow copies will hold up polls. Run a second one for them: "
            "celery -A workers worker -Q store -c 8 -n copies@%%h"
        )
