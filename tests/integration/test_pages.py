"""The web pages over real sockets: what they show, to whom, what their forms do, and that nothing of others runs."""

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import obstore
import pytest
import requests
from sqlalchemy import insert, update

from kiejobs.db import rescue
from kiejobs.db.accounts import checked
from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import accounts, callbacks, candidates, deliveries, events, jobs, outputs, payloads, submissions
from kiejobs.gateway.keys import digest_of
from kiejobs.gateway.limits import Limits
from kiejobs.gateway.pages.installation import UNREAD_S
from kiejobs.gateway.pages.session import COOKIE, LIVES_S, Sessions
from kiejobs.jobs import CandidateState, DeliveryState, JobState, OutputState, SubmissionState
from kiejobs.lifecycle import Event
from kiejobs.settings import Settings
from kiejobs.storage.store import Store
from tests import support
from tests.contract.s3server import missing, s3_server
from tests.factories import (
    Nudges,
    events_of,
    everything,
    job_row,
    make_job,
    make_settings,
    make_submission,
    outputs_of,
    pause_account,
)
from tests.gateways import KEYS, gateway_keys, running

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 40


class Visitor:
    """A browser without JavaScript: keeps cookies, sends forms as browsers do."""

    def __init__(self, base_url: str) -> None:
        self.base_url, self.session = base_url, requests.Session()

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.base_url + path, timeout=30, allow_redirects=False, **options)

    def send(self, path: str, fields: dict[str, str], **headers: str | None) -> requests.Response:
        """Post a form, with exactly these fields."""
        given = {"Origin": self.base_url} | headers
        return self.session.post(self.base_url + path, data=fields, headers=given, timeout=30, allow_redirects=False)

    def press(self, page: str, action: str, **fields: str) -> requests.Response:
        """Open a page and send its form with this action; the form must be there."""
        form = next((f for f in Seen.of(self.get(page).text).forms if f["action"] == action), None)
        assert form is not None, f"{page} has no form for {action}"
        return self.send(action, form["fields"] | fields)

    def form(self, page: str) -> dict[str, str]:
        """The hidden fields of a page's forms that change something."""
        return next(form["fields"] for form in Seen.of(self.get(page).text).forms if form["method"] == "post")

    def log_in(self, name: str) -> "Visitor":
        assert self.send("/login", {"key": KEYS[name]}).status_code == 303
        return self


class Seen(HTMLParser):
    """What a browser makes of a page: its elements, its forms, its text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.forms: list[dict[str, Any]] = []
        self.text = ""

    @classmethod
    def of(cls, page: str) -> "Seen":
        seen = cls()
        seen.feed(page)
        return seen

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.elements.append((tag, given))
        if tag == "form":
            self.forms.append({"action": given.get("action"), "method": given.get("method"), "fields": {}})
        elif tag == "input" and self.forms and given.get("type") == "hidden":
            self.forms[-1]["fields"][given["name"]] = given.get("value") or ""

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, name: str) -> list[str]:
        """The attribute of every element of a kind that has it."""
        return [str(attributes[name]) for found, attributes in self.elements if found == tag and name in attributes]


@pytest.fixture
def keyless(database: Database, settings: Settings, nudges: Nudges) -> Iterator[Visitor]:
    """A gateway without keys: whoever is on this machine may do everything."""
    with running(settings, database, nudges) as address:
        yield Visitor(address)


@pytest.fixture
def alone(sqlite: Database, settings: Settings, nudges: Nudges) -> Iterator[Visitor]:
    """The same on SQLite, for what does not depend on the database."""
    with running(settings, sqlite, nudges) as address:
        yield Visitor(address)


@pytest.fixture
def keyed(sqlite: Database, settings: Settings, nudges: Nudges) -> Iterator[Callable[[str | None], Visitor]]:
    """A gateway with keys; `keyed("a-write")` has logged in with that one."""
    mixed = Settings(_env_file=None, **(settings.model_dump() | {"gateway_keys": gateway_keys()}))
    with running(mixed, sqlite, nudges) as address:
        yield lambda name: Visitor(address).log_in(name) if name else Visitor(address)


def shown_jobs(answer: requests.Response) -> list[str]:
    """The ids of the jobs in a gallery, in its order."""
    assert answer.status_code == 200, answer.text
    return re.findall(r'<li class="card" id="job-([0-9a-f-]{36})"', answer.text)


# ── the gallery ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_empty_gallery_says_how_to_begin(keyless):
    """A fresh installation shows a page, not a void."""
    page = keyless.get("/")
    assert shown_jobs(page) == []
    assert "kiejobs submit" in page.text


def test_the_gallery_shows_each_generation_with_its_state_its_prompt_and_its_files(keyless, database):
    """Pictures, players and progress, newest first."""
    done = make_job(database, JobState.SUCCESS, prompt="a red door", created_at=clock(-40))
    film = make_job(database, JobState.SUCCESS, prompt="a slow pan", created_at=clock(-30))
    song = make_job(database, JobState.SUCCESS, prompt="a waltz", created_at=clock(-20))
    making = make_job(database, JobState.WAITING, prompt="half done", progress=0.5, polls=3, created_at=clock(-10))
    broken = make_job(database, JobState.FAIL, message="Flagged by the policy.", created_at=clock(-5))
    with database.write() as tx:
        for made, media_type in ((film, "video/mp4"), (song, "audio/mpeg")):
            tx.execute(update(outputs).where(outputs.c.job_id == made.id).values(media_type=media_type))
    page = keyless.get("/")
    assert shown_jobs(page) == [broken.id, making.id, song.id, film.id, done.id]
    seen = Seen.of(page.text)
    assert seen.all("img", "src") == [f"/jobs/{done.id}/outputs/0"]
    assert seen.all("img", "alt") == ["a red door"]
    assert [src.partition("#")[0] for src in seen.all("video", "src")] == [f"/jobs/{film.id}/outputs/0"]
    assert seen.all("audio", "src") == [f"/jobs/{song.id}/outputs/0"]
    assert seen.all("progress", "value") == ["50"]
    for words in ("looked 3 times", "Flagged by the policy.", "half done", "Done", "At Kie", "Failed"):
        assert words in seen.text


def test_every_song_has_one_player_with_its_cover(alone, sqlite):
    """In the gallery and on the job's page; what no browser plays is a link that saves it."""
    urls = [f"https://files.example/{n}" for n in range(5)]
    job = make_job(sqlite, JobState.SUCCESS, model="suno", urls=urls)
    kinds = ["audio/mpeg", "image/jpeg", "audio/mpeg", "image/jpeg", "audio/midi"]
    with sqlite.write() as tx:
        for n, kind in enumerate(kinds):
            of = (outputs.c.job_id == job.id) & (outputs.c.position == n)
            tx.execute(
                update(outputs).where(of).values(media_type=kind, role="cover" if kind == "image/jpeg" else "result")
            )
    at = f"/jobs/{job.id}/outputs"
    for path in ("/", f"/jobs/{job.id}"):
        seen = Seen.of(alone.get(path).text)
        assert seen.all("audio", "src") == [f"{at}/0", f"{at}/2"]
        assert seen.all("img", "src") == [f"{at}/1", f"{at}/3"]
        assert f"{at}/4" in [a["href"] for tag, a in seen.elements if tag == "a" and "download" in a]
    assert all(f"Download file {n}" in seen.text for n in range(5))


