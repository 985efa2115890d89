"""The web pages in a real browser: accessible to everybody, usable by keys alone, alive, and never blocked by themselves."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from kiejobs.db import rescue
from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import events, jobs, outputs, payloads
from kiejobs.jobs import JobState
from kiejobs.settings import Settings
from kiejobs.simulator.media import make_media
from kiejobs.simulator.models import Kind
from kiejobs.storage.store import Store
from tests.factories import Made, Nudges, job_row, make_job, make_settings, pause_account
from tests.gateways import KEYS, gateway_keys, running
from tests.support import missing

SIZES = {"phone": (360, 780), "desktop": (1280, 900)}
EVERY_MS = 3000
"""How often a page looks, as in its script."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        missing("chromium on PATH")
    with sync_api.sync_playwright() as playwright:
        args = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=found, args=args)
        yield browser
        browser.close()


@dataclass
class Shown:
    """A gateway whose gallery has one job of every kind, with real media behind it."""

    url: str
    database: Database
    made: dict[str, Made]

    def paths(self) -> list[str]:
        return ["/", "/?state=canceled&model=none", "/health", *(f"/jobs/{one.id}" for one in self.made.values())]


@pytest.fixture
def shown(sqlite: Database, tmp_path: Path) -> Iterator[Shown]:
    settings = make_settings(tmp_path)
    made = _fill(sqlite, settings)
    with running(settings, sqlite, Nudges()) as address:
        yield Shown(address, sqlite, made)


def _fill(database: Database, settings: Settings) -> dict[str, Made]:
    made = {str(state): make_job(database, state, prompt=f"a job that is {state}") for state in JobState}
    made["video"] = make_job(database, JobState.SUCCESS, model="kling-2.6/text-to-video", prompt="a slow pan")
    made["audio"] = make_job(database, JobState.SUCCESS, model="ai-music-api/generate", prompt="a waltz")
    made["many"] = make_job(database, JobState.SUCCESS, urls=[f"https://files.example/{n}.png" for n in range(6)])
    kinds = {"success": Kind.IMAGE, "many": Kind.IMAGE, "video": Kind.VIDEO, "audio": Kind.AUDIO}
    types = {Kind.IMAGE: "image/png", Kind.VIDEO: "video/mp4", Kind.AUDIO: "audio/mpeg"}
    store = Store.of(settings)
    with database.write() as tx:
        for name, kind in kinds.items():
            for n in range(6 if name == "many" else 1):
                content = make_media(kind, made[name].id, n)
                pieces = content.read(0, len(content))
                store.put(f"default/2026/01/02/{made[name].id}/{n}.png", pieces, media_type=types[kind])
            given = {"media_type": types[kind], "size_bytes": len(content)}
            tx.execute(update(outputs).where(outputs.c.job_id == made[name].id).values(**given))
        tx.execute(update(jobs).where(jobs.c.id == made["waiting"].id).values(progress=0.4, polls=12))
        wordy = {"input": {"prompt": "long " * 90, "seed": 4}, "metadata": {"order": "x" * 200}}
        tx.execute(update(payloads).where(payloads.c.job_id == made["fail"].id).values(request=wordy))
    pause_account(database)
    rescue.beat(database, "sweep")
    return made


class Tab:
    """A page of the browser, and what went wrong in it."""

    def __init__(self, chromium: Any, size: str = "desktop", **options: Any) -> None:
        width, height = SIZES[size]
        self.context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.looks: list[str] = []
        """What the script asked for."""
        self.page.on("request", lambda asked: self.looks.append(asked.url) if asked.resource_type == "fetch" else None)
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def stop_the_clock(self) -> None:
        """From now on, time passes in the page only where a test lets it."""
        self.page.clock.install(time=0)
        self.page.clock.pause_at(1000)

    def __enter__(self) -> "Tab":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        ("phone", "dark"),
        ("desktop", "light"),
        pytest.param("phone", "light", marks=pytest.mark.long),
        pytest.param("desktop", "dark", marks=pytest.mark.long),
    ],
)
def test_every_page_is_accessible_and_fits(chromium, shown, tmp_path, scheme, size):
    """axe finds nothing, nothing sticks out sideways, and the policy blocks nothing of ours."""
    base = pytest.importorskip("axe_playwright_python.base")
    axe = base.AXE_FILE_PATH.read_text()
    with Tab(chromium, size, color_scheme=scheme) as tab:
        for path in shown.paths():
            tab.page.goto(shown.url + path)
            for details in tab.page.locator("summary").all():
                details.click()
            tab.page.evaluate(axe)
            found = tab.page.evaluate("axe.run()")
            faults = [(v["id"], [node["html"] for node in v["nodes"]]) for v in found["violations"]]
            assert (path, faults) == (path, [])
            assert len(found["passes"]) > 15  # it did look
            assert tab.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        assert tab.complaints == []
        tab.page.goto(shown.url)
        tab.page.screenshot(path=tmp_path / f"gallery-{size}-{scheme}.png")


