"""What can be seen of workers: no secret in any line, no prompt in Flower."""

import asyncio
import base64
import contextvars
import io
import json
import logging
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from celery import Celery

from kiejobs import logs
from kiejobs.answers import Accepted, Busy, NotSent, Refused, Scope, Unknown
from kiejobs.decisions import change
from kiejobs.errors import Reason
from kiejobs.gateway.door import Door
from kiejobs.gateway.keys import Keys
from kiejobs.gateway.limits import Limits
from kiejobs.jobs import JobState
from kiejobs.lifecycle import Event
from kiejobs.logs import JsonLines, Redactor
from kiejobs.nudge import POLL, SUBMIT
from kiejobs.redaction import Redaction, redaction_of, secrets_of
from kiejobs.settings import Settings
from workers.observe import QuietRequest, warn_of_mixed_queues, word_of_create, word_of_look

KEY = "sk-live-0123456789abcdef"
WEBHOOK_1 = f"whsec_{base64.b64encode(b'one-secret-of-24-bytes-or-more').decode()}"
WEBHOOK_2 = f"whsec_{base64.b64encode(b'two-secret-of-24-bytes-or-more').decode()}"


def logged(
    write: Any, *secrets: str, formatter: logging.Formatter | None = None, redaction: Redaction | None = None
) -> str:
    """What a handler with the redactor writes when `write` logs to it."""
    sink = io.StringIO()
    handler = logging.StreamHandler(sink)
    handler.setFormatter(formatter or logging.Formatter("%(message)s"))
    handler.addFilter(Redactor(redaction or Redaction(secrets)))
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
        storage_secret="aws-secret-1",
        storage_token="aws-token-1",
        callback_secret="callback-secret-1",
        webhook_secrets=f"{WEBHOOK_1},{WEBHOOK_2}",
    )
    expected = {"key-default-1", "hmac-default-1", "key-second-1", "hmac-second-1", "callback-secret-1"}
    expected |= {"pw-database", "pw-broker", "pw-flower", "aws-secret-1", "aws-token-1", WEBHOOK_1, WEBHOOK_2}
    assert expected <= set(secrets_of(settings))


def test_every_secret_setting_is_redacted() -> None:
    """A setting that is added later, too: whatever is a SecretStr shows in no line."""
    given: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        if "SecretStr" in str(field.annotation) and name not in ("accounts", "storage_key_id"):
            given[name] = f"value-of-{name}"
    given["webhook_secrets"] = WEBHOOK_1
    given["flower_auth"] = "ada:value-of-flower_auth"
    given["database_url"] = "postgresql://kj:value-of-database_url@db/kj"
    given["broker_url"] = "redis://:value-of-broker_url@redis/0"
    assert len(given) >= 9
    redaction = redaction_of(Settings(_env_file=None, **given))
    for name in given:
        value = WEBHOOK_1 if name == "webhook_secrets" else f"value-of-{name}"
        assert value not in redaction.clean(f"it is {value}, and again {value}"), name


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:se@cret@redis:6379/0", ["se@cret", "se%40cret"]),
        ("redis://:se%40cret%2f1@redis:6379/0", ["se%40cret%2f1", "se@cret/1", "se%40cret%2F1"]),
        ("redis://:se/cret@redis:6379/0", ["se/cret"]),
        ("redis://redis:6379/0?password=se%40cret", ["se@cret", "se%40cret"]),
        ("amqp://a:first-1@one//;amqp://b:second-2@two//", ["first-1", "second-2"]),
    ],
)
def test_a_password_in_an_address_is_found_wherever_it_stands(url: str, shown: list[str]) -> None:
    """With an @ in it, percent-encoded, in the query, one of several; in an exception's chain as in a line."""
    redaction = redaction_of(Settings(_env_file=None, broker_url=url))

    def tell(log: logging.Logger) -> None:
        try:
            try:
                raise ConnectionError(url)
            except ConnectionError as error:
                raise RuntimeError(f"no {shown[-1]} helps") from error
        except RuntimeError:
            log.exception("%s", shown)

    text = logged(tell, redaction=redaction)
    assert "direct cause" in text
    assert [word for word in shown if word in text] == []