def test_filters_by_state_model_and_time_find_what_they_name(keyless, database):
    """Each alone and empty fields as if they were not there, as a browser sends them."""
    old = make_job(database, JobState.SUCCESS, model="kling-2.6/text-to-video", created_at=clock(-3 * 86400))
    parked = make_job(database, JobState.UNCONFIRMED, created_at=clock(-60))
    failed = make_job(database, JobState.FAIL, created_at=clock(-50))
    day = f"{job_row(database, old.id).created_at:%Y-%m-%d}"
    every = [failed.id, parked.id, old.id]
    assert shown_jobs(keyless.get("/?state=&model=&tenant=&since=&until=")) == every
    assert shown_jobs(keyless.get("/?state=fail")) == [failed.id]
    assert shown_jobs(keyless.get("/?until=9999-12-31")) == every
    assert shown_jobs(keyless.get("/?state=phase-unconfirmed")) == [parked.id]
    assert shown_jobs(keyless.get("/?state=waiting&model=")) == [parked.id]
    assert shown_jobs(keyless.get("/?model=kling-2.6/text-to-video")) == [old.id]
    assert shown_jobs(keyless.get(f"/?since={day}&until={day}")) == [old.id]
    assert shown_jobs(keyless.get("/?state=canceled")) == []


@pytest.mark.parametrize("query", ["state=done", "state=phase-asleep", "since=yesterday", "cursor=x", "stat=fail"])
def test_a_filter_that_is_none_is_said_to_be_none(alone, query):
    """A page, not a list of everything and not a failure."""
    page = alone.get(f"/?{query}")
    assert page.status_code == 422
    assert page.headers["content-type"].startswith("text/html")


def test_older_pages_continue_where_the_newer_ones_end(keyless, database):
    """By cursor, with the filter kept; the last page has no further one."""
    made = [make_job(database, JobState.CANCELED, created_at=clock(-100 - 60 * n)).id for n in range(30)]
    make_job(database, JobState.QUEUED)
    first = keyless.get("/?state=canceled")
    assert shown_jobs(first) == made[:24]
    older = next(link for link in Seen.of(first.text).all("a", "href") if "cursor=" in link)
    second = keyless.get(older)
    assert shown_jobs(second) == made[24:]
    links = Seen.of(second.text).all("a", "href")
    assert "/?state=canceled" in links
    assert not [link for link in links if "cursor=" in link]


def test_each_key_sees_its_tenant_and_an_admin_sees_all(keyed, sqlite):
    """The filter by tenant is an admin's; to others it is not known at all."""
    mine, other = make_job(sqlite, tenant="a"), make_job(sqlite, tenant="b", created_at=clock(-90))
    assert shown_jobs(keyed("a-read").get("/")) == [mine.id]
    assert shown_jobs(keyed("b-write").get("/")) == [other.id]
    assert shown_jobs(keyed("a-admin").get("/")) == [mine.id, other.id]
    assert shown_jobs(keyed("a-admin").get("/?tenant=b")) == [other.id]
    assert keyed("a-write").get("/?tenant=b").status_code == 422


