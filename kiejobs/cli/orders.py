"""`cancel`, `retry`, `adopt`, `refresh`: a person's orders about one job, and `accounts`: what Kie's accounts say.

An order is written down with who gave it. What may cost money is asked for in words before it is done, and never done
without `--pay`.
"""

import getpass
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiejobs.cli import render
from kiejobs.cli.asking import agreed
from kiejobs.cli.jobs import JobId
from kiejobs.cli.render import Json, examples
from kiejobs.cli.whose import jobs_with
from kiejobs.documents import account_document, job_document
from kiejobs.errors import InvalidInput, NotPossible
from kiejobs.jobs import Job, JobState

if TYPE_CHECKING:
    from kiejobs.db.accounts import Account
    from kiejobs.producer import KieJobs


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(short_help="Give a job up.", epilog=examples("kiejobs cancel 0f3c…"))(cancel)
    app.command(
        short_help="Store again for free, or buy again.",
        epilog=examples("kiejobs retry 0f3c…", 'kiejobs retry 0f3c… --pay --why "the customer asked"'),
    )(retry)
    app.command(
        short_help="Name the task of an unconfirmed job.",
        epilog=examples("kiejobs list --phase unconfirmed", "kiejobs adopt 0f3c… 281e5b0…"),
    )(adopt)
    app.command(short_help="Look at Kie's record now.", epilog=examples("kiejobs refresh 0f3c…"))(refresh)
    app.command(
        short_help="Show Kie's accounts, and what was spent.",
        epilog=examples("kiejobs accounts", "kiejobs accounts --spend --days 7", "kiejobs accounts --resume default"),
    )(accounts)


def cancel(job: JobId, json: Json = False) -> None:
    """Give a job up. Kie has no cancel: what it has taken is billed, and this says so."""
    _tell(_with(job).cancel(job), as_json=json)


def retry(
    job: JobId,
    pay: Annotated[
        bool,
        typer.Option(
            "--pay",
            help="Buy a new generation if storing again is impossible. Asks first, but not with --yes or --json.",
        ),
    ] = False,
    why: Annotated[str, typer.Option(help="Kept in the ledger beside your name.")] = "retry",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before paying.")] = False,
    json: Json = False,
) -> None:
    """Try again: store the result again for free while Kie has it, else buy a new generation, which needs --pay.

    With --pay, a job whose result was no result, or gone, is bought again at once.
    """
    from kiejobs.db.orders import FRUITLESS

    jobs = _with(job)
    try:
        if pay and jobs.get(job).reason in FRUITLESS:
            raise NotPossible(f"retrying job {job} buys a new generation", remedy="--pay")
        found = jobs.retry(job)
    except NotPossible as error:
        if not (pay and error.remedy):
            raise
        if not (yes or json or agreed(f"{error}. Buy it?")):
            raise NotPossible("nothing was bought") from None
        found = jobs.retry(job, pay=True, why=why)
    _tell(found, as_json=json)


def adopt(
    job: JobId,
    task_id: Annotated[str, typer.Argument(metavar="TASK_ID", help="Kie's id, from its log page.")],
    json: Json = False,
) -> None:
    """Name the task of an unconfirmed job. A worker reads the task's record and adopts it if everything agrees."""
    found = _with(job).adopt(job, task_id)
    _tell(found, as_json=json, hint=f"A worker reads Kie's record now. Next: kiejobs show {found.id} --timeline")


def refresh(job: JobId, json: Json = False) -> None:
    """Have a worker look at Kie's record now instead of at the next due time."""
    found = _with(job).refresh(job)
    _tell(found, as_json=json, hint="" if found.ended else f"A worker looks now. Next: kiejobs show {found.id}")


