"""A Kie in pure Python that shares nothing with the product but the wire: its ledger of accepted creates is the judge.

It refuses in every way Kie does, answers late or not at all, takes a create and loses the reply, forgets fresh tasks for
a while, finishes late, breaks, lets links expire, calls back twice, and never tells two jobs apart but by what they sent.
"""

import json
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from types import SimpleNamespace
from typing import Any

from urllib3 import HTTPConnectionPool
from urllib3.exceptions import IncompleteRead, NewConnectionError, ProtocolError, ReadTimeoutError
from urllib3.util import parse_url

from kiejobs.errors import SourceUnavailable
from kiejobs.kie.client import KieClient
from kiejobs.kie.envelope import Envelope, envelope
from kiejobs.kie.family import Call
from kiejobs.nudge import POLL
from tests.simulation.world import EPOCH, Process, World, plain

DEFINITE = (400, 401, 402, 404, 405, 409, 413, 422, 429, 430, 433, 451, 455, 505)
DOUBTFUL = (408, 500, 501, 531, 550)
LINK_LASTS_S = 1200.0
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
PNG_END = bytes(4) + b"\x00\x00\x00\x00IEND\xaeB`\x82"  # the checksum of the chunk before, which nobody looks at


@dataclass
class Task:
    """One generation that Kie has taken, and charges for."""

    id: str
    job_id: str | None
    """Whose it truly is; None for a stranger's."""
    body: dict[str, Any]
    made_at: float
    visible_at: float
    finish_at: float | None
    """None: never."""
    breaks: bool
    files: int
    empty_until: float
    double: bool = False
    """Kie made two of one call, by a retry of its own; nobody on our side could have known."""

    def content(self, index: int) -> bytes:
        """The true bytes of a result."""
        text = f"{self.id}/{index}|".encode() * (3 + index)
        return PNG_HEAD + len(text).to_bytes(4, "big") + b"fiLl" + text + PNG_END


