"""Messages to producers: signed, after the commit, repeated until they arrive, with a life of their own."""

import json
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import update
from standardwebhooks.webhooks import Webhook

from kiejobs import KieJobs, counted
from kiejobs.advice import advice
from kiejobs.db import counters, deliveries
from kiejobs.db.clock import clock
from kiejobs.db.figures import figures
from kiejobs.db.tables import deliveries as rows
from kiejobs.errors import InvalidInput, JobNotFound, NotPossible
from kiejobs.jobs import DeliveryState, JobState
from kiejobs.notify import post
from kiejobs.nudge import NOTIFY, poll_nudge
from kiejobs.storage.egress import guarded_session
from tests.factories import age, finish, job_row, make_job, work
from workers.receivers import TO_ONE, Receivers
from workers.steps.notify import notify
from workers.steps.submit import submit
from workers.sweeps.stale import sweep

SECRETS = "whsec_bmV3ZXItc2VjcmV0LW9mLTI0LWJ5dGVz,whsec_b2xkZXItc2VjcmV0LW9mLTI0LWJ5dGVz"


class Receiver:
    """A producer's service: remembers what came, answers as it is told."""

    def __init__(self) -> None:
        self.came: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.takes_s = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.came.append((dict(self.headers), body))
                threading.Event().wait(outer.takes_s)
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


