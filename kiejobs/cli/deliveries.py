"""`deliveries`: the signed messages to producers, and sending one again."""

from typing import Annotated, Any

import typer

from kiejobs.cli import render
from kiejobs.cli.render import Json, examples
from kiejobs.db.deliveries import Delivery
from kiejobs.jobs import DeliveryState


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        short_help="List messages to producers, or send one again.",
        epilog=examples("kiejobs deliveries --state gave_up", "kiejobs deliveries --resend 7c0e…"),
    )(deliveries)


def deliveries(
    state: Annotated[DeliveryState | None, typer.Option(help="Only messages in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    resend: Annotated[str | None, typer.Option(metavar="DELIVERY", help="Send this one once more.")] = None,
    json: Json = False,
) -> None:
    """List the messages to producers, newest first. One that was given up can be sent again."""
    from kiejobs.producer import KieJobs

    jobs = KieJobs(who="cli")
    if resend is not None:
        jobs.send_again(resend)
    found = jobs.deliveries(state=state, limit=limit)
    if json:
        render.print_json({"deliveries": [_document(one) for one in found]})
    elif not found:
        render.hint("No such messages. A job enqueued with a callback URL has some.")
    else:
        rows = [(one.id, one.kind, one.state, str(one.attempts), one.error or "", one.job_id) for one in found]
        render.out().print(render.table(("delivery", "what", "state", "tries", "last error", "job"), rows))


def _document(one: Delivery) -> dict[str, Any]:
    return {
        "id": one.id,
        "generationId": one.job_id,
        "sequence": one.sequence,
        "type": one.kind,
        "state": one.state,
        "attempts": one.attempts,
        "dueAt": one.due_at.isoformat() if one.due_at else None,
        "error": one.error,
        "createdAt": one.created_at.isoformat(),
        "deliveredAt": one.delivered_at.isoformat() if one.delivered_at else None,
    }