# ── the page of a job ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_jobs_page_tells_all_that_is_kept_about_it(keyless, database):
    """Timeline, create calls and cost, looks, callbacks, named tasks, messages, files with size and hash, input."""
    job = make_job(database, JobState.SUCCESS, prompt="a red door", polls=7, credits=12, found_by="callback")
    with database.write() as tx:
        mine = submissions.c.id == job.submission_id
        tx.execute(
            update(submissions).where(mine).values(credits=12, approved_by="ada", approved_why="the first was bad")
        )
        told = {"submission_id": job.submission_id, "task_id": job.task_id, "verdict": "known", "body_sha256": "0" * 64}
        tx.execute(insert(callbacks).values(**told, body="{}"))
        named = {"id": job.id, "submission_id": job.submission_id, "task_id": "other-task", "source": "bob"}
        refused = {"state": CandidateState.REFUSED, "note": "another model", "created_at": clock()}
        tx.execute(insert(candidates).values(**named, **refused))
    make_delivery(database, job.id, DeliveryState.GAVE_UP, error="503 from the receiver")
    page = Seen.of(keyless.get(f"/jobs/{job.id}").text)
    for words in (
        *("Done", "a red door", "12 credits", "7, the end was found by callback", str(job.task_id)),
        *("Ordered by ada: the first was bad", "Known", "other-task", "another model", "503 from the receiver"),
        *("3 B", "image/png", "a" * 64, f"default/2026/01/02/{job.id}/0.png"),
        *("Accepted", "submitting to waiting", "factory", "Produced, by a factory"),
    ):
        assert words in page.text, words
    assert page.all("img", "src") == [f"/jobs/{job.id}/outputs/0"]


@pytest.mark.parametrize(
    ("state", "columns", "words"),
    [
        (
            JobState.FAIL,
            {"reason": "content", "code": "400", "message": "flagged"},
            ["Flagged", "change the prompt", "400"],
        ),
        (JobState.FAIL, {"reason": "credits", "message": "no credits"}, ["Add credits to the account"]),
        (JobState.TIMEOUT, {}, ["a late result is stored"]),
        (JobState.UNCONFIRMED, {}, ["never sent again by itself", "may pay twice"]),
    ],
)
def test_what_went_wrong_is_told_in_plain_words_with_what_to_do(alone, sqlite, state, columns, words):
    """The message, Kie's code, and the advice that the command line gives too."""
    page = Seen.of(alone.get(f"/jobs/{make_job(sqlite, state, **columns).id}").text)
    assert [word for word in words if word not in page.text] == []


@pytest.mark.parametrize(
    ("state", "actions"),
    [
        (JobState.QUEUED, {"cancel"}),
        (JobState.SUBMITTING, {"cancel"}),
        (JobState.UNCONFIRMED, {"adopt", "retry", "cancel"}),
        (JobState.WAITING, {"refresh", "cancel"}),
        (JobState.TIMEOUT, {"refresh", "retry", "cancel"}),
        (JobState.STORING, {"refresh"}),
        (JobState.SUCCESS, set()),
        (JobState.FAIL, {"retry"}),
        (JobState.CANCELED, set()),
    ],
)
def test_buttons_are_those_that_make_sense_in_the_state(alone, sqlite, state, actions):
    """Nobody is offered what can only be refused."""
    job = make_job(sqlite, state)
    forms = Seen.of(alone.get(f"/jobs/{job.id}").text).forms
    assert {str(form["action"]).rpartition("/")[2] for form in forms} == actions
    assert all(form["method"] == "post" for form in forms)


def test_a_live_page_says_so_and_one_of_an_ended_job_does_not(alone, sqlite):
    """What the script goes by."""
    assert "<body data-live>" in alone.get(f"/jobs/{make_job(sqlite, JobState.WAITING).id}").text
    assert "<body>" in alone.get(f"/jobs/{make_job(sqlite, JobState.FAIL).id}").text


@pytest.mark.parametrize("path", ["/jobs/nonsense", "/jobs/00000000-0000-4000-8000-000000000000", "/jobs/x/outputs/y"])
def test_what_is_not_there_is_a_page_that_says_so(keyless, path):
    """404 as a page."""
    page = keyless.get(path)
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")


# ── the buttons ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cancel_gives_a_job_up_and_comes_back_to_its_page(keyless, database):
    """POST, redirect, GET; the timeline says that it came from the web."""
    job = make_job(database)
    answer = keyless.press(f"/jobs/{job.id}", f"/jobs/{job.id}/cancel")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job.id}")
    assert job_row(database, job.id).state == JobState.CANCELED
    assert "web" in Seen.of(keyless.get(f"/jobs/{job.id}").text).text


def test_refresh_makes_a_job_due_and_nudges_the_workers(alone, sqlite, nudges):
    """Now, not at the next due time."""
    job = make_job(sqlite, JobState.WAITING, due_at=clock(3600))
    assert alone.press(f"/jobs/{job.id}", f"/jobs/{job.id}/refresh").status_code == 303
    assert [one.kwargs["job_id"] for one in nudges.sent] == [job.id]
    assert events_of(sqlite, job.id)[-1] == "refreshed"