@dataclass
class Kie:
    """The service, as one process sees it from far away."""

    world: World
    call_back: Callable[[str, dict[str, Any]], None] = lambda url, body: None
    tasks: dict[str, Task] = field(default_factory=dict)
    posts: Counter[str] = field(default_factory=Counter)
    """Job → create calls that reached Kie."""
    accepted: Counter[str] = field(default_factory=Counter)
    """Job → create calls that Kie took."""
    refused: Counter[str] = field(default_factory=Counter)
    spoiled: Counter[str] = field(default_factory=Counter)
    """Task → answers of the file server that were no media at all."""
    empty: Counter[str] = field(default_factory=Counter)
    """Task → records that said success and showed nothing."""
    links: dict[str, tuple[str, int, float]] = field(default_factory=dict)
    on_record: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        traits, rng = self.world.traits, self.world.random
        self.skew_s = rng.uniform(-20, 20)
        self._arrivals: deque[float] = deque()
        down = rng.uniform(0, traits.chaos_s) if rng.random() < 0.15 else float("inf")
        self._down = (down, down + rng.uniform(10, 150))
        self._moods = [
            (start := rng.uniform(0, traits.chaos_s), start + rng.uniform(5, 120), rng.choice(DEFINITE + DOUBTFUL))
            for _ in range(traits.moods)
        ]

    # ── creating ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def create(self, body: dict[str, Any], job_id: str | None) -> tuple[int, Any]:
        """Answer createTask: (HTTP status, envelope)."""
        world = self.world
        self.posts[str(job_id)] += 1
        code = self._mood()
        if code in DEFINITE:
            self.refused[str(job_id)] += 1
            return 200, {"code": code, "msg": f"refused with {code}", "data": None}
        if code in DOUBTFUL:
            if world.random.random() < 0.5:
                self._take(body, job_id)
            return 200, {"code": code, "msg": "server error", "data": None}
        task = self._take(body, job_id)
        if world.chance(0.04):
            self._take(body, job_id, double=True)
            world.counts["Kie made two of one call"] += 1
        if world.chance(0.03):
            return 200, {"code": 200, "msg": "success", "data": {}}
        return 200, {"code": 200, "msg": "success", "data": {"taskId": task.id}}

    def _mood(self) -> int | None:
        now, limit = self.world.now_s, self.world.traits.create_limit
        while self._arrivals and self._arrivals[0] <= now - 10.0:
            self._arrivals.popleft()
        self._arrivals.append(now)
        if len(self._arrivals) > limit:
            self.world.counts["creates that came too late for the window"] += 1
            return 429
        if self.world.calm:
            return None
        current = [code for start, end, code in self._moods if start <= now < end]
        if current:
            return self.world.random.choice(current)
        return self.world.random.choice(DEFINITE + DOUBTFUL) if self.world.chance(0.04) else None

    def _take(self, body: dict[str, Any], job_id: str | None, *, double: bool = False) -> Task:
        world, rng = self.world, self.world.random
        traits = world.traits
        takes_s = rng.uniform(0.5, 12) if traits.quick or rng.random() < 0.5 else rng.uniform(5, traits.timeout_s)
        if rng.random() < 0.08:
            takes_s = traits.timeout_s + rng.uniform(5, 250)
        never = rng.random() < 0.02
        task = Task(
            id=f"task_{len(self.tasks) + 1:03d}",
            job_id=job_id,
            body=body,
            made_at=world.now_s,
            visible_at=world.now_s + (rng.uniform(0, 20) if rng.random() < 0.15 else 0.0),
            finish_at=None if never else world.now_s + takes_s,
            breaks=rng.random() < 0.06,
            files=rng.choice((1, 1, 1, 2, 3)),
            empty_until=world.now_s + takes_s + (rng.uniform(0, 15) if rng.random() < 0.08 else 0.0),
            double=double,
        )
        self.tasks[task.id] = task
        if job_id is not None and not double:
            self.accepted[job_id] += 1
        world.note(f"Kie takes {task.id}" + (" as well, by a retry of its own" if double else ""))
        if task.finish_at is not None and body.get("callBackUrl"):
            for _ in range(rng.choice((0, 1, 1, 1, 2))):
                delay_s = takes_s + rng.uniform(0, 3)
                world.at(delay_s, lambda: self.call_back(body["callBackUrl"], self._callback_body(task)))
        return task

    def stranger(self, body: dict[str, Any]) -> Task:
        """Make a task that no job of ours bought."""
        return self._take(body, None)

    def _callback_body(self, task: Task) -> dict[str, Any]:
        """What Kie posts, with results that must never be believed."""
        lie = json.dumps({"resultUrls": ["https://forged.simulated/never.png"]})
        return {"code": 200, "data": {"taskId": task.id, "state": "success", "resultJson": lie}}

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def record(self, task_id: str) -> tuple[int, Any]:
        """Answer recordInfo."""
        world = self.world
        if not world.calm and self._down[0] <= world.now_s < self._down[1]:
            return 503, {"code": 503, "msg": "maintenance", "data": None}
        if world.chance(0.05):
            code = world.random.choice((429, 430, 500, 455))
            return 200, {"code": code, "msg": "not now", "data": None}
        task = self.tasks.get(task_id)
        if task is None or world.now_s < task.visible_at:
            return 200, {"code": 422, "msg": "recordInfo is null", "data": None}
        return 200, {"code": 200, "msg": "success", "data": self._data(task)}

    def _data(self, task: Task) -> dict[str, Any]:
        world = self.world
        asked = task.body | {"input": json.dumps(task.body["input"])}
        made = (EPOCH + timedelta(seconds=task.made_at + self.skew_s)).replace(tzinfo=UTC)
        data: dict[str, Any] = {
            "taskId": task.id,
            "model": task.body["model"],
            "param": json.dumps(asked),
            "createTime": int(made.timestamp() * 1000),
            "resultJson": "",
            "state": world.random.choice(("waiting", "queuing", "generating", "generating", "polishing")),
        }
        if not self.over(task):
            return data
        if task.breaks:
            return data | {"state": "fail", "failCode": "500", "failMsg": "internal error", "creditsConsumed": 0}
        urls = [self.link(task, index) for index in range(task.files)]
        shown = json.dumps({"resultUrls": urls})
        if world.now_s < task.empty_until:
            self.empty[task.id] += 1
            shown = ""
        return data | {"state": "success", "resultJson": shown, "creditsConsumed": 4}

    def over(self, task: Task) -> bool:
        """Whether Kie is done with a task."""
        return task.finish_at is not None and self.world.now_s >= task.finish_at

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def link(self, task: Task, index: int, *, fresh: bool = False) -> str:
        """Give out an address: the same until it has expired, a new one on demand."""
        base = f"https://files.simulated/{task.id}/{index}.png"
        if base not in self.links:
            lasts_s = LINK_LASTS_S if self.world.random.random() < 0.8 else 1.0
            self.links[base] = (task.id, index, self.world.now_s + lasts_s)
        if not fresh:
            return base
        url = f"{base}?n={len(self.links)}"
        self.links[url] = (task.id, index, self.world.now_s + LINK_LASTS_S)
        return url

    def fresh_link(self, url: str) -> tuple[int, Any]:
        """Answer the download-url call."""
        known = self.links.get(url)
        if known is None:
            return 200, {"code": 422, "msg": "no such file", "data": None}
        self.world.counts["links renewed"] += 1
        return 200, {"code": 200, "msg": "success", "data": self.link(self.tasks[known[0]], known[1], fresh=True)}

    def file(self, url: str) -> tuple[int, bytes]:
        """Answer a GET of a file: (status, true bytes)."""
        known = self.links.get(url)
        if known is None or self.world.now_s > known[2]:
            return 403, b""
        return 200, self.tasks[known[0]].content(known[1])


def _never_connected(why: str) -> NewConnectionError:
    return NewConnectionError(None, why)  # type: ignore[arg-type]