def test_the_login_and_its_refusal_are_accessible_too(chromium, sqlite, tmp_path):
    """With a real form, a real cookie and a real Origin header."""
    base = pytest.importorskip("axe_playwright_python.base")
    axe = base.AXE_FILE_PATH.read_text()
    settings = make_settings(tmp_path, gateway_keys=gateway_keys())
    job = make_job(sqlite, tenant="a")
    with running(settings, sqlite, Nudges()) as address, Tab(chromium, "phone") as tab:
        page = tab.page
        page.goto(f"{address}/jobs/{job.id}")
        for key in ("kj_wrong", KEYS["a-write"]):
            page.evaluate(axe)
            assert page.evaluate("axe.run()")["violations"] == []
            page.get_by_label("Key").fill(key)
            page.get_by_role("button", name="Log in").click()
        assert page.url == f"{address}/jobs/{job.id}"
        (cookie,) = tab.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        page.get_by_role("button", name="Log out").click()
        page.goto(address)
        assert page.url == f"{address}/login"


def test_players_play_and_pictures_show(chromium, shown):
    """The real files come through, with ranges, under the page's own policy."""
    with Tab(chromium) as tab:
        tab.page.goto(shown.url)
        assert tab.page.evaluate(_WIDTHS) == [256] * 5
        for kind in ("video", "audio"):
            tab.page.goto(f"{shown.url}/jobs/{shown.made[kind].id}")
            assert tab.page.evaluate(_PLAYED, kind) > 0
        assert tab.complaints == []


_WIDTHS = """() => Promise.all([...document.images].map(async image => {
    image.loading = "eager";
    await image.decode();
    return image.naturalWidth;
}))"""
"""Loads every picture; gives their widths in pixels."""

_PLAYED = """kind => new Promise((done, failed) => {
    const player = document.querySelector(kind);
    player.muted = true;
    player.ontimeupdate = () => player.currentTime > 0.2 && done(player.duration);
    player.onerror = () => failed(player.error.message);
    player.play().catch(failed);
})"""
"""Plays the first player of a kind for a moment; gives its length in seconds."""


def test_a_keyboard_is_enough(chromium, shown):
    """The skip link first; then a button by Tab and Enter alone, with the focus always to be seen."""
    job = shown.made["queued"]
    with Tab(chromium) as tab:
        page = tab.page
        page.goto(f"{shown.url}/jobs/{job.id}")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        for wanted in ("Cancel", "Cancel this generation"):
            for _ in range(12):
                page.keyboard.press("Tab")
                outlined = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outlined != "none", page.evaluate("document.activeElement.outerHTML")
                if page.evaluate("document.activeElement.textContent") == wanted:
                    break
            page.keyboard.press("Enter")
        page.get_by_role("status").filter(has_text="Canceled").wait_for()
    assert job_row(shown.database, job.id).state == JobState.CANCELED


def test_without_javascript_everything_works(chromium, shown):
    """Filters, pages and buttons are links and forms."""
    job = shown.made["timeout"]
    with Tab(chromium, "phone", java_script_enabled=False) as tab:
        page = tab.page
        page.goto(shown.url)
        page.get_by_label("State").select_option("timeout")
        page.get_by_role("button", name="Show").click()
        page.get_by_role("heading", level=2).get_by_role("link").click()
        page.locator("#buy summary").click()
        page.get_by_role("button", name="Buy again").click()  # the tick is missing: the browser does not send it
        assert job_row(shown.database, job.id).state == JobState.TIMEOUT
        page.get_by_label("Yes, buy a new generation").check()
        page.get_by_role("button", name="Buy again").click()
        page.get_by_role("status").filter(has_text="Queued").wait_for()
    assert job_row(shown.database, job.id).state == JobState.QUEUED


