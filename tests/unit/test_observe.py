"""What can be seen of workers: no secret in any line, no prompt in Flower."""

import io
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from kiejobs.nudge import POLL, SUBMIT
from kiejobs.settings import Settings
from workers.observe import JsonLines, QuietRequest, Redactor, secrets_of, warn_of_mixed_queues

KEY = "sk-live-0123456789abcdef"


def logged(write: Any, *secrets: str, formatter: logging.Formatter | None = None) -> str:
    """What a handler with the redactor writes when `write` logs to it."""
    sink = io.StringIO()
    handler = logging.StreamHandler(sink)
    handler.setFormatter(formatter or logging.Formatter("%(message)s"))
    handler.addFilter(Redactor([*secrets]))
    logger = logging.Logger("tests.redacted")  # noqa: LOG001 - no handler of anybody else's
    logger.addHandler(handler)
    write(logger)
    return sink.getvalue()


def test_a_known_key_shows_nowhere() -> None:
    """In the text, in its arguments, in the middle of a word."""
    text = logged(lambda log: log.warning("key %s, url?key=%s&x, %r", KEY, KEY, {"k": KEY}), KEY)
    assert KEY not in text
    assert text.count("***") == 3


@pytest.mark.parametrize(
    "line",
    [
        "Bearer {}",
        "bearer   {}",
        "Authorization: Bearer {}",
        "authorization=Bearer {}",
        "Authorization: {}",
        "{{'Authorization': 'Bearer {}'}}",
        '{{"authorization": "Bearer {}"}}',
        "> Authorization: Basic {}",
    ],
)
def test_a_header_shows_no_key_that_nobody_told_us(line: str) -> None:
    """A key that is not in the settings: an old one, somebody else's."""
    unknown = "sk-unknown-9876543210"
    assert unknown not in logged(lambda log: log.error(line.format(unknown)))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("postgresql+psycopg://kj:hunter2@db:5432/kj", "postgresql+psycopg://kj:***@db:5432/kj"),
        ("redis://:hunter2@redis:6379/0 is down", "redis://:***@redis:6379/0 is down"),
        ("two: amqp://a:hunter2@b amqp://c:hunter2@d", "two: amqp://a:***@b amqp://c:***@d"),
        ("https://files.example:8443/0.png", "https://files.example:8443/0.png"),
    ],
)
def test_a_url_shows_no_password(line: str, expected: str) -> None:
    """And one without a password stays as it is."""
    assert logged(lambda log: log.error(line)) == expected + "\n"


@pytest.mark.parametrize("formatter", [None, JsonLines()], ids=["text", "json"])
def test_a_traceback_shows_no_secret(formatter: logging.Formatter | None) -> None:
    """Neither the error's text nor that of its cause."""

    def write(log: logging.Logger) -> None:
        try:
            try:
                raise ValueError(f"header Bearer {KEY}")
            except ValueError as error:
                raise RuntimeError("postgresql://kj:hunter2-long@db/kj refused") from error
        except RuntimeError:
            log.exception("it failed")

    text = logged(write, KEY, formatter=formatter)
    assert "it failed" in text
    assert "Traceback" in text
    assert KEY not in text
    assert "hunter2-long" not in text


def test_a_json_line_is_one_line_of_json() -> None:
    """Whatever is in the message."""
    text = logged(lambda log: log.error('two\nlines "and" quotes %s', KEY), KEY, formatter=JsonLines())
    assert text.count("\n") == 1
    line = json.loads(text)
    assert line["message"] == 'two\nlines "and" quotes ***'
    assert line["level"] == "ERROR"


def test_control_characters_do_not_reach_a_terminal() -> None:
    """A word from Kie could otherwise colour, clear or forge lines."""
    assert logged(lambda log: log.error("Kie says \x1b[2J\x07done\r")) == "Kie says ?[2J?done?\n"


def test_a_short_secret_does_not_riddle_the_lines() -> None:
    """A password `a` would star out every a."""
    assert logged(lambda log: log.error("a plain line"), "a", "") == "a plain line\n"