def test_a_secret_of_the_data_dir_is_redacted_from_when_it_is_made(tmp_path) -> None:
    """The first use makes it, long after logging was set up; messages carry it in base64."""
    settings = Settings(_env_file=None, data_dir=tmp_path)
    redaction = redaction_of(settings)
    assert redaction.clean("before") == "before"
    callback, webhook = settings.callbacks_signed_with, settings.webhooks_signed_with[0]
    text = logged(lambda log: log.error("%s and %s", callback, webhook.removeprefix("whsec_")), redaction=redaction)
    assert text == "*** and ***\n"


@pytest.mark.parametrize("text", ["a", "authorization", "token", "id_", "x://", "a:", "bearer "])
def test_a_long_line_costs_by_its_length_alone(text: str) -> None:
    """A stranger's word may stand in a line; to look for a password in it must not take its length squared."""
    long = text * (200_000 // len(text))
    began_s = time.process_time()
    Redaction([]).clean(long)
    assert time.process_time() - began_s < 10


@pytest.mark.parametrize("form", ['a/b+c d"e', quote('a/b+c d"e', safe=""), json.dumps('a/b+c d"e')[1:-1]])
def test_a_value_is_found_in_every_form_in_which_it_travels(form: str) -> None:
    """As it is, in an address, in JSON."""
    assert logged(lambda log: log.error("x%sy", form), 'a/b+c d"e') == "x***y\n"


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("GET https://b.s3.test/k?X-Amz-Credential=AKIAX%2F2026&X-Amz-Signature={} 403", "0f1e2d3c4b5a69788796"),
        ("https://b.s3.test/k?X-Amz-Security-Token={}&x=1", "IQoJb3JpZ2luX2VjEAAaCXVz"),
        ("https://blob.test/k?sv=2024&sig={}&se=2026", "c2lnbmF0dXJlLW9mLWF6dXJl"),
        ("https://gcs.test/k?X-Goog-Signature={}", "aa11bb22cc33dd44"),
        ("https://cdn.test/k?Expires=1&Signature={}&Key-Pair-Id=1", "KQmV1cL~abc-def"),
        ("https://cdn.test/k?token={}", "abcdef0123456789"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=AKIA/1/s3, SignedHeaders=host, Signature={}", "9f8e7d6c5b4a3928"),
        ("AWS_SECRET_ACCESS_KEY={}", "wJalrXUtnFEMI/K7MDENG"),
        ('{{"secret_access_key": "{}"}}', "wJalrXUtnFEMI/K7MDENG"),
        ("{{'api_key': '{}', 'n': 1}}", "8a7b6c5d4e3f2a1b"),
        ("POST /callbacks/kie/018f3a5e-7c1d-7e6a-9b0f-2d4c6e8a0b1c.{}", "Zm9yZ2VkLW1hYy1mb3ItdGVzdHM"),
        ("signed with whsec_{} it says", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("broker redis://:p@{}@host:6379/0 refuses", "ss-w0rd"),
        ("broker amqp://a:x@{}@one//;amqp://b:y@two// refuses", "ss-w0rd"),
        ("redis://host:6379/0?ssl_cert_reqs=none&password={}", "pw"),
        ("postgresql://host/kj?sslpassword={}&x=1", "s3"),
        ("key kj_{} is not known", "p3S6v9yB-E_HMcQfTjWnZr4u7xzACDp3S6v9y"),
    ],
)
def test_what_only_its_shape_gives_away_is_redacted(line: str, secret: str) -> None:
    """Signed links, other people's keys, callback addresses."""
    shown = logged(lambda log: log.error(line.format(secret)))
    assert secret not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "line",
    [
        "job 018f3a5e-7c1d-7e6a-9b0f-2d4c6e8a0b1c output 0: the source refused the link",
        "stored 1200 bytes as default/2026/01/02/018f3a5e/0.png",
        "refused: its signature is not Kie's",
        "Kie named task a1b2c3d4e5f6 for a submission that is already accepted",
        "https://files.example/0.png?width=200",
        "the token is not ours",
    ],
)
def test_an_ordinary_line_stays_as_it_is(line: str) -> None:
    """Redaction that eats what one looks for is none."""
    assert logged(lambda log: log.error(line)) == line + "\n"


