"""Links that die: which is copied first, how soon it is tried again, what is not safe yet, and who learns of a loss."""

import hashlib
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from kiejobs.answers import Finished, Result
from kiejobs.db import copies, looks, reads, rescue
from kiejobs.db.session import Database
from kiejobs.db.tables import outputs
from kiejobs.decisions import after_poll
from kiejobs.errors import KieUnreadable, Reason, Stopped, StorageUnavailable
from kiejobs.jobs import BY_PRODUCTS, JobState, OutputState
from kiejobs.nudge import STORE, store_nudge
from kiejobs.producer import KieJobs
from kiejobs.setbacks import Setback
from kiejobs.simulator import Simulator
from tests.factories import (
    Made,
    Nudges,
    age,
    alarms_of,
    alter,
    alter_outputs,
    events_of,
    finish,
    job_row,
    listening,
    make_job,
    now,
    outputs_of,
    work,
)
from workers.runtime import Runtime
from workers.steps.poll import poll
from workers.steps.store import store
from workers.steps.submit import submit

DAY_S = 86400.0


@pytest.fixture
def rt(database: Database, runtime: Callable[..., Runtime]) -> Runtime:
    """A runtime on each database."""
    return runtime(database)


def storing(database: Database, *, dies_in_s: float | None, late_s: float = 20.0, **columns: Any) -> Made:
    """A job with one output that has been due for a while, and a link with so long to live."""
    made = make_job(database, JobState.STORING)
    expires_at = None if dies_in_s is None else now(database) + timedelta(seconds=dies_in_s)
    alter_outputs(database, made.id, expires_at=expires_at, due_at=now(database) - timedelta(seconds=late_s), **columns)
    return made


def test_an_output_remembers_until_when_its_link_lives(rt: Runtime) -> None:
    """As the family says, or Kie's 14 days; a document has no link."""
    made = make_job(rt.database, JobState.WAITING)
    claim = looks.claim(rt.database, made.id, made.version, claim_s=45)
    assert claim is not None
    results = (
        Result("result", url="https://files.example/0.png", lives_s=1200.0),
        Result("result", url="https://files.example/1.png"),
        Result("document", document="{}"),
    )
    change = after_poll(claim, Finished(results), rt.pace("default"))
    assert looks.write(rt.database, claim, change, record=None, who="test")
    left = [
        row.expires_at and (row.expires_at - now(rt.database)).total_seconds()
        for row in outputs_of(rt.database, made.id)
    ]
    assert left[0] == pytest.approx(1200, abs=10)
    assert left[1] == pytest.approx(14 * DAY_S, abs=10)
    assert left[2] is None


def test_the_rescue_takes_first_what_dies_first(rt: Runtime) -> None:
    """Not what has waited longest; what nobody knows comes last."""
    unknown = storing(rt.database, dies_in_s=None, late_s=900)
    calm = storing(rt.database, dies_in_s=13 * DAY_S, late_s=600)
    urgent = storing(rt.database, dies_in_s=600, late_s=15)
    found = rescue.overdue_outputs(rt.database, grace_s=10)
    assert [row.job_id for row in found] == [urgent.id, calm.id, unknown.id]
    assert [row.job_id for row in rescue.overdue_outputs(rt.database, grace_s=10, limit=1)] == [urgent.id]


def test_what_waits_in_the_queue_lets_a_dying_link_go_first(simulator: Simulator, rt: Runtime, nudges: Nudges) -> None:
    """The message was for another file: that one is asked for again, and stored after it."""
    calm, urgent = sent(rt, simulator), sent(rt, simulator)
    for job_id in (calm, urgent):
        poll(rt, job_id, job_row(rt.database, job_id).version)
    nudges.take()
    alter_outputs(rt.database, urgent, expires_at=now(rt.database) + timedelta(minutes=15))
    assert store(rt, calm, 0)
    assert states(rt, calm, urgent) == [JobState.STORING, JobState.SUCCESS]
    assert nudges.of(STORE) == [store_nudge(calm, 0)]
    work(rt)
    assert states(rt, calm, urgent) == [JobState.SUCCESS, JobState.SUCCESS]


def sent(rt: Runtime, simulator: Simulator, prompt: str = "a cat") -> str:
    """A job whose generation is over at Kie, and which nobody has looked at yet."""
    jobs = KieJobs(rt.settings, database=rt.database, publish=Nudges())
    job = jobs.enqueue("z-image", {"prompt": prompt}, validate="off")
    submit(rt, job.id)
    row = job_row(rt.database, job.id)
    finish(simulator, row.provider_task_id)
    rt.look_again(job.id, row.version, 0.0)
    return job.id


