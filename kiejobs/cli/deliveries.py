"""`deliveries`: the signed messages to producers, and sending one again."""

from typing import TYPE_CHECKING, Annotated

import typer

from kiejobs.cli import render
from kiejobs.cli.render import Json, examples
from kiejobs.cli.whose import jobs_with, jobs_with_delivery
from kiejobs.documents import address_document, delivery_document
from kiejobs.errors import InvalidInput
from kiejobs.jobs import DEFAULT_TENANT, DeliveryState

if TYPE_CHECKING:
    from kiejobs.db.endpoints import Endpoint


def _checked(tenant: str) -> str:
    from kiejobs.settings import checked_tenant

    try:
        return checked_tenant(tenant)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Tenant = Annotated[str, typer.Option(help="Whose messages and addresses.", callback=_checked)]


def add_to(app: typer.Typer) -> None:
    """Add the command and those below it."""
    group = typer.Typer(
        help="List messages to producers, or send one again.",
        epilog=examples(
            "kiejobs deliveries --state gave_up --all-tenants",
            "kiejobs deliveries --resend 7c0e…",
            "kiejobs deliveries --job 0f3c…",
            "kiejobs deliveries default https://service.example/kiejobs",
            "kiejobs deliveries enable https://service.example/kiejobs",
        ),
    )
    group.callback(invoke_without_command=True)(deliveries)
    group.command(short_help="Show or set where jobs are told of that name no address.")(default)
    group.command(short_help="Send again to an address that answered 410 Gone.")(enable)
    app.add_typer(group, name="deliveries")


def deliveries(  # noqa: PLR0917 - each is an option
    context: typer.Context,
    state: Annotated[DeliveryState | None, typer.Option(help="Only messages in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Only messages about this job.")] = None,
    resend: Annotated[str | None, typer.Option(metavar="DELIVERY", help="Send this one once more, now.")] = None,
    tenant: Tenant = DEFAULT_TENANT,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", "-A", help="Everybody's messages.")] = False,
    json: Json = False,
) -> None:
    """List the messages to producers, newest first. One that was given up can be sent again.

    A job's messages, and the one that is sent again, are found whosever they are.
    """
    if context.invoked_subcommand is not None:
        return
    from kiejobs.producer import KieJobs

    if resend is not None:
        jobs = jobs_with_delivery(resend)
        jobs.send_again(resend)
    else:
        jobs = jobs_with(job) if job is not None else KieJobs(who="cli", tenant=tenant)
    listed = jobs.deliveries_of_all if all_tenants else jobs.deliveries
    found = listed(state=state, job_id=job, limit=limit)
    if json:
        render.print_json({"deliveries": [delivery_document(one) for one in found]})
    elif not found:
        whose = "" if all_tenants else f" of tenant {jobs.tenant}; --all-tenants looks for everybody's"
        render.hint(f"No such messages{whose}. A job enqueued with a callback URL has some.")
    else:
        columns = ("delivery", "what", "state", "tries", "last error", "job", *(["tenant"] if all_tenants else []))
        rows = [
            (one.id, one.kind, one.state, str(one.attempts), one.error or "", one.job_id, one.tenant) for one in found
        ]
        render.out().print(render.table(columns, [row[: len(columns)] for row in rows]))


def default(
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="The new one; leave it out to see what there is.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Tell nobody of jobs that name no address.")] = False,
    tenant: Tenant = DEFAULT_TENANT,
    json: Json = False,
) -> None:
    """Show or set the address that is told of every job which names none of its own."""
    from kiejobs.producer import KieJobs

    if url is not None and none:
        raise InvalidInput("--none stands alone, without a URL", field="--none", remedy="Leave one of them out.")
    addresses = KieJobs(who="cli", tenant=tenant).addresses
    if url is not None or none:
        addresses.set_default(url)
    found = addresses.list()
    if json:
        render.print_json({"addresses": [address_document(one) for one in found]})
        return
    if not found:
        render.hint("No address is set, and none is disabled.")
    for one in found:
        render.say(f"{one.url}  {_standing(one)}")


def enable(
    url: Annotated[str, typer.Argument(metavar="URL", help="The address, exactly as `deliveries default` lists it.")],
    tenant: Tenant = DEFAULT_TENANT,
    json: Json = False,
) -> None:
    """Send again to an address that answered 410 Gone. What was given up meanwhile is sent with --resend."""
    from kiejobs.producer import KieJobs

    jobs = KieJobs(who="cli", tenant=tenant)
    jobs.addresses.enable(url)
    if json:
        render.print_json({"url": url, "disabledAt": None})
    else:
        render.say(f"{url} is told again. `kiejobs deliveries --state gave_up` lists what it missed.")


def _standing(one: "Endpoint") -> str:
    words = ["told of jobs that name no address"] if one.is_default else []
    if one.disabled_at:
        words.append(f"disabled since {one.disabled_at:%Y-%m-%d %H:%M} UTC (410 Gone), {one.gave_up} messages given up")
    return ", ".join(words)
