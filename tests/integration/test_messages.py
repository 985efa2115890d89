"""Messages to producers: signed, after the commit, repeated until they arrive, with a life of their own."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from sqlalchemy import update
from standardwebhooks.webhooks import Webhook

from kiejobs import KieJobs
from kiejobs.db import deliveries
from kiejobs.db.clock import clock
from kiejobs.db.tables import deliveries as rows
from kiejobs.errors import InvalidInput
from kiejobs.jobs import DeliveryState, JobState
from kiejobs.nudge import NOTIFY, poll_nudge
from tests.factories import age, finish, job_row, make_job, work
from workers.steps.notify import notify
from workers.steps.submit import submit
from workers.sweeps.stale import sweep

SECRETS = "whsec_bmV3ZXItc2VjcmV0LW9mLTI0LWJ5dGVz,whsec_b2xkZXItc2VjcmV0LW9mLTI0LWJ5dGVz"


class Receiver:
    """A producer's service: remembers what came, answers as it is told."""

    def __init__(self) -> None:
        self.came: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.came.append((dict(self.headers), body))
                self.send_response(outer.answers.pop(0) if outer.answers else 200)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"

    def bodies(self) -> list[dict]:
        return [json.loads(body) for _, body in self.came]


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def rt(runtime, database, simulator, settings, receiver):
    return runtime(
        database, webhook_secrets=SECRETS, egress_allow=settings.egress_allow | {("127.0.0.1", receiver.port)}
    )


@pytest.fixture
def jobs(rt, nudges):
    return KieJobs(rt.settings, database=rt.database, publish=nudges)


def send(rt, jobs, receiver, prompt):
    job = jobs.enqueue("z-image", {"prompt": prompt}, callback_url=receiver.url)
    rt.publish.take()
    submit(rt, job.id)
    return jobs.get(job.id)


def tell(rt):
    """Send every message that is published or due."""
    for one in [one for one in rt.publish.take() if one.task == NOTIFY]:
        notify(rt, one.kwargs["delivery_id"])


def look(rt, job):
    rt.publish.take()
    work(rt, [poll_nudge(job.id, job_row(rt.database, job.id).version)], at_most=1)


def test_a_success_is_told_and_verifies_with_the_stock_library(rt, jobs, receiver, simulator):
    """Both secrets verify, the files are named with their hashes, nothing was sent before the end."""
    job = send(rt, jobs, receiver, "[[duration=30]] [[outputs=2]]")
    assert receiver.came == []
    finish(simulator, job.provider_task_id)
    work(rt, [poll_nudge(job.id, job_row(rt.database, job.id).version)])
    for delivery in jobs.deliveries():
        notify(rt, delivery.id)
    headers, body = receiver.came[0]
    for secret in SECRETS.split(","):
        Webhook(secret).verify(body, headers)
    told = json.loads(body)
    assert told["type"] == "generation.succeeded"
    assert told["data"]["generationId"] == job.id
    assert [one["sha256"] for one in told["data"]["outputs"]] == [one.sha256 for one in jobs.get(job.id).outputs]
    assert len(told["data"]["resultUrls"]) == 2
    assert len(receiver.came) == 1


def test_timeout_and_late_result_are_told_in_rising_order(rt, jobs, receiver, simulator):
    """Ten minutes over: told. The late result: told again, with a higher sequence and `late`."""
    job = send(rt, jobs, receiver, "[[duration=30]] [[outputs=1]]")
    age(rt.database, job.id, 601)
    look(rt, job)
    tell(rt)
    finish(simulator, job.provider_task_id)
    work(rt, [poll_nudge(job.id, job_row(rt.database, job.id).version)])
    for delivery in jobs.deliveries(state=DeliveryState.PENDING):
        notify(rt, delivery.id)
    told = receiver.bodies()
    assert [one["type"] for one in told] == ["generation.timed_out", "generation.succeeded"]
    assert told[0]["data"]["sequence"] < told[1]["data"]["sequence"]
    assert told[1]["data"]["late"] is True


@pytest.mark.parametrize(
    ("prompt", "kind"), [("x [[refuse=422]]", "generation.failed"), ("x [[http=502]]", "generation.unconfirmed")]
)
def test_failures_and_parked_jobs_are_told(rt, jobs, receiver, prompt, kind):
    """With Kie's code and words."""
    send(rt, jobs, receiver, prompt)
    tell(rt)
    assert receiver.bodies()[0]["type"] == kind
    assert receiver.bodies()[0]["data"]["error"]["message"]


def test_a_cancel_is_told(rt, jobs, receiver):
    """Canceled by its producer's other half."""
    job = jobs.enqueue("z-image", {"prompt": "x"}, callback_url=receiver.url)
    jobs.cancel(job.id)
    tell(rt)
    assert receiver.bodies()[0]["type"] == "generation.canceled"


