"""`/metrics`: how things stand and what was counted, for Prometheus. Needs a key of the scope admin, or loopback.

All of it is in the database, so every gateway says the same and a restart changes nothing. It is read at most once per
five seconds, however many ask. No label names a tenant, a job or a text of a stranger; models that the catalogue does
not know are `other`.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from math import isinf
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from kiejobs import counted
from kiejobs.counted import Counted, Key
from kiejobs.db import counters
from kiejobs.db.figures import Figures, figures
from kiejobs.db.session import Database
from kiejobs.gateway.callers import Admin
from kiejobs.gateway.schemas import answers
from kiejobs.gateway.services import Uses
from kiejobs.kie import catalogue
from kiejobs.settings import Settings

READ_EVERY_S = 5.0
_FOREVER_S = 1e9
"""Since a periodic task ran that never did: a figure that alerts compare with, not a gap that they overlook."""

router = APIRouter(tags=["health"])


class Metrics:
    """Reads the figures, and remembers them for a moment. Safe to share between threads."""

    def __init__(self, settings: Settings, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._database, self._monotonic = settings, database, monotonic
        self._lock = threading.Lock()
        self._read_at_s = float("-inf")
        self._families: list[Metric] = []
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Give the figures, as Prometheus's client asks for them."""
        with self._lock:
            if self._monotonic() - self._read_at_s >= READ_EVERY_S:
                self._families = self._read()
                self._read_at_s = self._monotonic()
            families = self._families
        yield from families

    def _read(self) -> list[Metric]:
        began_s = self._monotonic()
        window_s = self._settings.create_window_s + self._settings.create_margin_s
        now = figures(self._database, self._settings.keys, window_s=window_s)
        sums = counters.everything(self._database)
        read = _gauge("metrics_read_seconds", "How long reading these figures took.")
        read.add_metric([], self._monotonic() - began_s)
        return [*_of_jobs(now), *_of_accounts(now, self._settings, sums), *_counted(sums), read]


def _gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"kiejobs_{name}", about, labels=labels)


def _one(name: str, about: str, values: Mapping[str, float] | float, label: str = "") -> GaugeMetricFamily:
    """Make a gauge without labels, or with one."""
    made = _gauge(name, about, *([label] if label else []))
    for key, value in values.items() if isinstance(values, Mapping) else [("", values)]:
        made.add_metric([key] if label else [], value)
    return made


def _of_jobs(now: Figures) -> Iterator[Metric]:
    by_model: Counter[tuple[str, str]] = Counter()
    line: Counter[tuple[str, str]] = Counter()
    for (account, model, priority), count in now.in_line.items():
        by_model["queued", catalogue.counted_as(model)] += count
        line[account, priority] += count
    for (state, model), count in now.unfinished.items():
        by_model[state, catalogue.counted_as(model)] += count
    yield _two("jobs", "Unfinished jobs. `queued`: in line; `held`: kept out of it.", ("state", "model"), by_model)
    yield _two("line_jobs", "Jobs in line.", ("account", "priority"), line)
    yield _one("line_first_seconds", "How long the job waits that is sent next.", now.first_in_line_s, "account")
    yield _one("due_lag_seconds", "By how much the most overdue row is late.", now.lag_s, "table")
    yield _one("unsaved_results", "Result files that are known and not in the storage yet.", now.unsaved)
    if now.unsaved_dies_in_s is not None:
        about = "Until the first link of an unsaved result dies at Kie."
        yield _one("unsaved_dies_in_seconds", about, now.unsaved_dies_in_s)
    yield _one("messages_pending", "Messages to producers that have not arrived yet.", now.messages_pending)
    about = "Messages to producers that were given up and wait for somebody to send them again."
    yield _one("messages_gave_up", about, now.messages_gave_up)
    ran = dict.fromkeys(("pump", "sweep", "watch"), _FOREVER_S) | now.runs_s
    yield _one("last_run_seconds", "Since a periodic task last ran; 1e9 where it never did.", ran, "task")


def _two(name: str, about: str, labels: tuple[str, str], values: Mapping[tuple[str, str], float]) -> Metric:
    made = _gauge(name, about, *labels)
    for key, value in sorted(values.items()):
        made.add_metric(key, value)
    return made


def _of_accounts(now: Figures, settings: Settings, sums: Mapping[Key, float]) -> Iterator[Metric]:
    them = now.accounts
    drift = {label: value for (name, label), value in sums.items() if name == counters.DRIFT}
    limits = {name: settings.create_limit_of(name) for name in them}
    queries = {name: settings.query_limit_of(name) for name in them}
    credits = {name: own.credits for name, own in them.items() if own.credits is not None}
    checked = {name: own.checked_s for name, own in them.items() if own.checked_s is not None}
    paused = {name: float(own.paused) for name, own in them.items()}
    off = {name: own.models_paused for name, own in them.items()}
    used = {name: own.creates for name, own in them.items()}
    for name, about, values in (
        ("account_creates_used", "Create calls within the window that ends now.", used),
        ("account_creates_limit", "Create calls that a window may have.", limits),
        ("account_queries_limit", "Reads per second that the account may make.", queries),
        ("account_paused", "1 while Kie refuses the account and its creates wait.", paused),
        ("account_models_paused", "Models of the account that Kie has switched off.", off),
        ("account_credits", "The balance that Kie reported.", credits),
        ("account_checked_seconds", "Since the balance was read.", checked),
        ("account_credits_drift", "Credits that left the balance and that no known submission explains.", drift),
    ):
        yield _one(name, about, values, "account")


def _counted(sums: Mapping[Key, float]) -> Iterator[Metric]:
    for what in counted.ALL:
        yield _histogram(what, sums) if what.buckets else _counter(what, sums)


def _counter(what: Counted, sums: Mapping[Key, float]) -> Metric:
    made = CounterMetricFamily(f"kiejobs_{what.name}", what.help, labels=what.labels)
    for labels, value in sorted(counted.counts_of(what, sums).items()):
        made.add_metric(labels, value)
    return made


def _histogram(what: Counted, sums: Mapping[Key, float]) -> Metric:
    made = HistogramMetricFamily(f"kiejobs_{what.name}", what.help, labels=what.labels)
    for labels, spread in sorted(counted.spreads_of(what, sums).items()):
        bounds = [("+Inf" if isinf(bound) else str(float(bound)), count) for bound, count in spread.at_most]
        made.add_metric(labels, bounds, spread.sum)
    return made


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses=answers({200: {"description": "Prometheus's text form.", "content": {"text/plain": {}}}}, 403, 503),
)
def metrics(jobs: Admin, services: Uses, accept: Annotated[str, Header()] = "") -> Response:
    """Say how things stand and what was counted since this installation began. Needs the scope admin."""
    encode, media_type = choose_encoder(accept)
    return Response(encode(services.metrics.registry), media_type=media_type)
