"""`doctor`: line by line what is configured, what is reachable, and what to do about what is not.

Every check runs in a thread of its own and is given five seconds; none changes anything or shows a secret. A check is a
function from the settings to findings, so a new one is a function and a line in `CHECKS`.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from kiejobs import __version__
from kiejobs.cli import render
from kiejobs.cli.exits import Exit
from kiejobs.cli.render import Json, examples
from kiejobs.errors import DependencyError, KieJobsError, SettingsError

if TYPE_CHECKING:
    from kiejobs.db.session import Database
    from kiejobs.settings import Settings
    from kiejobs.storage.store import Store

LIMIT_S = 5.0
STALE_S = 60.0
UNATTENDED_S = 180.0
"""Workers read the balances of their accounts every minute."""
_GATEWAY_WITHIN_S = 4.5
"""Longer than a gateway waits for a broker that hangs."""


class Level(StrEnum):
    """What a finding means."""

    OK = "ok"
    NOTE = "note"
    """Works, with something to know."""
    BAD = "bad"
    """Needed, and not there."""
    SKIPPED = "skipped"
    """Could not be looked at because of another finding."""


_SIGNS = {
    Level.OK: ("✓", "green"),
    Level.NOTE: ("!", "yellow"),
    Level.BAD: ("✗", "bold red"),
    Level.SKIPPED: ("–", "dim"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: about what, how it stands, and what to do."""

    about: str
    level: Level
    said: str
    remedy: str = ""


Check = Callable[["Settings"], list[Finding]]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    lines = ("kiejobs doctor", "kiejobs doctor --json", "kiejobs doctor && ./deploy")
    app.command(short_help="Say what is configured and reachable.", epilog=examples(*lines))(doctor)


def doctor(json: Json = False) -> None:
    """Say what is configured, what is reachable, and what to do about what is not.

    Exit code 0 when all that is needed is there, 2 for a setting that cannot be used, 3 when something needed is missing
    or cannot be reached. Takes about two seconds, at most six.
    """
    from kiejobs.kie import catalogue
    from kiejobs.settings import load

    try:
        settings = load()
        catalogue.use(settings.catalogue)
    except SettingsError as error:
        _tell([Finding("settings", Level.BAD, str(error), error.remedy)], as_json=json)
        raise typer.Exit(Exit.USAGE) from None
    findings = _examine(settings)
    _tell(findings, as_json=json)
    if any(finding.level is Level.BAD for finding in findings):
        raise typer.Exit(Exit.UNREACHABLE)


def _examine(settings: "Settings") -> list[Finding]:
    """Run all checks at once; one that takes too long is itself a finding."""
    found: dict[str, list[Finding]] = {}

    def run(name: str, check: Check) -> None:
        try:
            found[name] = check(settings)
        except KieJobsError as error:
            found[name] = [Finding(name, Level.BAD, str(error), error.remedy)]
        except Exception as error:  # noqa: BLE001 - a doctor that falls ill helps nobody
            found[name] = [Finding(name, Level.BAD, f"the check itself failed: {type(error).__name__}: {error}")]

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in CHECKS.items()]
    until = time.monotonic() + LIMIT_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    late = f"no answer within {LIMIT_S:g} s"
    return [line for name in CHECKS for line in found.get(name, [Finding(name, Level.BAD, late, _LATE.get(name, ""))])]