def test_a_message_has_what_the_page_shows_and_gives_the_metadata_back(rt, jobs, receiver, simulator):
    """A receiver finds its own record by it, also before it has saved our id."""
    page = (Path(__file__).parents[2] / "docs/integrations.md").read_text(encoding="utf-8")
    shown = json.loads(page.partition("<!-- message -->\n```json\n")[2].partition("```")[0])
    prompt = "[[duration=30]] [[outputs=1]]"
    job = jobs.enqueue("z-image", {"prompt": prompt}, callback_url=receiver.url, metadata={"order": "ü42"})
    submit(rt, job.id)
    finish(simulator, str(jobs.get(job.id).provider_task_id))
    work(rt, [poll_nudge(job.id, job_row(rt.database, job.id).version)])
    notify(rt, jobs.deliveries()[0].id)
    (told,) = receiver.bodies()
    assert told["data"]["metadata"] == {"order": "ü42"}
    assert set(told) == set(shown)
    assert set(told["data"]) == set(shown["data"])
    assert set(told["data"]["outputs"][0]) == set(shown["data"]["outputs"][0])
    types = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `generation.")}
    assert types == set(deliveries.TELLS.values())


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
    error = receiver.bodies()[0]["data"]["error"]
    assert error["message"]
    assert error["action"] == advice(jobs.list()[0]) != ""


def test_a_cancel_is_told(rt, jobs, receiver):
    """Canceled by its producer's other half."""
    job = jobs.enqueue("z-image", {"prompt": "x"}, callback_url=receiver.url)
    jobs.cancel(job.id)
    tell(rt)
    told = receiver.bodies()[0]
    assert (told["type"], told["data"]["error"], told["data"]["metadata"]) == ("generation.canceled", None, {})
    assert told["data"]["message"] == jobs.get(job.id).message


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
    jobs.addresses.enable(receiver.url)
    jobs.send_again(delivery)
    for _ in range(9):
        notify(rt, delivery)
        _due_now(rt)
    assert jobs.deliveries(state=DeliveryState.GAVE_UP)[0].attempts == 9
    rt.counts.flush(rt.database)
    kept = counters.everything(rt.database).items()
    tries = {label: count for (name, label), count in kept if name == counted.MESSAGES.name}
    assert tries == {"gone": 1, "failed": 8, "gave_up": 1}
    assert figures(rt.database, (), window_s=10).messages_gave_up == 1


def test_a_receiver_has_fifteen_seconds_to_commit(receiver):
    """One that takes six to answer has taken the message: to call that a failure would send it nine times."""
    receiver.takes_s = 6.0
    allow = frozenset({("127.0.0.1", receiver.port)})
    answer = post(guarded_session(allow), receiver.url, delivery_id="x", body={}, secrets=SECRETS.split(","), at_s=0.0)
    assert (answer.said, answer.delivered) == ("answered 200", True)


def test_a_message_to_a_receiver_that_is_busy_waits_uncounted(rt, jobs, receiver):
    """Three that hang hold its slots: a fourth holds no thread, and is tried as often as any other."""
    send(rt, jobs, receiver, "x [[refuse=422]]")
    delivery = jobs.deliveries()[0].id
    moment = [0.0]
    rt.receivers = Receivers(lambda: moment[0])
    with ExitStack() as hanging:
        for _ in range(TO_ONE):
            assert hanging.enter_context(rt.receivers.slot(f"127.0.0.1:{receiver.port}"))
        moment[0] += 1.0
        assert notify(rt, delivery) is False
    assert (receiver.came, jobs.deliveries()[0].attempts) == ([], 0)
    assert 4 < _due_in_s(rt, delivery) < 16
    assert notify(rt, delivery) is False  # not due
    _due_now(rt)
    assert notify(rt, delivery) is True
    assert (len(receiver.came), jobs.deliveries()[0].attempts) == (1, 1)


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
    assert "127.0.0.1" not in jobs.deliveries()[0].error  # what names are here is not for tenants
    assert "KIEJOBS_EGRESS_ALLOW" in jobs.deliveries()[0].error


def test_a_message_that_cannot_be_signed_says_so(runtime, database):
    """Where workers were not told with what, it waits, and whoever looks reads why."""
    rt = runtime(database, webhook_secrets=None, database_url="postgresql://nobody@127.0.0.1/nothing")
    jobs = KieJobs(rt.settings, database=database)
    job = make_job(database, JobState.WAITING, callback_url="https://example.com/hook")
    with database.write() as tx:
        deliveries.tell(tx, job.id, JobState.FAIL)
    for _ in range(2):
        assert not notify(rt, jobs.deliveries()[0].id)
    (waiting,) = jobs.deliveries()
    assert (waiting.state, waiting.attempts) == (DeliveryState.PENDING, 0)
    assert "Set KIEJOBS_WEBHOOK_SECRETS" in waiting.error


def test_what_is_sent_again_is_sent_now(rt, jobs, receiver):
    """By a nudge, not by a sweep half a minute later."""
    receiver.answers = [404]
    send(rt, jobs, receiver, "x [[refuse=422]]")
    delivery = jobs.deliveries()[0].id
    notify(rt, delivery)
    rt.publish.take()
    jobs.send_again(delivery.upper())
    tell(rt)
    assert jobs.deliveries()[0].state == DeliveryState.DELIVERED


def test_messages_are_listed_page_by_page_and_by_job(rt, jobs, receiver):
    for number in range(5):
        jobs.cancel(jobs.enqueue("z-image", {"prompt": str(number)}, callback_url=receiver.url).id)
    everything = jobs.deliveries()
    first = jobs.deliveries(limit=2)
    second = jobs.deliveries(limit=9, before=(first[-1].created_at, first[-1].id))
    assert (first + second, len(everything)) == (everything, 5)
    assert [one.job_id for one in jobs.deliveries(job_id=first[0].job_id)] == [first[0].job_id]
    with pytest.raises(JobNotFound):
        jobs.deliveries(job_id="x")


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


class TestAddresses:
    """Where messages go, and when no more."""

    def test_a_tenants_address_is_told_of_jobs_that_name_none(self, rt, jobs, receiver):
        """One for all; a job's own address goes before it, and another tenant's jobs are not told there."""
        jobs.addresses.set_default(receiver.url)
        other = KieJobs(rt.settings, tenant="other", database=rt.database, publish=rt.publish)
        for producer, url in ((jobs, None), (jobs, f"{receiver.url}/own"), (other, None)):
            job = producer.enqueue("z-image", {"prompt": "x"}, callback_url=url)
            producer.cancel(job.id)
        tell(rt)
        assert [one.url for one in jobs.deliveries()] == [f"{receiver.url}/own", receiver.url]
        assert len(receiver.came) == 2
        jobs.addresses.set_default(None)
        jobs.cancel(jobs.enqueue("z-image", {"prompt": "y"}).id)
        assert (len(jobs.deliveries()), jobs.addresses.list()) == (2, ())

    def test_each_tenants_address_is_told_of_its_own_jobs_alone(self, rt, jobs, receiver):
        """Several tenants with an address each: nothing goes to another's."""
        for name in ("other", "default", "third"):
            producer = KieJobs(rt.settings, tenant=name, database=rt.database, publish=rt.publish)
            producer.addresses.set_default(f"{receiver.url}/{name}")
        for name in ("third", "default", "other"):
            producer = KieJobs(rt.settings, tenant=name, database=rt.database, publish=rt.publish)
            producer.cancel(producer.enqueue("z-image", {"prompt": "x"}, metadata={"of": name}).id)
            assert [one.url for one in producer.deliveries()] == [f"{receiver.url}/{name}"]
        tell(rt)
        assert sorted(told["data"]["metadata"]["of"] for told in receiver.bodies()) == ["default", "other", "third"]

    def test_one_address_replaces_the_other(self, jobs, receiver):
        """There is one default, the last one that was set; a bad one changes nothing."""
        jobs.addresses.set_default(f"{receiver.url}/one")
        jobs.addresses.set_default(f"{receiver.url}/two")
        with pytest.raises(InvalidInput):
            jobs.addresses.set_default("http://10.0.0.1/hook")
        assert jobs.addresses.default() == f"{receiver.url}/two"

    def test_410_disables_the_address_for_the_tenant_until_a_person_enables_it(self, rt, jobs, receiver):
        """What waits for it and what comes later is given up with that reason; nothing is lost."""
        receiver.answers = [500, 410]
        first, second = (jobs.enqueue("z-image", {"prompt": str(n)}, callback_url=receiver.url) for n in range(2))
        jobs.cancel(first.id)
        tell(rt)  # 500: waits
        jobs.cancel(second.id)
        tell(rt)  # 410
        later = jobs.enqueue("z-image", {"prompt": "later"}, callback_url=receiver.url)
        jobs.cancel(later.id)
        tell(rt)
        assert len(receiver.came) == 2
        given_up = jobs.deliveries(state=DeliveryState.GAVE_UP)
        assert len(given_up) == 3
        assert all("410 Gone" in one.error for one in given_up)
        (address,) = jobs.addresses.list()
        assert (address.url, address.disabled_at is None, address.gave_up) == (receiver.url, False, 3)
        with pytest.raises(NotPossible):
            jobs.send_again(given_up[0].id)
        jobs.addresses.enable(receiver.url)
        for one in given_up:
            jobs.send_again(one.id)
            notify(rt, one.id)
        assert len(receiver.came) == 5
        assert jobs.deliveries(state=DeliveryState.GAVE_UP) == ()

    def test_410_to_one_tenant_says_nothing_about_another(self, rt, jobs, receiver):
        """Tenants do not disable each other's addresses."""
        receiver.answers = [410]
        other = KieJobs(rt.settings, tenant="other", database=rt.database, publish=rt.publish)
        for producer in (jobs, other):
            producer.cancel(producer.enqueue("z-image", {"prompt": "x"}, callback_url=receiver.url).id)
            tell(rt)
        assert [one.state for one in other.deliveries()] == [DeliveryState.DELIVERED]
        with pytest.raises(JobNotFound):
            other.addresses.enable(receiver.url)

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect_is_no_delivery_and_is_not_followed(self, rt, jobs, receiver, status):
        """The message waits for its next try; nothing went to where the answer pointed."""
        receiver.answers = [status]
        jobs.cancel(jobs.enqueue("z-image", {"prompt": "x"}, callback_url=receiver.url).id)
        tell(rt)
        (one,) = jobs.deliveries()
        assert (one.state, one.error, len(receiver.came)) == (DeliveryState.PENDING, f"answered {status}", 1)
