"""The control side: what a test asks of the simulator itself, under `/simulator/`, and the start page.

None of this exists at Kie. It needs no key, answers plain JSON with honest HTTP statuses, and works on the same port as
the API, so that a test needs one address.
"""

import html
import time
from string import Template
from urllib.parse import unquote

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import HTMLResponse, JSONResponse

from kiejobs.simulator.provider import Provider
from kiejobs.simulator.scenarios import scenario_rows

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Kie simulator</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}td{padding:.15rem .8rem .15rem 0;vertical-align:top}</style></head><body>
<h1>Kie simulator</h1>
<p>A local stand-in for the Kie.ai API. Send it what you would send to Kie, with $keys as bearer key. Nothing is
generated and nothing is paid.</p>
<ul><li>API: <code>$api</code></li><li>Result files: <code>$files</code></li>
<li>What it saw: <a href="/simulator/ledger">/simulator/ledger</a></li></ul>
<h2>So far</h2><table>$counters</table>
<h2>Scenarios</h2><p>Write markers into the prompt, as many as you like. A call without a prompt takes them from any text
of its body. A follow-up (extend, WAV, stems, 4K and the like) that has none takes those of its parent's prompt that begin
with <code>next:</code>, such as <code>[[next:fail=500]]</code>.</p><table>$scenarios</table>
<h2>Calls</h2><p>Every API of Kie, on its own paths; the models of the jobs API are not checked against a list.</p>
<table>$calls</table>
<h2>For tests</h2><table>
<tr><td><code>POST /simulator/tasks/ID/finish</code></td><td>end a generation now</td></tr>
<tr><td><code>POST /simulator/tasks/ID/age?seconds=600</code></td><td>let so much time pass for its links</td></tr>
<tr><td><code>POST /simulator/uploads/expire?url=URL</code></td><td>delete an upload; without a URL all of them</td></tr>
<tr><td><code>POST /simulator/hold, /simulator/release</code></td><td>keep answers of accepted creates back</td></tr>
<tr><td><code>POST /simulator/reset</code></td><td>begin anew</td></tr></table>
</body></html>
""")


def add_control(api: FastAPI, provider: Provider) -> None:
    """Put the control calls and the start page beside the API."""

    @api.get("/")
    async def start_page(request: Request) -> HTMLResponse:
        return HTMLResponse(_start_page(api, provider, str(request.base_url).rstrip("/")))

    @api.get("/simulator/ledger")
    async def ledger() -> JSONResponse:
        return JSONResponse(provider.ledger.snapshot())

    @api.post("/simulator/reset")
    async def reset() -> JSONResponse:
        provider.forget()
        return JSONResponse({"reset": True})

    @api.exception_handler(404)
    async def unknown_path(request: Request, _: Exception) -> JSONResponse:
        msg = f"No such call: {request.method} {request.url.path}. The calls this simulator knows are at GET /"
        return JSONResponse({"code": 404, "msg": msg, "data": None}, status_code=404)

    _add_time(api, provider)
    _add_barrier(api, provider)


def _add_time(api: FastAPI, provider: Provider) -> None:
    """Calls that let time pass: a task ends, its links grow old, uploads are gone."""

    @api.post("/simulator/tasks/{task_id}/finish")
    async def finish(task_id: str) -> JSONResponse:
        task = provider.tasks.get(task_id)
        if task is None:
            return JSONResponse({"error": f"there is no task {task_id}"}, status_code=404)
        provider.settle(task)
        return JSONResponse(task.order.family.record(task, provider.final_look(task)))

    @api.post("/simulator/tasks/{task_id}/age")
    async def age(task_id: str, seconds: float) -> JSONResponse:
        task = provider.tasks.get(task_id)
        if task is None or task.settled_s is None:
            return JSONResponse({"error": f"there is no finished task {task_id}"}, status_code=404)
        task.grow_older(seconds)
        return JSONResponse({"taskId": task_id, "secondsSinceItsEnd": round(time.monotonic() - task.settled_s, 3)})

    @api.post("/simulator/uploads/expire")
    async def expire(url: str = "") -> JSONResponse:
        path = unquote(url.removeprefix(provider.links.files_url))
        return JSONResponse({"expired": provider.uploads.expire(path)})


def _add_barrier(api: FastAPI, provider: Provider) -> None:
    """Calls that keep answers of accepted creates back, and let them go."""

    @api.post("/simulator/hold")
    async def hold() -> JSONResponse:
        provider.barrier.opened.clear()
        return _barrier(provider)

    @api.post("/simulator/release")
    async def release() -> JSONResponse:
        provider.barrier.opened.set()
        return _barrier(provider)

    @api.get("/simulator/held")
    async def held() -> JSONResponse:
        return _barrier(provider)


def _barrier(provider: Provider) -> JSONResponse:
    return JSONResponse({"held": provider.barrier.held, "waiting": provider.barrier.waiting})


def _calls(api: FastAPI) -> str:
    """The paths of Kie's that are served, in the order they were added."""
    routes = [route for route in api.routes if isinstance(route, APIRoute)]
    return "".join(
        f"<tr><td>{', '.join(route.methods or ())}</td><td><code>{html.escape(route.path)}</code></td></tr>"
        for route in routes
        if route.path != "/" and not route.path.startswith("/simulator/")
    )


def _start_page(api: FastAPI, provider: Provider, address: str) -> str:
    counters = provider.ledger.counts() | {"tasks": len(provider.tasks)}
    balances = {f"credits of account {n}": credits for n, (_, credits) in enumerate(_balances(provider), start=1)}
    rows = "".join(f"<tr><td>{name}</td><td>{count}</td></tr>" for name, count in (counters | balances).items())
    return _PAGE.substitute(
        api=html.escape(address),
        files=html.escape(provider.links.files_url),
        keys="anything" if provider.rules.keys is None else "one of the configured keys",
        counters=rows,
        scenarios=scenario_rows(),
        calls=_calls(api),
    )


def _balances(provider: Provider) -> list[tuple[str, float]]:
    """The first accounts' balances; names are left off the page, because without a key map they are keys."""
    return list(provider.accounts.balances().items())[:20]