def test_a_page_follows_its_job_and_stops_when_it_has_ended(chromium, shown):
    """No reload, no click; after the end not one request more."""
    job = shown.made["waiting"]
    with Tab(chromium) as tab:
        page, looks = tab.page, tab.looks
        tab.stop_the_clock()
        page.goto(f"{shown.url}/jobs/{job.id}")
        _change(shown, job, progress=0.8)
        page.clock.run_for(EVERY_MS)
        page.locator("progress[value='80']").wait_for()
        _change(shown, job, state=JobState.FAIL, reason="generation", message="It broke.", due_at=None)
        page.clock.run_for(EVERY_MS)
        page.get_by_text("It broke.").wait_for()
        assert "failed" in page.title()
        count = len(looks)
        assert count == 2
        page.clock.run_for(20 * EVERY_MS)
        assert len(looks) == count


def test_a_hidden_tab_rests_and_looks_at_once_when_it_is_back(chromium, shown):
    """A tab that nobody sees asks for nothing."""
    hidden = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    hidden += "document.dispatchEvent(new Event('visibilitychange'))"
    with Tab(chromium) as tab:
        page, looks = tab.page, tab.looks
        tab.stop_the_clock()
        page.goto(f"{shown.url}/health")
        page.evaluate(hidden % "true")
        page.clock.run_for(20 * EVERY_MS)
        assert looks == []
        with page.expect_response(f"{shown.url}/health"):
            page.evaluate(hidden % "false")


def test_what_is_typed_and_what_plays_survives_the_news(chromium, shown):
    """Only what has changed is replaced: not a field, not an open part, not a player."""
    job = shown.made["unconfirmed"]
    with Tab(chromium) as tab:
        page = tab.page
        tab.stop_the_clock()
        page.goto(f"{shown.url}/jobs/{job.id}")
        page.locator("#adopt summary").click()
        page.get_by_label("Kie’s task id").fill("half-typed")
        with shown.database.write() as tx:
            line = {"job_id": job.id, "kind": "candidate", "who": "bob", "note": "something new"}
            tx.execute(insert(events).values(**line))
        page.clock.run_for(EVERY_MS)
        page.get_by_text("Something new").wait_for()
        assert page.get_by_label("Kie’s task id").input_value() == "half-typed"
        assert page.evaluate("document.activeElement.name") == "task_id"

        page.goto(shown.url)
        page.evaluate("window.player = document.querySelector('video')")
        newest = make_job(shown.database, prompt="the newest of all", created_at=clock(60))
        page.clock.run_for(EVERY_MS)
        page.get_by_text("the newest of all").first.wait_for()
        assert page.locator(".card").first.get_attribute("id") == f"job-{newest.id}"
        assert page.evaluate("document.querySelector('video') === window.player")
        assert tab.complaints == []


def test_an_open_order_is_about_the_page_that_it_was_opened_on(chromium, shown):
    """The words beside it follow the job; the order does not, so that the gateway can say what has changed."""
    job = shown.made["timeout"]
    with Tab(chromium) as tab:
        page = tab.page
        tab.stop_the_clock()
        page.goto(f"{shown.url}/jobs/{job.id}")
        page.locator("#buy summary").click()
        _change(shown, job, state=JobState.FAIL, reason="generation", message="It broke.", due_at=None)
        page.clock.run_for(EVERY_MS)
        page.get_by_text("It broke.").wait_for()
        page.get_by_label("Yes, buy a new generation").check()
        page.get_by_role("button", name="Buy again").click()
        page.get_by_text("Nothing was done: the page showed it as “Late”").wait_for()
    assert job_row(shown.database, job.id).state == JobState.FAIL


def test_a_gateway_that_is_away_is_asked_less_and_less_and_found_again(chromium, shown):
    """The page stays as it was; nothing is thrown; it goes on when there is an answer."""
    with Tab(chromium) as tab:
        page, looks = tab.page, tab.looks
        tab.stop_the_clock()
        page.goto(f"{shown.url}/health")
        page.route("**/health", lambda route: route.abort())
        for _ in range(20):
            page.clock.run_for(EVERY_MS)
        assert 2 <= len(looks) <= 6  # 3, 6, 12, 24 s …, not 20
        assert page.get_by_role("heading", name="Health").is_visible()
        page.unroute("**/health")
        with page.expect_response(f"{shown.url}/health"):
            page.clock.run_for(10 * EVERY_MS)


def _change(shown: Shown, job: Made, **columns: Any) -> None:
    with shown.database.write() as tx:
        tx.execute(update(jobs).where(jobs.c.id == job.id).values(**columns))