def states(rt: Runtime, *ids: str) -> list[str]:
    return [job_row(rt.database, job_id).state for job_id in ids]


@pytest.mark.parametrize(("dies_in_s", "expected_s"), [(None, 600), (10 * DAY_S, 600), (1200, 120), (20, 5), (-5, 600)])
def test_the_sooner_a_link_dies_the_sooner_its_copy_is_tried_again(
    rt: Runtime, dies_in_s: float | None, expected_s: float
) -> None:
    """The eleventh try failed: nothing listens behind this link."""
    made = storing(rt.database, dies_in_s=dies_in_s, attempts=10, url="http://127.0.0.1:1/a.png")
    allowed = rt.settings.model_copy(update={"egress_allow": frozenset({("127.0.0.1", 1)})})
    rt.settings = allowed
    store(rt, made.id, 0)
    (row,) = outputs_of(rt.database, made.id)
    assert row.attempts == 11
    assert (row.due_at - now(rt.database)).total_seconds() == pytest.approx(expected_s, abs=5)


def test_the_unsaved_are_listed_soonest_to_die_first_and_nothing_else(rt: Runtime, tmp_path: Path) -> None:
    """Empty means safe: what is stored, running or ended is not on this list, nor what another tenant has."""
    jobs = KieJobs(rt.settings, database=rt.database, publish=Nudges())
    for state in (JobState.QUEUED, JobState.WAITING, JobState.SUCCESS, JobState.FAIL, JobState.CANCELED):
        make_job(rt.database, state)
    make_job(rt.database, JobState.STORING, outputs_state=OutputState.STORED)
    make_job(rt.database, JobState.STORING, tenant="other")
    assert jobs.list(unsaved=True) == []
    calm = storing(rt.database, dies_in_s=13 * DAY_S)
    urgent = storing(rt.database, dies_in_s=600, error="the bucket does not exist")
    assert [job.id for job in jobs.list(unsaved=True)] == [urgent.id, calm.id]
    (found,) = jobs.list(unsaved=True, limit=1)
    assert found.outputs[0].error == "the bucket does not exist"
    assert found.outputs[0].expires_at is not None
    assert jobs.list(unsaved=True, model="another") == []


def test_a_result_whose_link_died_for_good_raises_an_alert(simulator: Simulator, rt: Runtime) -> None:
    """It was paid for and made, and it is gone."""
    job_id = sent(rt, simulator, "[[dead-link]]")
    work(rt, at_most=4)
    assert "alert" not in events_of(rt.database, job_id)
    age(rt.database, job_id, 14 * DAY_S)
    store(rt, job_id, 0)
    row = job_row(rt.database, job_id)
    assert (row.state, row.reason) == (JobState.FAIL, Reason.RESULT_EXPIRED)
    assert events_of(rt.database, job_id).count("alert") == 1


def beside(rt: Runtime, role: str, *, url: str, age_s: float, **columns: Any) -> str:
    """A job whose result is stored, and which has one output beside it."""
    made = make_job(rt.database, JobState.STORING, outputs_state=OutputState.STORED)
    with rt.database.write() as tx:
        row = {"job_id": made.id, "position": 1, "role": role, "state": OutputState.PENDING, "url": url, "version": 1}
        tx.execute(insert(outputs).values(row | columns | {"due_at": now(rt.database) - timedelta(seconds=1)}))
    alter(rt.database, made.id, accepted_at=now(rt.database) - timedelta(seconds=age_s))
    return made.id


@pytest.mark.parametrize("role", sorted(BY_PRODUCTS))
def test_a_by_product_that_nobody_can_fetch_is_given_up_after_a_day(rt: Runtime, role: str) -> None:
    """The paid result beside it is stored, so the job succeeds; the output and the timeline say what is missing."""
    job_id = beside(rt, role, url="http://127.0.0.1:1/a.png", age_s=DAY_S - 60, attempts=50)
    store(rt, job_id, 1)
    assert job_row(rt.database, job_id).state == JobState.STORING, "a day is not over"
    age(rt.database, job_id, 700)
    store(rt, job_id, 1)
    row, lost = job_row(rt.database, job_id), outputs_of(rt.database, job_id)[1]
    assert (row.state, row.reason) == (JobState.SUCCESS, None)
    assert lost.state == OutputState.FAILED
    assert lost.error
    assert "alert" not in events_of(rt.database, job_id)
    assert "given up" in KieJobs(rt.settings, database=rt.database).timeline(job_id)[-2].note