def accounts(
    spend: Annotated[bool, typer.Option("--spend", help="Also what was spent, per day and model.")] = False,
    days: Annotated[int, typer.Option(min=1, max=3650, help="With --spend: so many days back.")] = 30,
    resume: Annotated[str | None, typer.Option(metavar="ACCOUNT", help="End this account's pause now.")] = None,
    json: Json = False,
) -> None:
    """Show each account: paused or not and why, its balance, what nobody can explain, and the creates free now.

    What was spent is every tenant's, because tenants share accounts.
    """
    jobs = _jobs()
    if resume is not None:
        known = [account.name for account in jobs.accounts()]
        if resume not in known:
            raise InvalidInput(
                f"there is no account {resume}", field="--resume", given=resume, allowed=", ".join(known) or "none yet"
            )
        jobs.resume(resume)
    found = jobs.accounts()
    if json:
        render.print_json(_document(jobs, found, days if spend else None))
        return
    if not found:
        render.hint("No account is set up here and none was used. Set KIE_API_KEY, see docs/settings.md.")
    for account in found:
        _print_account(account)
    if spend:
        _print_spend(jobs, days)


def _jobs() -> "KieJobs":
    from kiejobs.producer import KieJobs

    return KieJobs(who=_who())


def _with(job: str) -> "KieJobs":
    return jobs_with(job, who=_who())


def _who() -> str:
    """Say who gives an order; in a container a user may have a number alone."""
    try:
        return f"cli {getpass.getuser()}"
    except (KeyError, OSError):  # until Python 3.12 the one, from 3.13 on the other
        return f"cli uid {os.getuid()}"


def _tell(job: Job, *, as_json: bool, hint: str = "") -> None:
    if as_json:
        render.print_json(job_document(job))
        return
    said = job.message if job.phase is JobState.CANCELED and job.message else render.standing(job)
    render.say(said)
    if job.phase is JobState.SUBMITTING:
        hint = "The create call is in flight: the order is applied when its outcome is known."
    if hint:
        render.hint(hint)


def _print_account(account: "Account") -> None:
    paused = f"creates paused ({account.pause_code}): {account.pause_note}" if account.pause_code else ""
    until = f"{account.paused_until:%Y-%m-%d %H:%M:%S} UTC" if account.pause_code and account.paused_until else ""
    drift = f"{account.drift_credits:g} credits left the balance unexplained" if account.drift_credits else ""
    if account.drift_credits and account.drift_credits < 0:
        drift = f"{-account.drift_credits:g} credits more than the creates have left, as after a top-up or a refund"
    elsewhere = " where a worker has its key" if account.free_creates is None else ""
    render.facts(
        [
            ("account", account.name),
            ("state", paused or f"creates go on{elsewhere}"),
            ("tries again", until),
            ("models off", "; ".join(f"{model}: {why}" for model, why in account.models_paused)),
            ("credits", f"{account.credits:g}" if account.credits is not None else "not read yet"),
            ("drift", drift),
            ("unfinished", f"{account.unfinished} job{'' if account.unfinished == 1 else 's'}"),
            ("key", "none in this environment" if account.free_creates is None else ""),
            ("free now", f"{account.free_creates} creates" if account.free_creates is not None else ""),
        ]
    )


def _print_spend(jobs: "KieJobs", days: int) -> None:
    from kiejobs.db import spend

    rows = [
        (one.day, one.tenant, one.model, str(one.creates), f"{one.credits:f}", str(one.unknown))
        for one in spend.totals(jobs.database, days=days)
    ]
    render.say("")
    render.out().print(render.table(("day (UTC)", "tenant", "model", "creates", "credits", "cost unknown"), rows))
    unknown = spend.unknown(jobs.database)
    if unknown:
        render.say(f"\n{len(unknown)} create call(s) may have cost something that nobody knows:")
        for one in unknown:
            render.say(f"  {one.job_id}  {one.model}  {one.state}  {one.sending_at:%Y-%m-%d %H:%M} UTC")


def _document(jobs: "KieJobs", found: "tuple[Account, ...]", days: int | None) -> dict[str, Any]:
    from kiejobs.db import spend

    document: dict[str, Any] = {"accounts": [account_document(one) for one in found]}
    if days is not None:
        document["spend"] = [
            {
                "day": one.day,
                "tenant": one.tenant,
                "model": one.model,
                "creates": one.creates,
                "credits": float(one.credits),
                "unknown": one.unknown,
            }
            for one in spend.totals(jobs.database, days=days)
        ]
        document["unknownSpend"] = [
            {"generationId": one.job_id, "model": one.model, "state": one.state, "sentAt": one.sending_at.isoformat()}
            for one in spend.unknown(jobs.database)
        ]
    return document
