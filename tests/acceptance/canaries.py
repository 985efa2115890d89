"""What the search for secrets needs: values that are found in any form, a Kie that repeats what it is told, Redis's ear."""

import base64
import json
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import redis


def canary(name: str) -> str:
    """Make a value that no encoding leaves as it is, unless it is base64's own."""
    return f"{name}/CANARY+{secrets.token_hex(12)}"


def forms(value: str) -> set[str]:
    """List how a value looks in text: as it is, for an address, in JSON, in base64 wherever it begins in there."""
    found = {value, quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1]}
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + value.encode()).decode()
        mine = whole[(0, 2, 3)[before] : (before + len(value.encode())) * 8 // 6]
        found |= {mine, mine.translate(str.maketrans("+/", "-_"))}
    return found


def search(
    places: Mapping[str, str], values: Mapping[str, str], belongs_in: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """List what was found in places whose name does not begin with a word of those where it belongs."""
    return [
        f"{name} in {place}"
        for name, value in values.items()
        for place, text in places.items()
        if not place.startswith(tuple((belongs_in or {}).get(name, ()))) and any(form in text for form in forms(value))
    ]


class Parrot:
    """A Kie that repeats what it was sent, key and callback address included, where a prompt asks for it by a word.

    Everything else goes on to the simulator and comes back as it is.
    """

    def __init__(self, kie: str) -> None:
        self._kie = urlsplit(kie).netloc
        self._failing: dict[str, str] = {}
        parrot = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                try:
                    status, answer = parrot.answer(self.command, self.path, dict(self.headers), body)
                except (HTTPException, OSError):
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = _serve  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Answer as the prompt says, or as the simulator does."""
        told = json.loads(body) if body else {}
        text, key = json.dumps(told), headers.get("Authorization", "")
        said = f"cannot call {told.get('callBackUrl')}, key {key}"
        if "parrot-html" in text:
            return 502, f"<html>{said}</html>".encode()
        for code in (401, 422, 500):
            if f"parrot-{code}" in text:
                data = {"headers": headers, "param": text}
                return 200, json.dumps({"code": code, "msg": said, "data": data}).encode()
        status, answer = self._asked(method, path, headers, body)
        if "parrot-fail" in text:
            self._failing[json.loads(answer)["data"]["taskId"]] = said
        if method == "GET" and any(task in path for task in self._failing):
            record = json.loads(answer)
            record["data"]["failMsg"] = self._failing[record["data"]["taskId"]]
            answer = json.dumps(record).encode()
        return status, answer

    def _asked(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        connection = HTTPConnection(self._kie, timeout=20)
        try:
            connection.request(method, path, body or None, headers | {"Connection": "close"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class Monitor:
    """What Redis is told meanwhile, by its MONITOR."""

    def __init__(self, port: int, password: str) -> None:
        self.heard: list[str] = []
        # The library's own timeout of 5 s would end the listening in the first moment of silence.
        self.client = redis.Redis(port=port, password=password, client_name="monitor", socket_timeout=None)
        ready = threading.Event()

        def listen() -> None:
            with suppress(redis.RedisError, OSError, ValueError), self.client.monitor() as monitor:
                ready.set()
                for said in monitor.listen():
                    self.heard.append(str(said["command"]))

        threading.Thread(target=listen, daemon=True).start()
        assert ready.wait(5)

    def kept(self) -> str:
        """Everything that lies in Redis now."""
        readers: dict[bytes, Any] = {
            b"string": self.client.get,
            b"list": lambda key: self.client.lrange(key, 0, -1),
            b"hash": self.client.hgetall,
            b"set": self.client.smembers,
            b"zset": lambda key: self.client.zrange(key, 0, -1),
        }
        keys = list(self.client.scan_iter())
        return "\n".join(f"{key!r}: {readers[self.client.type(key)](key)!r}" for key in keys)  # type: ignore[index]

    def hang_up(self) -> None:
        """Cut everybody's connection but ours."""
        for one in self.client.client_list():
            if one["name"] != "monitor":
                self.client.client_kill_filter(_id=one["id"])


def wrong_messages(model: str, request: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give Celery messages with which something is wrong: the task, what it is given, when it shall run."""
    yield "kiejobs.paint_a_picture", {"args": [request], "kwargs": {"request": request}}
    for kwargs in ({"request": "a prompt"}, {"request": {"model": model} | request["input"]}, {"wish": request}):
        yield "kiejobs.submit_generation", {"kwargs": kwargs}
    yield "kiejobs.submit_generation", {"args": [request, request, request]}
    yield "kiejobs.submit_generation", {"kwargs": {"request": request}, "headers": {"eta": "tomorrow"}}
    yield "kiejobs.submit_generation", {"kwargs": {"request": request}, "shadow": "a name of my own"}
    yield "kiejobs.poll_status", {"kwargs": {"job_id": request, "version": "x"}}


def no_messages(whole: dict[str, Any], prompt: str) -> Iterator[str]:
    """Give what is no message at all, and messages whose body is not one of Celery's."""
    yield from (prompt, f'{{"prompt": "{prompt}"}}', "[]", "5", '"text"', "null")
    for body in (prompt, f'{{"prompt": "{prompt}"}}', f'["{prompt}"]', "5", "null", '[["a"], ["b"], {}]'):
        yield json.dumps(whole | {"body": base64.b64encode(body.encode()).decode()})
    yield json.dumps(whole | {"headers": {}})
    yield json.dumps(whole | {"headers": {"task": "kiejobs.submit_generation"}})
    yield json.dumps(whole | {"content-type": "application/x-python-serialize"})