class SimulatedClient(KieClient):
    """The real client, whose one call over the wire ends in the fake Kie. All classification is the product's own."""

    def __init__(self, world: World, kie: Kie, process: Process, refuse_inside: Callable[[str], None]) -> None:
        self.base_url = "https://kie.simulated"
        self.timeout_s = 30.0
        self._host = parse_url(self.base_url)
        self._reads: Any = None  # the wire ends in this module
        self._world, self._kie, self._process, self._refuse_inside = world, kie, process, refuse_inside

    def _call(
        self,
        pool: HTTPConnectionPool,
        call: Call,
        payload: Any,
        timeout_s: float,
        may_start: Callable[[], bool] = lambda: True,
        **_: Any,
    ) -> Envelope:
        world, actor = self._world, self._world.current
        assert actor is not None
        self._refuse_inside(call.path)
        what = call.path.rpartition("/")[2] + (f" {call.query['taskId']}" if call.query else "")
        serve = self._server(call, payload, plain(actor.message.kwargs["job_id"]))
        actor.asked += 1
        if call.path.endswith("recordInfo") and actor.message.task == POLL:
            self._kie.on_record()
        creates = call.path.endswith("createTask")
        fails = self._not_sent if creates else self._reset
        status, body = world.effect(
            what, lambda: self._sent(serve, may_start), fails=fails, lost=self._reset, takes_s=0.5
        )
        answer = json.dumps(body).encode()
        if world.chance(0.04):
            world.counts["answers cut"] += 1
            status, answer = world.random.choice(((200, answer[: len(answer) // 2]), (502, b"<html>Bad Gateway")))
        world.note(f"is answered {status} {answer[:90].decode()}")
        slow = creates and world.traits.slow_answers
        waits_s = world.random.uniform(0, 35.0) if slow or world.chance(0.03) else world.random.uniform(0, 0.3)
        world.sleep(min(waits_s, timeout_s))
        if waits_s > timeout_s:
            raise TimeoutError("no whole answer in time (simulated)")
        return envelope(status, answer)

    def _sent(self, serve: Callable[[], tuple[int, Any]], may_start: Callable[[], bool]) -> tuple[int, Any]:
        """The connection stands; the last question before the first byte, and the hole behind it."""
        if not may_start():
            self._world.counts["creates given back"] += 1
            raise _never_connected("connected too late to begin")
        if self._world.chance(self._world.traits.rate / 10):
            self._world.counts["pauses between the guard and the first byte"] += 1
            self._world.freeze(self._process)
            self._world.sleep(0.0)
        return serve()

    def _server(self, call: Call, payload: bytes | None, job_id: str) -> Callable[[], tuple[int, Any]]:
        if call.path.endswith("createTask"):
            return lambda: self._kie.create(json.loads(payload or b"{}"), job_id)
        if call.path.endswith("recordInfo"):
            return lambda: self._kie.record(call.query["taskId"])
        return lambda: self._kie.fresh_link((call.body or {})["url"])

    def _reset(self) -> Exception:
        reset = ProtocolError("Connection aborted.", ConnectionResetError())
        silence = ReadTimeoutError(None, "", "silence")  # type: ignore[arg-type]
        return self._world.random.choice((reset, silence, IncompleteRead(10, 20)))

    def _not_sent(self) -> Exception:
        """The call does not reach Kie; half of the time the client can know it."""
        if self._world.random.random() < 0.5:
            return _never_connected("connection refused")
        return self._reset()


class Downloads:
    """The session for result files: answers like a file server that is not always well."""

    def __init__(self, world: World, kie: Kie, refuse_inside: Callable[[str], None]) -> None:
        self._world, self._kie, self._refuse_inside = world, kie, refuse_inside

    def open(
        self, url: str, *, check: Callable[[], None] = lambda: None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """GET a file as an open stream; these files cannot be recognised again, so nothing is ever resumed."""
        world = self._world
        self._refuse_inside("GET of a file")
        away = lambda: SourceUnavailable("the file server does not answer (simulated)")  # noqa: E731
        status, content = world.effect(f"GET {url}", lambda: self._kie.file(url), fails=away, lost=away)
        if status != 200:
            world.counts["links refused"] += 1
            world.note(f"the link is answered {status}")
        length: int | None = len(content)
        if world.chance(0.04):
            world.counts["files cut"] += 1
            content = content[: len(content) // 2]
            length = length if world.random.random() < 0.5 else None
        elif world.chance(0.02):
            self._kie.spoiled[url.split("/")[3]] += 1
            content = b"<!doctype html><title>Sorry</title>"
            length = len(content)
        return _Answer(world, url, check, status=status, content=content, length=length)


class _Answer:
    """An open response, as far as a copy looks at one."""

    def __init__(
        self, world: World, url: str, check: Callable[[], None], *, status: int, content: bytes, length: int | None
    ) -> None:
        self.url, self.status_code = url, status
        self.headers = {} if length is None else {"Content-Length": str(length)}
        self.raw = SimpleNamespace(read=self._read, chunked=length is None)
        self._world, self._check = world, check
        middle = len(content) // 2
        self._parts = [part for part in (content[:middle], content[middle:]) if part]

    def close(self) -> None:
        """There is no connection to let go of."""

    def _read(self, _size: int, *, decode_content: bool) -> bytes:
        slow = self._world.chance(0.06)
        self._world.sleep(self._world.random.uniform(0, 150.0 if slow else 0.5))
        self._check()
        return self._parts.pop(0) if self._parts else b""