def test_a_by_product_of_a_late_result_is_tried_often_before_it_is_given_up(rt: Runtime) -> None:
    """The generation took more than a day."""
    job_id = beside(rt, "cover", url="http://127.0.0.1:1/a.png", age_s=2 * DAY_S, attempts=3)
    store(rt, job_id, 1)
    assert job_row(rt.database, job_id).state == JobState.STORING


def test_an_outage_of_ours_costs_no_by_product(rt: Runtime) -> None:
    """For two days nothing could be written: what is still at Kie is not given up for it."""
    job_id = beside(rt, "cover", url="http://127.0.0.1:1/a.png", age_s=2 * DAY_S, attempts=300)

    def full(*_: Any, **__: Any) -> str:
        raise StorageUnavailable("the disk is full")

    rt.store.put = full  # type: ignore[method-assign]
    alter_outputs(rt.database, job_id, document="{}", url=None)
    store(rt, job_id, 1)
    assert job_row(rt.database, job_id).state == JobState.STORING


def test_broken_bytes_raise_no_alert_of_a_dead_link(simulator: Simulator, rt: Runtime) -> None:
    """Kie's own fault, and no loss of ours."""
    job_id = sent(rt, simulator, "[[html-result]]")
    work(rt)
    age(rt.database, job_id, 91)  # the third try is the sweep's
    store(rt, job_id, 0)
    assert job_row(rt.database, job_id).reason == Reason.RESULT_INVALID
    assert "alert" not in events_of(rt.database, job_id)


def test_a_copy_that_lost_its_lease_makes_nothing_visible(rt: Runtime) -> None:
    """Asked at the end of a copy, before the file is there: another worker has taken it over."""
    made = storing(rt.database, dies_in_s=None)
    mine = copies.claim(rt.database, made.id, 0, lease_s=60)
    assert mine is not None
    with rt.leases.keep(mine) as lease:
        lease.confirm()
        age(rt.database, made.id, 100)
        other = copies.claim(rt.database, made.id, 0, lease_s=60)
        assert other is not None
        with pytest.raises(Stopped):
            lease.confirm()
    assert not copies.postpone(rt.database, mine, Setback(0), error="x", who="test"), "and nothing is written of it"