def test_buying_again_needs_the_confirmation_and_is_recorded_with_who_and_why(alone, sqlite):
    """The page spells out what it costs; without the tick nothing is bought."""
    job = make_job(sqlite, JobState.UNCONFIRMED)
    page, path = f"/jobs/{job.id}", f"/jobs/{job.id}/retry"
    assert "it may be paid twice" in Seen.of(alone.get(page).text).text
    before = everything(sqlite)
    refused = alone.press(page, path, why="we need it")
    assert refused.status_code == 409
    assert "buys a new generation" in refused.text
    assert everything(sqlite) == before
    assert alone.press(page, path, pay="yes", why="we need it").status_code == 303
    row = job_row(sqlite, job.id)
    assert (row.state, row.approved_by, row.approved_why) == (JobState.QUEUED, "web", "we need it")


def test_storing_again_is_free_while_kie_has_the_result(alone, sqlite):
    """A failed copy has a button of its own, which needs no confirmation."""
    path = (Event.SENT, Event.ACCEPTED, Event.PRODUCED, Event.UNSTORABLE)
    job = make_job(sqlite, JobState.FAIL, path=path, outputs_state=OutputState.FAILED, reason="storage")
    assert "Store again, free" in alone.get(f"/jobs/{job.id}").text
    assert alone.press(f"/jobs/{job.id}", f"/jobs/{job.id}/retry").status_code == 303
    assert job_row(sqlite, job.id).state == JobState.STORING


@pytest.mark.parametrize(("reason", "state"), [("storage", JobState.STORING), ("result_invalid", JobState.QUEUED)])
def test_who_pays_for_a_job_buys_only_where_storing_again_may_be_vain(alone, sqlite, reason, state):
    """A result that is well is stored for free, and no button offers to pay for it; one that is no result is bought."""
    path = (Event.SENT, Event.ACCEPTED, Event.PRODUCED, Event.UNSTORABLE)
    job = make_job(sqlite, JobState.FAIL, path=path, outputs_state=OutputState.FAILED, reason=reason)
    page = alone.get(f"/jobs/{job.id}").text
    assert ("Store again, free" in page, "Buy again" in page) == (True, state is JobState.QUEUED)
    form = next(form for form in Seen.of(page).forms if form["action"].endswith("/retry"))["fields"]
    assert alone.send(f"/jobs/{job.id}/retry", form | {"pay": "yes", "seen": "fail.1"}).status_code == 303
    assert job_row(sqlite, job.id).state == state


@pytest.mark.parametrize(
    ("order", "states", "told"),
    [
        ("cancel", ("queued", "waiting"), "showed it as “Queued”, and it is “At Kie” by now"),
        ("retry", ("timeout", "fail"), "showed it as “Late”, and it is “Failed” by now"),
        ("retry", ("unconfirmed", "unconfirmed"), "a create call was made since the page was opened"),
    ],
)
def test_an_order_given_before_a_page_that_is_no_longer_true_does_nothing(alone, sqlite, order, states, told):
    """Somebody else bought it meanwhile, or it went to Kie: the page says so, and neither buys nor gives up."""
    state, now = states
    job = make_job(sqlite, JobState(state))
    form = next(f for f in Seen.of(alone.get(f"/jobs/{job.id}").text).forms if f["action"].endswith(f"/{order}"))
    with sqlite.write() as tx:
        tx.execute(update(jobs).where(jobs.c.id == job.id).values(state=now))
    if now == state:
        make_submission(sqlite, job.id, seq=2)
    before = everything(sqlite)
    for fields in (form["fields"] | {"pay": "yes"}, {"token": form["fields"]["token"], "pay": "yes"}):
        answer = alone.send(form["action"], fields)
        assert answer.status_code == 409
        assert "Nothing was done" in answer.text
        assert "press the button there" in answer.text
        assert told in answer.text or "seen" not in fields
    assert everything(sqlite) == before


def test_adopt_names_a_task_and_leaves_the_decision_to_kies_record(alone, sqlite, nudges):
    """A candidate row, a nudge, no change of state; an empty field is refused."""
    job = make_job(sqlite, JobState.UNCONFIRMED)
    assert alone.press(f"/jobs/{job.id}", f"/jobs/{job.id}/adopt", task_id=" 281e5b0f39b9 ").status_code == 303
    with sqlite.read() as connection:
        (named,) = connection.execute(candidates.select())
    assert (named.task_id, named.source, named.submission_id) == ("281e5b0f39b9", "web", job.submission_id)
    assert job_row(sqlite, job.id).state == JobState.UNCONFIRMED
    assert [one.kwargs["job_id"] for one in nudges.sent] == [job.id]
    assert alone.press(f"/jobs/{job.id}", f"/jobs/{job.id}/adopt", task_id=" ").status_code == 422


def test_an_order_that_comes_too_late_is_refused_on_a_page(alone, sqlite):
    """The state changed between the page and the button."""
    job = make_job(sqlite, JobState.WAITING)
    token = alone.form(f"/jobs/{job.id}")["token"]
    with sqlite.write() as tx:
        tx.execute(update(jobs).where(jobs.c.id == job.id).values(state=JobState.STORING))
    answer = alone.send(f"/jobs/{job.id}/cancel", {"token": token, "seen": "storing.1"})
    assert answer.status_code == 409
    assert "its results are known and being stored" in answer.text


def make_delivery(database, job_id, state, **columns):
    """Write one message of a job."""
    row = {"id": job_id, "job_id": job_id, "sequence": 1, "kind": "generation.failed", "body": {}, "attempts": 9}
    row |= {"url": "https://example.com/hook", "state": state, "created_at": clock(-90)}
    with database.write() as tx:
        tx.execute(insert(deliveries).values(**row | columns))