def test_a_message_is_repeated_under_the_same_id_until_it_arrives(rt, jobs, receiver):
    """500 and a redirect are no arrival; the schedule is 5 s, 30 s, 2 min …; the job does not change."""
    receiver.answers = [500, 302, 200]
    job = send(rt, jobs, receiver, "x [[refuse=422]]")
    version = job_row(rt.database, job.id).version
    waits = []
    for _ in range(3):
        delivery = jobs.deliveries()[0]
        notify(rt, delivery.id)
        waits.append(_due_in_s(rt, delivery.id))
        _due_now(rt)
    assert waits[0] == pytest.approx(5, abs=1)
    assert waits[1] == pytest.approx(30, abs=1)
    assert waits[2] is None
    assert len({headers["webhook-id"] for headers, _ in receiver.came}) == 1
    assert jobs.deliveries()[0].state == DeliveryState.DELIVERED
    assert job_row(rt.database, job.id).version == version


def test_a_gone_receiver_and_a_spent_schedule_give_up_visibly(rt, jobs, receiver):
    """410 ends it at once, the ninth failure too; a person may send it again."""
    receiver.answers = [410] + [500] * 9
    send(rt, jobs, receiver, "x [[refuse=422]]")
    delivery = jobs.deliveries()[0].id
    notify(rt, delivery)
    assert jobs.deliveries()[0].state == DeliveryState.GAVE_UP
    jobs.send_again(delivery)
    for _ in range(9):
        notify(rt, delivery)
        _due_now(rt)
    assert jobs.deliveries(state=DeliveryState.GAVE_UP)[0].attempts == 9


def test_two_workers_send_a_message_once(rt, jobs, receiver):
    """The claim lets one through."""
    send(rt, jobs, receiver, "x [[refuse=422]]")
    delivery = jobs.deliveries()[0].id
    assert [notify(rt, delivery), notify(rt, delivery)] == [True, False]
    assert len(receiver.came) == 1


def test_a_lost_nudge_is_found_by_the_sweep(rt, jobs, receiver):
    """The message waits in its row."""
    send(rt, jobs, receiver, "x [[refuse=422]]")
    rt.publish.take()
    with rt.database.write() as tx:
        tx.execute(update(rows).values(due_at=clock(-60)))
    sweep(rt)
    tell(rt)
    assert len(receiver.came) == 1


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x", "http://169.254.169.254/", "ftp://example.com/", "http://a@b/"]
)
def test_an_address_that_is_never_dialled_is_refused_at_enqueue(jobs, url):
    """The field is named."""
    with pytest.raises(InvalidInput) as refused:
        jobs.enqueue("z-image", {"prompt": "x"}, callback_url=url)
    assert refused.value.field == "callbackUrl"


def test_an_address_that_turns_out_private_is_given_up(rt, jobs, receiver):
    """The guard looks when it dials, not only at enqueue."""
    job = make_job(rt.database, JobState.WAITING, callback_url="http://localhost:1/hook")
    with rt.database.write() as tx:
        deliveries.tell(tx, job.id, JobState.FAIL)
    notify(rt, jobs.deliveries()[0].id)
    assert jobs.deliveries()[0].state == DeliveryState.GAVE_UP


def test_another_tenant_sees_and_sends_nothing(rt, jobs, receiver):
    """A message belongs to its job's tenant."""
    send(rt, jobs, receiver, "x [[refuse=422]]")
    other = KieJobs(rt.settings, tenant="other", database=rt.database)
    assert other.deliveries() == ()
    with pytest.raises(Exception, match="no delivery"):
        other.send_again(jobs.deliveries()[0].id)


def _due_now(rt):
    with rt.database.write() as tx:
        tx.execute(update(rows).where(rows.c.due_at.is_not(None)).values(due_at=clock()))


def _due_in_s(rt, delivery_id):
    from sqlalchemy import select

    with rt.database.read() as connection:
        row = connection.execute(select(rows.c.due_at, clock().label("now")).where(rows.c.id == delivery_id)).one()
    return (row.due_at - row.now).total_seconds() if row.due_at else None


def test_what_ended_long_ago_is_forgotten_and_nothing_else(rt, jobs, simulator):
    """Rows go after the retention, with all that hangs on them; a job that has not ended stays, whatever its age."""
    from kiejobs.db.tables import jobs as table
    from workers.sweeps.prune import prune

    old, fresh, running = (
        make_job(rt.database, state) for state in (JobState.SUCCESS, JobState.FAIL, JobState.WAITING)
    )
    with rt.database.write() as tx:
        tx.execute(update(table).where(table.c.id == old.id).values(ended_at=clock(-181 * 86400)))
    assert prune(rt) == 1
    assert [len(jobs.list()), jobs.get(fresh.id).phase, jobs.get(running.id).phase] == [2, "fail", "waiting"]


def test_a_chosen_id_without_a_key_meets_no_other_job(jobs):
    """Jobs without a key have nothing in common: a bare message beside them is a job of its own."""
    import uuid

    jobs.enqueue("z-image", {"prompt": "one"})
    chosen = str(uuid.uuid4())
    assert jobs.enqueue("z-image", {"prompt": "two"}, id=chosen).id == chosen
    assert jobs.enqueue("z-image", {"prompt": "two"}, id=chosen).id == chosen
    assert len(jobs.list()) == 2
