"""Over HTTP: where a tenant's messages go."""

from sqlalchemy import update

from kiejobs.db import deliveries, endpoints
from kiejobs.db.clock import clock
from kiejobs.db.tables import deliveries as messages
from kiejobs.jobs import JobState
from kiejobs.nudge import NOTIFY
from kiejobs.settings import Settings
from tests.factories import make_job
from tests.gateways import KEYS, Caller, gateway_keys, running

URL = "https://service.example/kiejobs"


def test_an_address_is_set_listed_and_enabled_by_those_who_may(sqlite, settings, nudges):
    """The scope admin changes it, each tenant its own; what is wrong is a problem that names the field."""
    mixed = Settings(_env_file=None, **(settings.model_dump() | {"gateway_keys": gateway_keys()}))
    with running(mixed, sqlite, nudges) as at:
        admin, writer, other = (Caller(at, KEYS[name]) for name in ("a-admin", "a-write", "b-write"))
        shown = admin("PUT", "/api/addresses/default", json={"url": URL}).json()
        assert shown == {"addresses": [{"url": URL, "isDefault": True, "disabledAt": None, "gaveUp": 0}]}
        assert writer.get("/api/addresses").json() == shown
        assert other.get("/api/addresses").json() == {"addresses": []}
        assert writer("PUT", "/api/addresses/default", json={"url": URL}).status_code == 403
        for wrong in ({}, {"url": 7}, {"url": ""}, {"url": "http://127.0.0.1/"}, {"url": "x" * 3000}):
            answer = admin("PUT", "/api/addresses/default", json=wrong)
            assert (answer.status_code, answer.json()["field"]) == (422, "url")
        with sqlite.write() as tx:
            endpoints.disable(tx, "a", URL)
        assert admin.get("/api/addresses").json()["addresses"][0]["disabledAt"]
        assert admin.post("/api/addresses/enable", {"url": URL}).json() == shown
        assert admin.post("/api/addresses/enable", {"url": URL}).status_code == 404
        assert admin("PUT", "/api/addresses/default", json={"url": None}).json() == {"addresses": []}


def test_messages_are_listed_and_sent_again_over_http(database, settings, nudges):
    """Page by page, by state and by generation; one that is sent again is nudged at once."""
    made = [make_job(database, JobState.FAIL, callback_url=URL).id for _ in range(3)]
    for seconds_ago, job_id in zip((30, 20, 10), made, strict=True):
        with database.write() as tx:
            deliveries.tell(tx, job_id, JobState.FAIL)
            tx.execute(update(messages).where(messages.c.job_id == job_id).values(created_at=clock(-seconds_ago)))
    with running(settings, database, nudges) as at:
        caller, listed, cursor = Caller(at), [], ""
        while cursor is not None:
            page = caller.get(f"/api/deliveries?limit=2&cursor={cursor}").json()
            listed += page["deliveries"]
            cursor = page["nextCursor"]
        assert [one["generationId"] for one in listed] == made[::-1]
        (one,) = caller.get(f"/api/deliveries?generation={made[1]}").json()["deliveries"]
        assert one["id"] == listed[1]["id"]
        assert caller.get("/api/deliveries?generation=x").status_code == 404
        assert caller.get("/api/deliveries?cursor=x").status_code == 422
        assert caller.post(f"/api/deliveries/{one['id']}/resend").status_code == 202
    sent = [nudge.kwargs for nudge in nudges.take() if nudge.task == NOTIFY]
    assert sent == [{"delivery_id": one["id"]}]