# ── who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/", "/health", "/jobs/00000000-0000-4000-8000-000000000000"])
def test_with_keys_strangers_are_led_to_the_login_and_back(keyed, path):
    """Nothing is shown first; after the login the page that was asked for follows."""
    stranger = keyed(None)
    led = stranger.get(path)
    assert (led.status_code, led.headers["location"]) == (303, "/login" if path == "/" else f"/login?to={path}")
    fields = stranger.form(led.headers["location"])
    answer = stranger.send("/login", fields | {"key": KEYS["a-read"]})
    assert (answer.status_code, answer.headers["location"]) == (303, path)


def test_the_sessions_cookie_gives_nothing_away_and_stays_with_the_browser(keyed):
    """HttpOnly, SameSite=Strict, Secure where the browser speaks TLS; neither the key nor its hash."""
    for headers, secure in (({}, False), ({"X-Forwarded-Proto": "https"}, True)):
        stranger = keyed(None)
        origin = stranger.base_url.replace("http:", "https:") if secure else stranger.base_url
        answer = stranger.send("/login", {"key": KEYS["a-write"]}, **headers, Origin=origin)
        cookie = answer.headers["set-cookie"]
        assert answer.status_code == 303
        assert ("HttpOnly" in cookie, "samesite=strict" in cookie.lower()) == (True, True)
        assert ("Secure" in cookie) is secure
        assert KEYS["a-write"] not in cookie
        assert digest_of(KEYS["a-write"])[:12] not in cookie


def test_a_wrong_key_a_forged_and_a_tampered_cookie_open_nothing(keyed):
    """401 for the key; the login again for the cookies."""
    stranger = keyed(None)
    assert stranger.send("/login", {"key": "kj_wrong"}).status_code == 401
    assert stranger.send("/login", {"nothing": ""}).status_code == 401
    good = keyed("a-read").session.cookies[COOKIE]
    other = keyed("a-admin").session.cookies[COOKIE]
    mixed = f"{other.split('.')[0]}.{good.partition('.')[2]}"
    for cookie in (mixed, good[:-1], good + "0", "", "x", "..", "a.b.c.d", good.upper()):
        answer = requests.get(stranger.base_url + "/", cookies={COOKIE: cookie}, allow_redirects=False, timeout=10)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login"), cookie


def test_sessions_end_with_their_time_and_with_their_key(tmp_path):
    """Twelve hours, or as long as the settings know the key; a rotated key's session goes, the others stay."""
    now = [1_000_000.0]
    settings = make_settings(tmp_path, gateway_keys=gateway_keys())
    sessions = Sessions(settings, lambda: now[0])
    cookie = sessions.begin(KEYS["a-write"])
    visitor = sessions.visitor(cookie)
    assert visitor is not None
    assert (visitor.caller.tenant, visitor.may_write, visitor.sees_all) == ("a", True, False)
    fewer = tuple(key for key in gateway_keys() if key.sha256 != digest_of(KEYS["a-write"]))
    assert Sessions(make_settings(tmp_path, gateway_keys=fewer), lambda: now[0]).visitor(cookie) is None
    assert Sessions(settings, lambda: now[0]).visitor(cookie) == visitor  # another process with the same secret
    now[0] += LIVES_S
    assert sessions.visitor(cookie) is None


def test_a_process_without_a_secret_to_share_has_its_own(tmp_path):
    """Where the data dir cannot be written, sessions work and end with the process."""
    (tmp_path / "file").write_text("")
    settings = make_settings(tmp_path / "file", gateway_keys=gateway_keys())
    mine, other = Sessions(settings), Sessions(settings)
    cookie = mine.begin(KEYS["a-read"])
    assert mine.visitor(cookie) is not None
    assert other.visitor(cookie) is None