# ── what a line is about ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_line_says_what_it_is_about_wherever_it_was_written() -> None:
    """Job, submission, Kie's task; outside of the block nothing, and an inner block leaves the outer one as it was."""

    def write(log: logging.Logger) -> None:
        with logs.about(job="j-1"):
            logs.note(submission="s-1", kie_task=None)
            with logs.about(kie_task="t-1"):
                log.warning("inner")
            log.warning("outer")
        log.warning("none")

    fresh = contextvars.Context()  # whatever ran in this thread before
    lines = [json.loads(line) for line in fresh.run(logged, write, formatter=JsonLines()).splitlines()]
    told = [{name: line[name] for name in logs.FIELDS if name in line} for line in lines]
    assert told == [{"job": "j-1", "submission": "s-1", "kie_task": "t-1"}, {"job": "j-1", "submission": "s-1"}, {}]


JOB_ID = "018f3a5e-7c1d-7e6a-9b0f-2d4c6e8a0b1c"


def test_celerys_own_lines_about_a_task_name_its_job_and_show_no_secret() -> None:
    """A task that raises: Celery logs the traceback, arguments and all."""
    app = Celery("tests", set_as_current=False)

    @app.task(name="tests.fails")
    def fails(job_id: str) -> None:
        raise RuntimeError(f"Bearer {KEY} for {job_id}")

    sink = io.StringIO()
    handler = logging.StreamHandler(sink)
    handler.setFormatter(JsonLines())
    handler.addFilter(Redactor(Redaction([KEY])))
    trace = logging.getLogger("celery.app.trace")
    trace.addHandler(handler)
    try:
        fails.apply(kwargs={"job_id": JOB_ID}, task_id=f"{JOB_ID}.poll")
        trace.error("afterwards")
    finally:
        trace.removeHandler(handler)
    failed, after = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert (failed["job"], failed["celery_task"]) == (JOB_ID, f"{JOB_ID}.poll")
    assert "RuntimeError" in failed["traceback"]
    assert KEY not in sink.getvalue()
    assert "job" not in after


def test_what_nobody_caught_is_logged_without_secrets() -> None:
    """Python's own words about it would show the text of the error."""
    program = f"""
import threading
from kiejobs.logs import setup_logging
from kiejobs.settings import Settings
setup_logging(Settings(_env_file=None, api_key={KEY!r}, log_format="json"))
def fail(): raise ValueError("thread " + {KEY!r})
one = threading.Thread(target=fail, name="copier"); one.start(); one.join()
raise ValueError("program " + {KEY!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert [line["message"] for line in lines] == ["thread copier ended by ValueError", "uncaught ValueError"]
    assert all("ValueError" in line["traceback"] and "***" in line["traceback"] for line in lines)
    assert KEY not in done.stdout + done.stderr


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


def received(name: str, kwargs: dict[str, Any], **more_headers: str) -> QuietRequest:
    """A message as a worker receives it, with the long form that its producer put into the header."""
    app = Celery("tests", set_as_current=False)
    app.conf.update(task_ignore_result=True)

    @app.task(name=name)
    def task(**_: Any) -> None:
        pass

    headers = {"id": "018f3a5e-7c1d-7e6a-9b0f-2d4c6e8a0b1c", "task": name, "lang": "py", "argsrepr": "()"}
    headers |= {"kwargsrepr": repr(kwargs), **more_headers}
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


@pytest.mark.parametrize(
    "given",
    [{"prompt": PROMPT}, {"messages": [{"role": "user", "content": PROMPT}]}, {"contents": [{"parts": [PROMPT]}]}],
    ids=["prompt", "messages", "contents"],
)
def test_a_bare_request_shows_no_prompt(given: dict[str, Any]) -> None:
    """Neither to Flower nor to `inspect`, though the message itself holds it; a chat's messages are prompts, too."""
    request = received(SUBMIT, {"request": {"model": "z-image", "input": given}})
    assert request.kwargs["request"]["input"] == given
    shown = [request.argsrepr, request.kwargsrepr, str(request.info()), str(request.info(safe=False)), repr(request)]
    assert not any(PROMPT in text for text in [*shown, str(request)])
    assert request.kwargsrepr == "{'job_id': '018f3a5e-7c1d-7e6a-9b0f-2d4c6e8a0b1c'}"