def _tell(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        checks = [
            {"name": one.about, "level": one.level, "message": one.said, "action": one.remedy} for one in findings
        ]
        render.print_json({"ok": all(one.level is not Level.BAD for one in findings), "checks": checks})
        return
    for one in findings:
        sign, style = _SIGNS[one.level]
        render.say(f"{sign} {one.about:<16} {one.said}", style=style if one.level is not Level.OK else None)
        if one.remedy:
            render.say(f"  {'':<16} → {one.remedy}")
    bad = sum(one.level is Level.BAD for one in findings)
    render.say("")
    if bad:
        render.say(f"{bad} thing{'s' if bad > 1 else ''} to do, see the lines with ✗.", style="bold")
    else:
        render.say("All that is needed is there.", style="bold green")


# The checks.


def _settings(settings: "Settings") -> list[Finding]:
    dotenv = "and .env" if Path(".env").is_file() else "(no .env here)"
    lines = [
        Finding("settings", Level.OK, f"read from the environment {dotenv}; data dir {settings.data_dir.absolute()}")
    ]
    if settings.submit == "off":
        lines.append(Finding("settings", Level.NOTE, "KIEJOBS_SUBMIT=off: nothing is bought", "Unset it to go on."))
    if settings.running_up:
        lines.append(Finding("up", Level.OK, f"`kiejobs up` runs here (pid {settings.running_up['pid']})"))
    return lines


def _kie(settings: "Settings") -> list[Finding]:
    simulator = settings.running_up.get("simulator_url")
    if simulator:
        return [Finding("Kie", Level.OK, f"`kiejobs up` uses its simulator at {simulator}; nothing is paid")]
    if not settings.keys:
        remedy = "Set KIE_API_KEY (https://kie.ai/api-key), or run `kiejobs up`, which brings a simulator."
        return [Finding("Kie", Level.BAD, "no key is set", remedy)]
    return [_account(settings, name) for name in sorted(settings.keys)]


def _account(settings: "Settings", name: str) -> Finding:
    from kiejobs.kie.client import KieClient

    about = "Kie" if len(settings.keys) == 1 else f"Kie ({name})"
    client = KieClient(settings.base_url, settings.keys[name].key.get_secret_value(), timeout_s=LIMIT_S - 1)
    try:
        credits = client.credit()
    except DependencyError as error:
        remedy = "Check the key at https://kie.ai/api-key, and that this machine reaches the address."
        return Finding(about, Level.BAD, f"a key is set, but {settings.base_url} does not accept it: {error}", remedy)
    said = f"{settings.base_url} accepts the key; {credits:g} credits"
    return Finding(about, Level.OK if credits > 0 else Level.NOTE, said, "" if credits > 0 else "Add credits.")


def _database(settings: "Settings") -> list[Finding]:
    from kiejobs.db import migrate
    from kiejobs.db.session import sqlite_file

    file = sqlite_file(settings.database)
    trouble = _file_trouble(file) if file else ""
    if trouble:
        remedy = "Set KIEJOBS_DATA_DIR or KIEJOBS_DATABASE_URL to a place that can be written."
        return [Finding("database", Level.BAD, trouble, remedy)]
    database = _opened(settings)
    if database is None:
        return [Finding("database", Level.OK, f"SQLite in {file}, made when it is first used"), _one_machine()]
    shown = render.without_password(database.url.render_as_string(hide_password=True))
    current, newest = migrate.current(database), migrate.head()
    lines = [Finding("database", Level.OK, f"{shown} is at revision {current}")]
    if current is None or current < newest:
        said = f"{shown} is at revision {current or 'none'}, this version needs {newest}"
        lines = [Finding("database", Level.BAD, said, "Run `kiejobs migrate`.")]
    return [*lines, _one_machine()] if database.sqlite else lines


def _one_machine() -> Finding:
    remedy = "For production set KIEJOBS_DATABASE_URL to a PostgreSQL database."
    return Finding("database", Level.NOTE, "SQLite serves one machine", remedy)


def _opened(settings: "Settings") -> "Database | None":
    """Open the database; None where it is an SQLite file that does not exist yet, so that looking does not make it."""
    from kiejobs.db.session import Database, sqlite_file

    file = sqlite_file(settings.database)
    if file and not os.access(file, os.F_OK):
        return None
    return Database(settings.database, pool_size=2)


def _file_trouble(file: Path) -> str:
    """Say why SQLite cannot work with this file, or make it: it also writes beside it. Empty where it can."""
    why = _unwritable(file.parent)
    if why:
        return f"SQLite cannot write in {file.parent}: {why}"
    if os.access(file, os.F_OK) and not os.access(file, os.R_OK | os.W_OK):
        return f"{file} cannot be read and written"
    return ""


def _unwritable(folder: Path) -> str:
    """Say why no file can be made in this folder, or in the one it would be made in; empty where one can.

    Tried, because permissions alone do not tell; the file has no name and is gone at once.
    """
    there = next(one for one in (folder, *folder.parents) if os.access(one, os.F_OK))
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _broker(settings: "Settings") -> list[Finding]:
    from kiejobs.nudge import check_broker

    if settings.broker is None:
        remedy = "Set KIEJOBS_BROKER_URL (redis://… or amqp://…), or run `kiejobs up`, which brings a broker."
        return [Finding("broker", Level.BAD, "none is set, and no `kiejobs up` runs here", remedy), _embedded(settings)]
    check_broker(settings.broker)
    whose = "" if settings.broker_url else " (embedded, of `kiejobs up`)"
    return [Finding("broker", Level.OK, f"{render.without_password(settings.broker)} answers{whose}")]


def _embedded(settings: "Settings") -> Finding:
    found = next(filter(None, map(shutil.which, ("redis-server", "valkey-server"))), None)
    if settings.embedded_broker == "fakeredis" or (settings.embedded_broker == "auto" and found is None):
        return Finding("embedded broker", Level.NOTE, "`kiejobs up` would run fakeredis, which is built in")
    if found is None:
        remedy = "Install redis-server, or unset KIEJOBS_EMBEDDED_BROKER."
        return Finding("embedded broker", Level.BAD, "KIEJOBS_EMBEDDED_BROKER=redis, but there is none on PATH", remedy)
    return Finding("embedded broker", Level.NOTE, f"`kiejobs up` would run {found}")


def _workers(settings: "Settings") -> list[Finding]:
    from kiejobs.nudge import COPY_QUEUES, QUICK_QUEUES, producer_app

    if settings.broker is None:
        return [Finding("workers", Level.SKIPPED, "cannot be asked without a broker")]
    try:
        inspect = producer_app(settings.broker).control.inspect(timeout=1.5)
        answered: dict[str, Any] = inspect.active_queues() or {}
    except Exception:  # noqa: BLE001 - the broker's own check says what is wrong with it
        return [Finding("workers", Level.SKIPPED, "cannot be asked: the broker does not answer")]
    consumed = {queue["name"] for queues in answered.values() for queue in queues}
    return [
        _workers_of("quick worker", QUICK_QUEUES, consumed, answered, "-c 16 -n quick@%h"),
        _workers_of("copies worker", COPY_QUEUES, consumed, answered, "-c 8 -n copies@%h"),
    ]


def _workers_of(
    about: str, queues: tuple[str, ...], consumed: set[str], answered: dict[str, Any], flags: str
) -> Finding:
    missing = [queue for queue in queues if queue not in consumed]
    if missing:
        remedy = f"Start one: python -m workers worker -Q {','.join(queues)} {flags}   (or `kiejobs up`)"
        return Finding(about, Level.BAD, f"nobody works on the queue {', '.join(missing)}", remedy)
    names = sorted(node for node, its in answered.items() if {queue["name"] for queue in its} & set(queues))
    return Finding(about, Level.OK, f"{', '.join(names)} answers" if len(names) == 1 else f"{', '.join(names)} answer")


def _beat(settings: "Settings") -> list[Finding]:
    from kiejobs.db import migrate
    from kiejobs.db.rescue import last_beat_age_s

    database = _opened(settings)
    if database is None or migrate.current(database) is None:
        ages: dict[str, float | None] = {"pump": None, "sweep": None}
    else:
        ages = {name: last_beat_age_s(database, name) for name in ("pump", "sweep")}
    fresh = [age is not None and age <= STALE_S for age in ages.values()]
    stale = not any(fresh) or any(age is not None and age > STALE_S for age in ages.values())
    said = ", ".join(f"{name} {'has not run' if age is None else f'ran {age:.0f} s ago'}" for name, age in ages.items())
    if stale:
        remedy = "Start it: python -m workers beat (and the quick worker, which runs what beat asks for)."
        return [Finding("beat", Level.BAD, said, remedy)]
    return [Finding("beat", Level.OK, said)]


def _storage(settings: "Settings") -> list[Finding]:
    url = settings.storage
    if ":" not in url and not Path(url).expanduser().exists():
        return [_new_folder(Path(url).expanduser().absolute())]
    try:
        from kiejobs.storage.store import Store
    except ModuleNotFoundError as error:
        remedy = 'Only workers need it: pip install "kiejobs[workers]".'
        return [Finding("storage", Level.SKIPPED, f"{error.name} is not installed here", remedy)]
    store = Store.of(settings)
    store.check()
    if ":" not in url:
        return [Finding("storage", Level.OK, f"{Path(url).absolute()} can be written")]
    at = f" at {settings.storage_endpoint}" if settings.storage_endpoint else ""
    lines = [Finding("storage", Level.OK, f"{render.without_password(url)}{at} can be written and read")]
    if not url.lower().startswith(("s3:", "s3a:")):
        return lines
    return [*lines, *_address(settings, store), _unfinished_uploads(settings, store)]


def _address(settings: "Settings", store: "Store") -> list[Finding]:
    """Say where objects are dialled: whether the bucket stands in the path or in the host is a rule that may be wrong."""
    link = store.link("x", 60) if settings.storage_access.get("secret_access_key") else None
    if link is None:
        return []
    return [Finding("storage", Level.OK, f"an object is at {link.partition('?')[0].removesuffix('x')}…")]


def _unfinished_uploads(settings: "Settings", store: "Store") -> Finding:
    from kiejobs.storage.lifecycle import cleaning

    prefix = urlsplit(settings.storage).path.strip("/")
    prefix = f"{prefix}/" if prefix else ""
    link = store.link("x", 60) if settings.storage_access.get("secret_access_key") else None
    found = cleaning(link or "", prefix, settings.storage_access)
    if found.days is not None:
        return Finding("storage", Level.OK, f"the bucket removes unfinished uploads after {found.days} days")
    said = found.unknown or "the bucket keeps the parts of unfinished uploads for ever, and bills them"
    return Finding("storage", Level.NOTE, said, "Set a lifecycle rule that aborts them: see docs/storage.md.")


def _new_folder(folder: Path) -> Finding:
    why = _unwritable(folder)
    if not why:
        return Finding("storage", Level.OK, f"{folder}, made when it is first used")
    remedy = "Set KIEJOBS_STORAGE_URL to another folder or bucket."
    return Finding("storage", Level.BAD, f"{folder} cannot be made: {why}", remedy)


def _accounts(settings: "Settings") -> list[Finding]:
    """Say for which accounts jobs stand in line that no worker seems to have a key for: nobody would ever buy them."""
    from kiejobs.db import accounts, migrate

    database = _opened(settings)
    if database is None or migrate.current(database) != migrate.head():
        return []  # the database's own check says so
    without = [one for one in accounts.unattended(database, after_s=UNATTENDED_S) if one[0] not in settings.keys]
    remedy = (
        "Set its key in KIEJOBS_ACCOUNTS of the workers; `kiejobs cancel JOB` costs nothing while a job is in line."
    )
    return [
        Finding(
            "accounts",
            Level.NOTE,
            f"jobs of account {name!r} that wait to be sent: {count}. Its key is not set here, and no worker has ever read "
            "its balance",
            remedy,
        )
        for name, count in without
    ]


def _callbacks(settings: "Settings") -> list[Finding]:
    """Say who finished the last day's jobs; callbacks that are on and finish none do not arrive."""
    from sqlalchemy import select

    from kiejobs.db import migrate, reads
    from kiejobs.db.clock import clock

    if not settings.public_url and not settings.running_up.get("simulator_url"):
        return [Finding("callbacks", Level.OK, "off; polling finds what has ended")]
    database = _opened(settings)
    if database is None or migrate.current(database) is None:
        return [Finding("callbacks", Level.SKIPPED, "the database cannot be asked")]
    with database.read() as connection:
        yesterday = connection.scalar(select(clock(-86400.0)))
    found = reads.finished_by(database, yesterday)
    said = ", ".join(f"{count} by {by}" for by, count in sorted(found.items())) or "none yet"
    if found and not found.get("callback"):
        remedy = (
            "Call POST KIEJOBS_PUBLIC_URL/callbacks/kie/x from outside: a problem with 404 is right. Polling goes on."
        )
        return [Finding("callbacks", Level.NOTE, f"none arrived; jobs of the last day were finished {said}", remedy)]
    return [Finding("callbacks", Level.OK, f"jobs of the last day were finished {said}")]


def _messages(settings: "Settings") -> list[Finding]:
    """Say whether messages to producers can be signed; without a secret they wait, and nobody is told."""
    if settings.webhook_secrets:
        return [Finding("messages", Level.OK, "signed with KIEJOBS_WEBHOOK_SECRETS")]
    if settings.database.startswith("sqlite"):
        return [Finding("messages", Level.OK, "signed with a secret in the data dir, made when it is first used")]
    remedy = 'Set KIEJOBS_WEBHOOK_SECRETS for every worker, made by: echo "whsec_$(openssl rand -base64 32)"'
    return [Finding("messages", Level.NOTE, "cannot be signed: if services want any, they wait", remedy)]


def _gateway(settings: "Settings") -> list[Finding]:
    """Ask the gateway of `kiejobs up`, or the one that Kie calls, what it misses; where neither is known, nobody."""
    url = settings.running_up.get("gateway_url") or settings.public_url
    if not url:
        return []
    import requests

    session = requests.Session()
    session.trust_env = False
    try:
        answer = session.get(f"{url.rstrip('/')}/readyz", timeout=_GATEWAY_WITHIN_S, allow_redirects=False)
        told = answer.json()
        parts, version = dict(told["parts"]), str(told.get("version"))
        missing = [f"{name}: {part['detail']}" for name, part in parts.items() if not part["ok"]]
    except (requests.RequestException, ValueError, KeyError, TypeError):
        remedy = "See that `kiejobs gateway` runs, and that KIEJOBS_PUBLIC_URL leads to it, from outside at least."
        return [Finding("gateway", Level.NOTE, f"{url}/readyz does not answer as a gateway's", remedy)]
    if missing:
        return [Finding("gateway", Level.NOTE, f"{url} answers, but not all it needs ({'; '.join(missing)[:300]})")]
    if version != __version__:
        said = f"{url} runs version {version[:20]}, this is {__version__}"
        return [Finding("gateway", Level.NOTE, said, "Deploy one version everywhere.")]
    return [Finding("gateway", Level.OK, f"{url} answers: {', '.join(parts)}; version {version}")]


def _flower(settings: "Settings") -> list[Finding]:
    url = settings.running_up.get("flower_url")
    if not url:
        return []
    import requests

    session = requests.Session()
    session.trust_env = False
    try:
        session.get(f"{url}/healthcheck", timeout=3).raise_for_status()
    except requests.RequestException:
        return [Finding("Flower", Level.NOTE, f"{url} does not answer", "See the flower lines of `kiejobs up`.")]
    return [Finding("Flower", Level.OK, f"{url} answers")]


CHECKS: dict[str, Check] = {
    "settings": _settings,
    "Kie": _kie,
    "database": _database,
    "accounts": _accounts,
    "broker": _broker,
    "workers": _workers,
    "beat": _beat,
    "storage": _storage,
    "callbacks": _callbacks,
    "messages": _messages,
    "gateway": _gateway,
    "Flower": _flower,
}
_LATE = {
    "Kie": "Check that this machine reaches KIE_BASE_URL.",
    "database": "Check KIEJOBS_DATABASE_URL and that the server runs.",
    "broker": "Check KIEJOBS_BROKER_URL and that the broker runs.",
    "storage": "Check KIEJOBS_STORAGE_URL, AWS_ENDPOINT_URL and that the server runs.",
}
