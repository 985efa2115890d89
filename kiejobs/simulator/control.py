"""The control side: what a test asks of the simulator itself, under `/simulator/`, and the start page.

None of this exists at Kie. It needs no key, answers plain JSON with honest HTTP statuses, and works on the same port as
the API, so that a test needs one address.
"""

import html
from string import Template

from fastapi import FastAPI, Request
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
<h2>Scenarios</h2><p>Write markers into the prompt, as many as you like.</p><table>$scenarios</table>
</body></html>
""")


def add_control(api: FastAPI, provider: Provider) -> None:
    """Put the control calls and the start page beside the API."""

    @api.get("/")
    async def start_page(request: Request) -> HTMLResponse:
        return HTMLResponse(_start_page(provider, str(request.base_url).rstrip("/")))

    @api.get("/simulator/ledger")
    async def ledger() -> JSONResponse:
        return JSONResponse(provider.ledger.snapshot())

    @api.post("/simulator/tasks/{task_id}/finish")
    async def finish(task_id: str) -> JSONResponse:
        task = provider.tasks.get(task_id)
        if task is None:
            return JSONResponse({"error": f"there is no task {task_id}"}, status_code=404)
        provider.settle(task)
        return JSONResponse(task.record("fail" if task.failed else "success", provider.files_url))

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

    @api.post("/simulator/reset")
    async def reset() -> JSONResponse:
        provider.forget()
        return JSONResponse({"reset": True})

    @api.exception_handler(404)
    async def unknown_path(request: Request, _: Exception) -> JSONResponse:
        msg = f"No such call: {request.method} {request.url.path}. The simulator knows Kie's jobs API only, see GET /"
        return JSONResponse({"code": 404, "msg": msg, "data": None}, status_code=404)


def _barrier(provider: Provider) -> JSONResponse:
    return JSONResponse({"held": provider.barrier.held, "waiting": provider.barrier.waiting})


def _start_page(provider: Provider, address: str) -> str:
    counters = provider.ledger.counts() | {"tasks": len(provider.tasks)}
    balances = {f"credits of account {n}": credits for n, (_, credits) in enumerate(_balances(provider), start=1)}
    rows = "".join(f"<tr><td>{name}</td><td>{count}</td></tr>" for name, count in (counters | balances).items())
    return _PAGE.substitute(
        api=html.escape(address),
        files=html.escape(provider.files_url),
        keys="anything" if provider.rules.keys is None else "one of the configured keys",
        counters=rows,
        scenarios=scenario_rows(),
    )


def _balances(provider: Provider) -> list[tuple[str, float]]:
    """The first accounts' balances; names are left off the page, because without a key map they are keys."""
    return list(provider.accounts.balances().items())[:20]
