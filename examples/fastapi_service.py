"""A FastAPI service that buys pictures through the gateway and is told, signed, when they are there.

    GATEWAY_URL=http://127.0.0.1:8787 WEBHOOK_SECRET=whsec_… SERVICE_URL=http://127.0.0.1:8000 \
        uvicorn --app-dir examples fastapi_service:app

It has neither database nor broker of kiejobs: `kiejobs.http` needs `requests` alone. GATEWAY_KEY is needed where the
gateway has keys.
"""

import os
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from kiejobs.errors import InvalidInput, KieJobsError
from kiejobs.http import KieJobsHttp, WebhookRefused, verify_webhook

app = FastAPI()
gateway = KieJobsHttp(os.environ["GATEWAY_URL"], os.environ.get("GATEWAY_KEY"))
orders: dict[str, dict[str, Any]] = {}  # your database


@app.post("/pictures", status_code=202)
def order(body: dict[str, str]) -> dict[str, str]:
    """Buy a picture; the order's number makes that safe to repeat."""
    try:
        job = gateway.enqueue(
            "grok-imagine/text-to-image",
            {"prompt": body["prompt"]},
            idempotency_key=f"picture/{body['order']}",
            callback_url=f"{os.environ['SERVICE_URL']}/hooks/kiejobs",
            metadata={"order": body["order"]},
        )
    except InvalidInput as error:
        raise HTTPException(422, str(error)) from None
    except KieJobsError as error:
        raise HTTPException(503, f"{error} {error.remedy}") from None
    orders.setdefault(body["order"], {"job": job.id, "state": job.state, "sequence": 0, "urls": []})
    return {"job": job.id}


@app.post("/hooks/kiejobs", status_code=204)
async def told(request: Request) -> None:
    """Take a message: verify its raw body, commit what it says, then answer 2xx; what is answered otherwise comes again."""
    try:
        message = verify_webhook(os.environ["WEBHOOK_SECRET"], request.headers, await request.body())
    except WebhookRefused:
        raise HTTPException(401) from None
    data = message["data"]
    order = orders.get(data["metadata"].get("order"))
    if order is None:  # told before the order was saved: it comes again
        raise HTTPException(503)
    if data["sequence"] > order["sequence"]:  # neither a repeat nor older news
        order |= {"state": data["state"], "sequence": data["sequence"]}  # commit here; if that fails, answer 500


@app.get("/pictures/{number}")
def look(number: str) -> dict[str, Any]:
    """Say where an order stands; its files are read through the gateway."""
    if number not in orders:
        raise HTTPException(404)
    order = orders[number]
    if order["state"] == "success" and not order["urls"]:
        order["urls"] = [output.url for output in gateway.get(order["job"]).outputs]
    return order