def test_a_long_secret_is_taken_out_whole_where_it_contains_a_short_one() -> None:
    """Longest first."""
    assert logged(lambda log: log.error("secret-long-tail"), "secret", "secret-long-tail") == "***\n"


def test_a_line_whose_arguments_do_not_fit_raises_nothing() -> None:
    """A library's careless log call must not end a copy; logging itself would only complain."""
    before, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        logged(lambda log: log.error("%d items", "no number"))
    finally:
        logging.raiseExceptions = before


def test_all_secrets_of_the_settings_are_known() -> None:
    """Keys of all accounts, and the passwords inside addresses."""
    settings = Settings(
        _env_file=None,
        api_key="key-default-1",
        webhook_hmac_key="hmac-default-1",
        accounts={"second": {"key": "key-second-1", "hmac_key": "hmac-second-1"}},
        database_url="postgresql+psycopg://kj:pw-database@db/kj",
        broker_url="redis://:pw-broker@redis/0",
        flower_auth="admin:pw-flower",
    )
    expected = {"key-default-1", "hmac-default-1", "key-second-1", "hmac-second-1"}
    assert expected | {"pw-database", "pw-broker", "pw-flower"} <= set(secrets_of(settings))


def test_settings_without_secrets_have_none() -> None:
    """Also where addresses have no password."""
    plain = Settings(_env_file=None, database_url="sqlite:////tmp/x.db", broker_url="redis://redis/0")
    assert secrets_of(plain) == []


# ── Flower ───────────────────────────────────────────────────────────────────────────────────────────────────────────

PROMPT = "a secret unreleased product"


class Seen:
    """Celery's event sender, as Flower would see it."""

    enabled = True

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def send(self, kind: str, **fields: Any) -> None:
        self.events.append({"type": kind, **fields})


def received(name: str, kwargs: dict[str, Any]) -> QuietRequest:
    """A message as a worker receives it, with the long form that its producer put into the header."""
    app = Celery("tests", set_as_current=False)
    app.conf.update(task_ignore_result=True)

    @app.task(name=name)
    def task(**_: Any) -> None:
        pass

    headers = {"id": "018f3a5e-7c1d-7e6a-9b0f-2d4c6e8a0b1c", "task": name, "lang": "py", "argsrepr": "()"}
    headers["kwargsrepr"] = repr(kwargs)
    body = ((), kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})
    message = SimpleNamespace(
        headers=headers,
        body=body,
        payload=body,
        delivery_info={"routing_key": "submit"},
        properties={},
        content_type="application/json",
        content_encoding="utf-8",
        acknowledged=False,
    )
    return QuietRequest(message, app=app, task=task, hostname="w1", eventer=Seen(), decoded=True)


def test_a_bare_request_shows_no_prompt() -> None:
    """Neither to Flower nor to `inspect`, though the message itself holds it."""
    request = received(SUBMIT, {"request": {"model": "z-image", "input": {"prompt": PROMPT}}})
    assert request.kwargs["request"]["input"]["prompt"] == PROMPT
    shown = [request.argsrepr, request.kwargsrepr, str(request.info()), str(request.info(safe=False)), repr(request)]
    assert not any(PROMPT in text for text in [*shown, str(request)])
    assert request.kwargsrepr == "{'job_id': '018f3a5e-7c1d-7e6a-9b0f-2d4c6e8a0b1c'}"


def test_a_nudge_shows_its_ids() -> None:
    """Which is what one looks for in Flower."""
    request = received(POLL, {"job_id": "j-1", "version": 7})
    assert request.kwargsrepr == "{'job_id': 'j-1', 'version': 7}"
    assert "j-1" in str(request.info())


def test_a_worker_with_quick_queues_and_copies_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """With the line that is right."""
    warn_of_mixed_queues({"poll", "sweep"})
    warn_of_mixed_queues({"store"})
    assert caplog.records == []
    warn_of_mixed_queues({"poll", "store"})
    assert "celery -A workers worker -Q store" in caplog.text
