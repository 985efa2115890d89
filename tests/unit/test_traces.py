"""One trace per job: from enqueue to stored, a span for each state, under ids that follow from the job's."""

import gzip
import subprocess
import sys
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from sqlalchemy import select, update

from kiejobs.db.tables import events
from kiejobs.jobs import JobState
from tests.factories import make_job
from workers.sweeps.tally import tally

pytest.importorskip("opentelemetry.sdk", reason="no opentelemetry-sdk (the extra otel)")
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from kiejobs.traces import Traces, ids_of


class Kept(SpanExporter):
    """An exporter that keeps what it is given."""

    def __init__(self):
        self.spans = []

    def export(self, spans):
        self.spans += spans
        return SpanExportResult.SUCCESS


@pytest.fixture
def traced(sqlite, runtime):
    """A runtime whose traces are kept; counting has begun."""
    rt, kept = runtime(sqlite), Kept()
    rt.__dict__["traces"] = Traces(kept)
    tally(rt)
    return rt, kept


def let_settle(database):
    """Spread each timeline over seconds, and make it old enough to be counted."""
    with database.write() as tx:
        for number, row in enumerate(tx.execute(select(events.c.id, events.c.at).order_by(events.c.id)).all()):
            at = row.at - timedelta(seconds=60 - number)
            tx.execute(update(events).where(events.c.id == row.id).values(at=at))


def test_a_job_that_ended_is_one_trace_with_a_span_for_each_state(traced):
    rt, kept = traced
    made = make_job(rt.database, JobState.SUCCESS, prompt="a secret prompt", credits=12, polls=3)
    make_job(rt.database, JobState.WAITING)
    let_settle(rt.database)
    tally(rt)
    tally(rt)
    rt.traces.close()
    root = next(span for span in kept.spans if span.name == "generation")
    trace_id, root_id = ids_of(made.id)
    assert {span.context.trace_id for span in kept.spans} == {trace_id}
    assert f"{trace_id:032x}" == made.id.replace("-", "")
    assert root.context.span_id == root_id
    children = [span for span in kept.spans if span is not root]
    assert [span.name for span in children] == ["queued", "submitting", "waiting", "storing"]
    assert {span.parent.span_id for span in children} == {root_id}
    assert [(span.end_time - span.start_time) / 1e9 for span in children] == [pytest.approx(1, abs=0.1)] * 4
    assert len({span.context.span_id for span in kept.spans}) == 5
    assert root.attributes["kiejobs.state"] == "success"
    assert (root.attributes["kiejobs.polls"], root.attributes["kiejobs.credits"]) == (3, 12)
    assert [event.name for event in root.events][-1] == "stored"
    assert "secret" not in "".join(span.to_json() for span in kept.spans)


def test_a_failed_job_is_an_error_and_its_message_is_not_told(traced):
    rt, kept = traced
    make_job(rt.database, JobState.FAIL, message="words of a stranger")
    let_settle(rt.database)
    tally(rt)
    rt.traces.close()
    root = next(span for span in kept.spans if span.name == "generation")
    assert (root.status.status_code.name, root.status.description) == ("ERROR", "generation")
    assert "stranger" not in root.to_json()


def test_without_an_endpoint_there_are_no_traces(sqlite, runtime):
    assert runtime(sqlite).traces is None


def test_without_the_extra_a_worker_says_so_and_works(sqlite, runtime, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "kiejobs.traces", None)
    assert runtime(sqlite, traces_endpoint="http://127.0.0.1:9").traces is None
    assert "kiejobs[otel]" in caplog.text


def test_a_collector_gets_them_over_http(sqlite, runtime):
    """At the path that OTLP names, under the job's id."""
    got = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        rt = runtime(sqlite, traces_endpoint=f"http://127.0.0.1:{server.server_port}/")
        tally(rt)
        made = make_job(sqlite, JobState.SUCCESS)
        let_settle(sqlite)
        tally(rt)
        rt.traces.close()
        server.shutdown()
    ((path, body),) = got
    assert path == "/v1/traces"
    assert bytes.fromhex(made.id.replace("-", "")) in body


def test_nobody_who_does_not_want_traces_loads_them():
    """A worker's start stays as quick as it was."""
    program = "import workers.runtime, workers.sweeps.tally, sys; raise SystemExit('kiejobs.traces' in sys.modules)"
    environment = {"KIEJOBS_BROKER_URL": "redis://127.0.0.1:1/0", "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