def test_a_bare_request_under_a_name_of_its_senders_shows_no_prompt() -> None:
    """Celery's `shadow` renames a task for those who watch, and does not make it another."""
    request = received(SUBMIT, {"request": {"model": "z-image", "input": {"prompt": PROMPT}}}, shadow="banner of Mai")
    assert (request.name, request.type) == ("banner of Mai", SUBMIT)
    assert PROMPT not in f"{request.kwargsrepr} {request.info()} {request}"


@pytest.mark.parametrize("kwargs", [{"request": {"prompt": PROMPT}}, {"job_id": PROMPT, "version": 7}])
def test_a_request_that_was_sent_to_another_task_shows_no_prompt(kwargs: dict[str, Any]) -> None:
    """By mistake: what such a task is given are ids, or nothing that is shown."""
    request = received(POLL, kwargs)
    assert PROMPT not in f"{request.kwargsrepr} {request.info()} {request}"


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
    assert "python -m workers worker -Q store" in caplog.text


@pytest.mark.parametrize(
    ("path", "about"),
    [
        (f"/api/generations/{JOB_ID}/cancel", {"job": JOB_ID}),
        (f"/jobs/{JOB_ID}", {"job": JOB_ID}),
        (f"/callbacks/kie/{JOB_ID}.bWFj", {"submission": JOB_ID}),
        ("/api/generations", {}),
        (f"/api/generations/{JOB_ID}x", {}),
    ],
)
def test_a_line_of_the_gateway_names_what_its_path_names(path: str, about: dict[str, str]) -> None:
    """Asked of the door with a route behind it that logs."""

    async def route(scope: Any, receive: Any, send: Any) -> None:
        log.error("in the route")

    async def nothing(*_: Any) -> dict[str, Any]:
        return {"type": "http.request"}

    sink = io.StringIO()
    handler = logging.StreamHandler(sink)
    handler.setFormatter(JsonLines())
    handler.addFilter(Redactor(Redaction([])))
    log = logging.Logger("tests.door")  # noqa: LOG001 - no handler of anybody else's
    log.addHandler(handler)
    scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"127.0.0.1")]}
    asyncio.run(Door(route, Keys(()), Limits())(scope, nothing, nothing))
    line = json.loads(sink.getvalue())
    assert {name: line[name] for name in logs.FIELDS if name in line} == about


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (None, "not now"),
        (Accepted("281e5b0f39b9"), "accepted"),
        (Refused("402", "a prompt may stand here", Scope.ACCOUNT, Reason.CREDITS), "refused 402"),
        (Busy("429", "slow down"), "busy 429"),
        (NotSent("no route"), "not sent"),
        (Unknown("cut off"), "unconfirmed"),
    ],
)
def test_a_submits_result_says_what_came_of_the_create_call(outcome: Any, word: str) -> None:
    """In words of our own: Kie's may quote the prompt, and Flower shows results."""
    assert word_of_create(outcome) == word


def test_a_looks_result_says_where_the_job_stands() -> None:
    """The look succeeded, the job did not: Flower shows both."""
    failed = change(JobState.WAITING, Event.BROKE, "it broke", reason=Reason.CONTENT, message="a prompt may stand here")
    late = change(JobState.WAITING, Event.TIMED_OUT, "ten minutes", due_in_s=60.0)
    assert [word_of_look(one) for one in (failed, late)] == ["fail: content", "timeout"]