def test_logging_out_makes_the_browser_forget(keyed):
    """A button on every page."""
    visitor = keyed("a-read")
    answer = visitor.press("/", "/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert not visitor.session.cookies.get(COOKIE)
    assert visitor.get("/").headers["location"] == "/login"


@pytest.mark.parametrize(
    "to", ["//example.com", "https://example.com", "/\\example.com", "/jobs/../x", "/health\r\nX: y"]
)
def test_the_login_leads_nowhere_else(keyed, to):
    """An address from a link is taken only if it is a page of ours."""
    answer = keyed(None).send("/login", {"key": KEYS["a-read"], "to": to})
    assert answer.headers["location"] == "/"


def test_another_tenants_job_does_not_exist(keyed, sqlite):
    """404 for its page, its files and every order; an admin may."""
    job = make_job(sqlite, JobState.UNCONFIRMED, tenant="b")
    done = make_job(sqlite, JobState.SUCCESS, tenant="b")
    writer = keyed("a-write")
    token = writer.form("/")["token"]
    before = everything(sqlite)
    assert writer.get(f"/jobs/{job.id}").status_code == 404
    assert writer.get(f"/jobs/{done.id}/outputs/0").status_code == 404
    for order in ("cancel", "refresh", "retry", "adopt"):
        fields = {"token": token, "pay": "yes", "task_id": "t"}
        assert writer.send(f"/jobs/{job.id}/{order}", fields).status_code == 404
    assert everything(sqlite) == before
    admin = keyed("a-admin")
    assert admin.press(f"/jobs/{job.id}", f"/jobs/{job.id}/cancel").status_code == 303
    assert job_row(sqlite, job.id).state == JobState.CANCELED


def test_a_read_key_sees_no_buttons_and_can_press_none(keyed, sqlite):
    """The only form is the one to log out; a forged order is 403 and changes nothing."""
    job = make_job(sqlite, JobState.UNCONFIRMED, tenant="a")
    make_delivery(sqlite, make_job(sqlite, JobState.FAIL, tenant="a").id, DeliveryState.GAVE_UP)
    reader = keyed("a-read")
    for path in (f"/jobs/{job.id}", "/health"):
        (form,) = Seen.of(reader.get(path).text).forms
        assert form["action"] == "/logout"
    before = everything(sqlite)
    for path in (*(f"/jobs/{job.id}/{o}" for o in ("cancel", "refresh", "retry", "adopt")), "/deliveries/x/resend"):
        answer = reader.send(path, form["fields"] | {"pay": "yes", "task_id": "t"})
        assert answer.status_code == 403, path
    assert everything(sqlite) == before


def test_a_form_from_elsewhere_changes_nothing(keyed, sqlite):
    """The token must be this session's, and the Origin this address; browsers always send one with a form."""
    job = make_job(sqlite, tenant="a")
    writer, other = keyed("a-write"), keyed("b-write")
    good = writer.form(f"/jobs/{job.id}")
    path, before = f"/jobs/{job.id}/cancel", everything(sqlite)
    theirs = other.form("/")
    for fields in ({"nothing": ""}, {"token": ""}, {"token": good["token"][:-1]}, theirs):
        assert writer.send(path, fields).status_code == 403
    for origin in (
        None,
        "null",
        "http://[",
        "https://example.com",
        "http://127.0.0.1:1",
        f"{writer.base_url}.example.com",
    ):
        assert writer.send(path, good, Origin=origin).status_code == 403, origin
    assert writer.send(path, good, **{"Content-Type": "text/plain"}).status_code == 415
    assert writer.get(path).status_code == 405
    assert everything(sqlite) == before
    assert writer.send(path, good | {"seen": "queued.0"}).status_code == 303


def test_without_keys_the_pages_answer_on_loopback_alone(alone, sqlite):
    """A name that leads here by DNS is refused, and so is a form of another page that is open."""
    job = make_job(sqlite)
    assert alone.get("/", headers={"Host": "rebound.example.com"}).status_code == 403
    token = alone.form(f"/jobs/{job.id}")
    for origin in ("https://example.com", "http://["):
        assert alone.send(f"/jobs/{job.id}/cancel", token, Origin=origin).status_code == 403
    assert alone.send(f"/jobs/{job.id}/cancel", {"nothing": ""}).status_code == 403
    assert job_row(sqlite, job.id).state == JobState.QUEUED


def test_pages_are_bounded_per_tenant_as_the_api_is(sqlite, settings, nudges):
    """429 as a page; another tenant's people are not held up."""
    mixed = Settings(_env_file=None, **(settings.model_dump() | {"gateway_keys": gateway_keys()}))
    with running(mixed, sqlite, nudges, Limits(requests_per_s=0.01, burst=3)) as address:
        mine, other = Visitor(address).log_in("a-read"), Visitor(address).log_in("b-write")
        assert [mine.get("/").status_code for _ in range(4)] == [200, 200, 200, 429]
        assert other.get("/").status_code == 200


# ── what runs in a browser ───────────────────────────────────────────────────────────────────────────────────────────

EVIL = "\"'><xss-probe onload=alert(1)></title></script><script>alert(1)</script>{{ 7*7 }}<img src=x onerror=alert(1)>"


def test_text_of_strangers_is_only_ever_text(keyless, database):
    """Markup in a prompt, a model, metadata, messages, task ids and notes becomes no element anywhere."""
    names = {"model": EVIL, "message": EVIL, "code": EVIL, "provider_task_id": EVIL, "account": EVIL}
    job = make_job(database, JobState.FAIL, prompt=EVIL, **names)
    parked = make_job(database, JobState.UNCONFIRMED, message=EVIL, model=EVIL)
    done = make_job(database, JobState.SUCCESS, prompt=EVIL)
    with database.write() as tx:
        asked = {"input": {"prompt": EVIL, EVIL: EVIL}, "metadata": {EVIL: [EVIL]}}
        tx.execute(update(payloads).values(request=asked))
        tx.execute(update(events).values(note=EVIL, who=EVIL, kind=EVIL))
        tx.execute(update(submissions).values(message=EVIL, approved_by=EVIL, approved_why=EVIL, code=EVIL))
        tx.execute(update(outputs).values(role=EVIL, error=EVIL))
        told = {"submission_id": job.submission_id, "task_id": EVIL, "verdict": EVIL, "body_sha256": "0" * 64}
        tx.execute(insert(callbacks).values(**told, body=EVIL))
        named = {"id": job.id, "submission_id": job.submission_id, "task_id": EVIL, "source": EVIL, "note": EVIL}
        tx.execute(insert(candidates).values(**named, state=CandidateState.REFUSED, created_at=clock()))
    make_delivery(database, job.id, DeliveryState.GAVE_UP, error=EVIL, kind=EVIL)
    pause_account(database, code=EVIL)
    paths = ["/", *(f"/jobs/{one.id}" for one in (job, parked, done)), "/health", "/?model=" + EVIL, f"/?state={EVIL}"]
    for path in paths:
        page = keyless.get(path)
        seen = Seen.of(page.text)
        tags = [tag for tag, _ in seen.elements]
        assert "xss-probe" not in tags, path
        assert (tags.count("script"), tags.count("title")) == (1, 1), path
        assert not [name for _, attributes in seen.elements for name in attributes if name.startswith("on")], path
        assert "x" not in seen.all("img", "src"), path
        assert "xss-probe" in seen.text or path.startswith("/?"), path  # shown, as text


def test_every_page_forbids_scripts_styles_and_frames_of_others(keyed, sqlite):
    """A strict policy, and nothing inline that would need an exception from it."""
    job = make_job(sqlite, JobState.SUCCESS, tenant="a")
    visitor = keyed("a-admin")
    for path in ("/", f"/jobs/{job.id}", "/health", "/jobs/none"):
        page = visitor.get(path)
        _check_headers(page)
    _check_headers(keyed(None).get("/login"))


def _check_headers(page: requests.Response) -> None:
    policy = dict(part.strip().partition(" ")[::2] for part in page.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self'",
        "media-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["referrer-policy"] == "same-origin"
    assert page.headers["cache-control"] == "no-store"
    seen = Seen.of(page.text)
    assert "style" not in {name for _, given in seen.elements for name in given}
    assert [bool(a.get("src")) for tag, a in seen.elements if tag == "script"] == [True]
    assert "<style" not in page.text


@pytest.mark.parametrize(
    ("media_type", "shown"),
    [
        ("image/png", True),
        ("video/mp4", True),
        ("audio/mpeg", True),
        ("image/svg+xml", False),
        ("text/html", False),
        ("application/json", False),
        (None, False),
    ],
)
def test_a_stored_file_is_media_or_a_download_and_never_runs(alone, sqlite, settings, media_type, shown):
    """Its own type, no guessing, a sandbox around it; what is no picture, film or sound is saved, not shown."""
    job = make_job(sqlite, JobState.SUCCESS)
    key = f"default/2026/01/02/{job.id}/0.png"
    Store.of(settings).put(key, iter([b"<script>alert(1)</script>"]), media_type="image/png")
    with sqlite.write() as tx:
        tx.execute(update(outputs).values(media_type=media_type))
    answer = alone.get(f"/jobs/{job.id}/outputs/0")
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == (media_type or "application/octet-stream")
    assert answer.headers["content-disposition"].startswith("inline" if shown else "attachment")
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    part = alone.get(f"/jobs/{job.id}/outputs/0", headers={"Range": "bytes=1-6"})
    assert (part.status_code, part.content) == (206, b"script")  # how players seek


def test_where_files_lie_in_a_bucket_players_may_follow_to_it(sqlite, tmp_path, nudges):
    """The signed link's address is the one exception in the policy."""
    access = {"storage_key_id": "AKIAEXAMPLE", "storage_secret": "secret-example", "storage_region": "eu-central-1"}
    settings = make_settings(tmp_path, storage_url="s3://media-of-tests/results", **access)
    job = make_job(sqlite, JobState.SUCCESS)
    with running(settings, sqlite, nudges) as address:
        visitor = Visitor(address)
        policy = visitor.get("/").headers["content-security-policy"]
        link = visitor.get(f"/jobs/{job.id}/outputs/0")
    assert link.status_code == 302
    origin = "/".join(link.headers["location"].split("/")[:3])
    assert origin.startswith("https://")
    assert f"img-src 'self' {origin};" in policy
    assert f"media-src 'self' {origin};" in policy
    assert f"script-src 'self' {origin}" not in policy


def test_a_bucket_that_no_reader_reaches_is_read_for_them(sqlite, tmp_path, nudges, monkeypatch):
    """As that of a compose file: `http://s3:8080`. The bytes come through the gateway, with ranges, as from a folder."""
    if reason := missing():
        support.missing(reason)
    body = bytes(range(256)) * 10_000  # 2.4 MiB: several parts
    with s3_server(tmp_path / "s3") as server:
        access = {"storage_key_id": server.access_key, "storage_secret": server.secret_key}
        settings = make_settings(tmp_path, storage_url="s3://media", storage_endpoint_url=server.endpoint_url, **access)
        job = make_job(sqlite, JobState.SUCCESS)
        Store.of(settings).put(outputs_of(sqlite, job.id)[0].key, iter([body]), media_type="image/png")
        with running(settings, sqlite, nudges) as address:
            visitor = Visitor(address)
            path = f"/jobs/{job.id}/outputs/0"
            assert server.endpoint_url not in visitor.get("/").headers["content-security-policy"]
            whole = visitor.get(path)
            ranges = ("bytes=1048570-1048590", "bytes=2559990-", "bytes=-10", "bytes=0-0,5-6", "apples=1-2")
            parts = [visitor.get(path, headers={"Range": one}) for one in ranges]
            ignored = [visitor.get(path, headers={"Range": one}) for one in ("bytes=5-2", "0-5", "bytes=", "bytes=a-b")]
            beyond = visitor.get(path, headers={"Range": "bytes=2560000-"})
            get, asked = obstore.get, []
            monkeypatch.setattr(
                obstore, "get", lambda *given, **more: asked.append(more["options"]) or get(*given, **more)
            )
            head = visitor.session.head(address + path, timeout=30)
    assert (whole.status_code, whole.content == body, whole.headers["accept-ranges"]) == (200, True, "bytes")
    assert [one.status_code for one in parts] == [206, 206, 206, 200, 200]
    wanted = [body[1048570:1048591], body[-10:], body[-10:], body, body]
    assert [one.content for one in parts] == wanted
    assert parts[0].headers["content-range"] == "bytes 1048570-1048590/2560000"
    assert {(one.status_code, one.content == body) for one in ignored} == {(200, True)}
    assert beyond.status_code == 416
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "2560000", b"")
    assert asked == [{"head": True}], "nothing of the object is read that nobody is sent"


def test_style_and_script_are_named_by_their_content(alone):
    """A browser keeps them for ever; another version has another name; nothing else of the package is given."""
    page = Seen.of(alone.get("/").text)
    for path, media_type in (
        (page.all("script", "src")[0], "text/javascript"),
        (page.all("link", "href")[0], "text/css"),
    ):
        asset = alone.get(path)
        assert asset.headers["content-type"].startswith(media_type)
        assert "immutable" in asset.headers["cache-control"]
        assert alone.get(path.partition("?")[0]).headers["cache-control"] == "no-cache"
    for name in ("pages.py", "..%2fview.py", "base.html"):
        assert alone.get(f"/static/{name}").status_code == 404


# ── the health page ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_health_page_names_what_needs_a_person(keyless, database):
    """A sweep that never ran, a parked create, a paused account, late work, a message that never arrived."""
    make_job(database, JobState.UNCONFIRMED)
    make_job(database, JobState.WAITING, due_at=clock(-300))
    failed = make_job(database, JobState.FAIL, found_by="sweep")
    make_delivery(database, failed.id, DeliveryState.GAVE_UP, error="503")
    pause_account(database, code="402")
    page = Seen.of(keyless.get("/health").text)
    for words in (
        *("The sweep does not run.", "1 create call with an unknown outcome.", "Work is late: 5 min."),
        *("1 message to producers never arrived.", "Account default makes no creates.", "paused (402)"),
        *("Create budget:", "Query budget:", "The sweep’s look", "503"),
    ):
        assert words in page.text, words


def test_accounts_for_which_no_worker_has_a_key_are_named(keyless, database):
    """A name that only a job knows, and one whose balance was read long ago; not while Kie tells nobody's balance."""
    rescue.beat(database, "sweep")
    rescue.beat(database, "watch")
    make_job(database, account="studoi", line_at=clock(-5))
    for name in ("default", "sold"):
        make_job(database, JobState.WAITING, account=name)
        checked(database, name, 100.0)
    page = Seen.of(keyless.get("/health").text).text
    assert "No worker seems to have a key for the account studoi." in page
    assert page.count("none at any worker") == 1

    with database.write() as tx:
        tx.execute(update(accounts).where(accounts.c.name == "sold").values(checked_at=clock(-UNREAD_S - 5)))
    page = Seen.of(keyless.get("/health").text).text
    assert "No worker seems to have a key for the account sold." in page
    assert "a key for the account default" not in page
    assert "of 10 looks per second" in page

    with database.write() as tx:
        tx.execute(update(accounts).values(checked_at=clock(-UNREAD_S - 5)))
    page = Seen.of(keyless.get("/health").text).text
    assert "account sold." not in page
    assert "account studoi." in page


def test_a_long_line_is_no_trouble_while_the_budget_is_used(alone, sqlite):
    """More workers would not shorten it; one that waits though creates are free is another matter."""
    rescue.beat(sqlite, "sweep")
    job = make_job(sqlite, line_at=clock(-300))
    assert "The line stands still for 5 min" in alone.get("/health").text
    for seq in range(2, 14):
        make_submission(sqlite, job.id, seq=seq, state=SubmissionState.REFUSED)
    assert "All is well" in alone.get("/health").text


def test_a_healthy_installation_is_said_to_be_well(alone, sqlite):
    """No alarm without a reason."""
    rescue.beat(sqlite, "sweep")
    assert "All is well" in alone.get("/health").text


def test_a_tenants_health_page_shows_its_own_figures_and_no_account(keyed, sqlite):
    """Accounts belong to those with an admin key, as in the API."""
    make_job(sqlite, JobState.UNCONFIRMED, tenant="b")
    pause_account(sqlite, code="402")
    page = Seen.of(keyed("a-write").get("/health").text).text
    assert "Accounts" not in page
    assert "402" not in page
    assert "with an unknown outcome" not in page
    assert "with an unknown outcome" in Seen.of(keyed("a-admin").get("/health").text).text


def test_a_message_that_was_given_up_is_sent_again_by_a_button(keyed, sqlite):
    """An admin may for any tenant, others for their own."""
    job = make_job(sqlite, JobState.FAIL, tenant="b")
    make_submission(sqlite, job.id)
    make_delivery(sqlite, job.id, DeliveryState.GAVE_UP)
    assert keyed("a-admin").press("/health", f"/deliveries/{job.id}/resend").status_code == 303
    with sqlite.read() as connection:
        (message,) = connection.execute(deliveries.select())
    assert (message.state, message.attempts) == (DeliveryState.PENDING, 0)