def test_a_worker_that_died_between_upload_and_row_leaves_one_copy(simulator: Simulator, rt: Runtime) -> None:
    """The bytes are in storage, the row says nothing of it: the next copy writes the same key, and nothing else is left."""
    job_id = sent(rt, simulator)
    work(rt, at_most=1)
    folder = Path(rt.settings.storage)
    real = copies.close_stored

    class Died(BaseException):
        """As far as this process is concerned."""

    def die(*_: Any, **__: Any) -> bool:
        raise Died

    copies.close_stored = die
    try:
        with pytest.raises(Died):
            store(rt, job_id, 0)
    finally:
        copies.close_stored = real
    (path,) = [path for path in folder.rglob("*") if path.is_file()]
    (row,) = outputs_of(rt.database, job_id)
    assert (row.state, row.key) == ("pending", None)
    age(rt.database, job_id, 61)
    assert store(rt, job_id, 0)
    assert [found for found in folder.rglob("*") if found.is_file()] == [path]
    (row,) = outputs_of(rt.database, job_id)
    assert (folder / row.key, row.sha256) == (path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert alarms_of(rt.database, job_id) == []


def test_a_name_that_leads_to_a_private_address_costs_no_result(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DNS of ours answers wrongly for an hour: the job waits, somebody is told once, whatever address it says."""
    real, asked = socket.getaddrinfo, []

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "cdn.example":
            return real(host, *args, **kwargs)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"10.0.0.{len(asked)}", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    made = storing(rt.database, dies_in_s=None, url="http://cdn.example/a.png")
    for _ in range(3):
        store(rt, made.id, 0)
        age(rt.database, made.id, 601)
    (row,) = outputs_of(rt.database, made.id)
    assert (states(rt, made.id), row.state, row.attempts) == ([JobState.STORING], OutputState.PENDING, 3)
    assert "cdn.example:80 is at 10.0.0.3" in row.error
    assert events_of(rt.database, made.id).count("alert") == 1


class Renewing:
    """A Kie that gives links as a test wants it, and a file server that knows which are alive."""

    def __init__(self, rt: Runtime, address: str) -> None:
        self.address, self.alive, self.fetched = address, set[str](), list[str]()
        self.listed, self.fresh = "first", list[str]()
        self.answers = 404
        self.asked: list[str] = []
        self.readable = True
        rt._clients["default"] = self  # type: ignore[assignment]

    def url(self, name: str) -> str:
        return f"{self.address}/{name}.png"

    def record(self, family: Any, task_id: str) -> tuple[Finished, Any]:
        self.asked.append("record")
        if not self.readable:
            raise KieUnreadable("Kie answered 500: no record today")
        return Finished((Result("result", url=self.url(self.listed)),)), None

    def fresh_link(self, family: Any, task_id: str, url: str) -> str | None:
        self.asked.append(f"fresh for {url.rsplit('/', 1)[1]}")
        return self.url(self.fresh.pop(0)) if self.fresh else None

    def next_try(self, rt: Runtime, job_id: str) -> list[str]:
        """Copy once more, as soon as it is due, and return what was fetched."""
        self.fetched.clear()
        self.asked.clear()
        age(rt.database, job_id, 601)
        store(rt, job_id, 0)
        return [path.strip("/").removesuffix(".png") for path in self.fetched]


@pytest.fixture
def kie(rt: Runtime) -> Iterator[Renewing]:
    """Links behind which a server answers 404, or as a test says, until it says that they live."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.fetched.append(self.path)
            body = PNG if self.path in made.alive else b""
            self.send_response(200 if body else made.answers)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        rt.settings = rt.settings.model_copy(update={"egress_allow": frozenset({("127.0.0.1", server.server_port)})})
        made = Renewing(rt, f"http://127.0.0.1:{server.server_port}")
        yield made
        server.shutdown()


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x24IHDR" + bytes(40) + b"\x00\x00\x00\x00IEND\xaeB`\x82"


def test_a_link_that_the_record_still_names_is_not_fetched_again_at_once(rt: Runtime, kie: Renewing) -> None:
    """The record is read, then Kie is asked for a fresh link; only after a wait the old one is looked at again."""
    made = storing(rt.database, dies_in_s=None, url=kie.url("first"))
    assert kie.next_try(rt, made.id) == ["first"]
    (row,) = outputs_of(rt.database, made.id)
    assert (row.link_expired, row.refused_url) == (True, kie.url("first"))
    assert (row.due_at - now(rt.database)).total_seconds() < 1
    assert kie.next_try(rt, made.id) == []
    assert kie.asked == ["record", "fresh for first.png"]
    kie.alive.add("/first.png")
    assert kie.next_try(rt, made.id) == ["first"], "it came late to its place"
    assert states(rt, made.id) == [JobState.SUCCESS]


def test_a_new_link_that_is_dead_too_leads_on_to_a_fresh_one(rt: Runtime, kie: Renewing) -> None:
    """The record names another address than before, and that one is refused as well: the next step is download-url."""
    made = storing(rt.database, dies_in_s=None, url=kie.url("first"))
    kie.next_try(rt, made.id)
    kie.listed = "second"
    assert kie.next_try(rt, made.id) == ["second"]
    kie.fresh, kie.alive = ["third"], {"/third.png"}
    assert kie.next_try(rt, made.id) == ["third"]
    assert kie.asked == ["record", "fresh for second.png"]
    assert states(rt, made.id) == [JobState.SUCCESS]


def test_a_record_that_lists_other_things_now_names_no_link(rt: Runtime, kie: Renewing) -> None:
    """In the place of our file stands one of another kind: copying that would store the wrong thing."""
    made = storing(rt.database, dies_in_s=None, url=kie.url("first"), role="cover")
    kie.next_try(rt, made.id)
    kie.listed, kie.fresh, kie.alive = "another", ["fresh"], {"/another.png", "/fresh.png"}
    assert kie.next_try(rt, made.id) == ["fresh"]


def test_a_record_that_cannot_be_read_does_not_keep_kie_from_being_asked_for_a_fresh_link(
    rt: Runtime, kie: Renewing
) -> None:
    """The two calls fail apart; a Kie that throttles is left alone."""
    made = storing(rt.database, dies_in_s=None, url=kie.url("first"))
    kie.next_try(rt, made.id)
    kie.readable, kie.fresh, kie.alive = False, ["fresh"], {"/fresh.png"}
    assert kie.next_try(rt, made.id) == ["fresh"]
    assert kie.asked == ["record", "fresh for first.png"]
    assert states(rt, made.id) == [JobState.SUCCESS]


def test_a_link_whose_server_answers_500_for_ever_is_renewed(rt: Runtime, kie: Renewing) -> None:
    """After its third failure, from the record and then by download-url; else the result would be lost without a word."""
    made = storing(rt.database, dies_in_s=None, url=kie.url("first"))
    kie.answers, kie.fresh, kie.alive = 500, ["fresh"], {"/fresh.png"}
    assert [kie.next_try(rt, made.id) for _ in range(3)] == [["first"]] * 3
    assert kie.asked == []
    assert kie.next_try(rt, made.id) == ["fresh"]
    assert kie.asked == ["record", "fresh for first.png"]
    assert states(rt, made.id) == [JobState.SUCCESS]


def test_a_result_is_not_lost_after_two_weeks_before_kie_was_asked(rt: Runtime, kie: Renewing) -> None:
    """Its server was down to the end, and the last failure was not one after which Kie is asked."""
    made = storing(rt.database, dies_in_s=None, url=kie.url("first"), attempts=499)
    age(rt.database, made.id, 14 * DAY_S)
    kie.answers, kie.fresh, kie.alive = 500, ["fresh"], {"/fresh.png"}
    assert kie.next_try(rt, made.id) == ["first"]
    assert kie.next_try(rt, made.id) == ["fresh"]
    assert states(rt, made.id) == [JobState.SUCCESS]


def test_a_worker_without_the_key_gives_no_by_product_up(rt: Runtime, kie: Renewing) -> None:
    """That it cannot ask for a fresh link says nothing of the file."""
    made = storing(rt.database, dies_in_s=None, url=kie.url("first"), role="origin", link_expired=True)
    del rt._clients["default"]
    rt.settings = rt.settings.model_copy(update={"accounts": {}, "api_key": None})
    assert kie.next_try(rt, made.id) == []
    (row,) = outputs_of(rt.database, made.id)
    assert row.state == OutputState.PENDING
    assert "no key" in row.error


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_the_unsaved_are_found_without_reading_all_jobs(database: Database) -> None:
    """Whoever asks whether all is safe asks often; a thousand jobs have ended, one has not."""
    made = storing(database, dies_in_s=None)
    with database.write() as tx:
        tx.exec_driver_sql(
            "INSERT INTO jobs (id, tenant, account, model, family, priority, state, version, nudges, created_at, polls, "
            "troubles, empty_looks, executions, late, cancel_requested, sequence, request_hash) SELECT gen_random_uuid(), "
            "tenant, account, model, family, priority, 'success', 4, 0, now(), 0, 0, 0, 0, false, false, 0, 'x' "
            "FROM jobs, generate_series(1, 3000)"
        )
        tx.exec_driver_sql("INSERT INTO payloads (job_id, request) SELECT id, '{}' FROM jobs ON CONFLICT DO NOTHING")
        for table in ("jobs", "outputs", "payloads"):
            tx.exec_driver_sql(f"ANALYZE {table}")
    asked: list[Any] = []
    with listening(database, lambda *told: asked.append(told[2:4])):
        found = reads.listed(database, tenant=None, unsaved=True, limit=20)
    assert [job.id for job in found] == [made.id]
    statement, parameters = next(one for one in asked if "payloads" in one[0])
    with database.read() as connection:
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())
    assert "Seq Scan on jobs" not in plan, plan


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_the_question_what_dies_first_is_answered_by_an_index(database: Database) -> None:
    """Each copy asks it: thousands of results that wait, none of them urgent, are not read through every time."""
    make_job(database, JobState.STORING)
    with database.write() as tx:
        tx.exec_driver_sql(
            "INSERT INTO outputs (job_id, position, role, state, version, due_at, nudges, attempts, refusals, "
            "executions, link_expired, received_bytes, expires_at) SELECT job_id, n, role, 'pending', 1, now(), 0, 0, 0, "
            "0, false, 0, now() + interval '13 days' FROM outputs, generate_series(1, 3000) n"
        )
        tx.exec_driver_sql("ANALYZE outputs")
    asked: list[Any] = []
    with listening(database, lambda *told: asked.append(told[2:4])):
        assert copies.most_urgent(database, within_s=3600) is None
    statement, parameters = next(one for one in asked if "outputs" in one[0])
    with database.read() as connection:
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN (ANALYZE) {statement}", parameters).scalars())
    assert "using ix_outputs_dying" in plan
    assert "Index Cond" in plan
    assert "Rows Removed" not in plan, plan
