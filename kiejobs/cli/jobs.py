"""`submit`, `show`, `list`, `wait`: a producer's commands. They need the database only; no key, no worker."""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiejobs.advice import advice
from kiejobs.cli import render
from kiejobs.cli.exits import Exit, exit_code_of_job
from kiejobs.cli.render import Json, examples
from kiejobs.cli.whose import jobs_with
from kiejobs.documents import job_document
from kiejobs.errors import InvalidInput
from kiejobs.jobs import DEFAULT_TENANT, Event, Job, JobState, Output, OutputState, Priority, PublicState

if TYPE_CHECKING:
    from kiejobs.producer import KieJobs

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, as `submit` printed it.")]
TimeoutS = Annotated[float, typer.Option("--timeout-s", min=0, help="Stop waiting after so many seconds.")]
Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="KEY=VALUE", help="Yours, given back with the job; repeatable."),
]

_USUAL: dict[str, Any] = {"account": None, "priority": str(Priority.INTERACTIVE), "validate": "on", "metadata": {}}
"""What need not be said to every line of a batch, because it holds anyway."""


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        short_help="Buy a generation.",
        epilog=examples(
            'kiejobs submit z-image --prompt "a red door in the rain" --input aspect_ratio=1:1 --wait',
            "kiejobs submit kling-2.6/text-to-video --input-json request.json --idempotency-key order-42",
            """kiejobs submit kling-2.6/image-to-video --prompt "…" --input image_urls='["https://…"]'""",
            'kiejobs submit kling-2.6/image-to-video --prompt "…" --input image_urls=@photo.png',
            'kiejobs submit z-image --prompt-part subject="a red door" --prompt-part avoid="text" --wait',
            "kiejobs submit --batch requests.jsonl --wait",
        ),
    )(submit)
    app.command(
        short_help="Show one job.",
        epilog=examples("kiejobs show 0f3c…", "kiejobs show 0f3c… --no-timeline", "kiejobs show 0f3c… --json"),
    )(show)
    app.command(
        name="list",
        epilog=examples("kiejobs list", "kiejobs list --state fail --limit 5", "kiejobs list --unsaved --all-tenants"),
    )(list_jobs)
    app.command(
        short_help="Wait until a job has ended.",
        epilog=examples("kiejobs wait 0f3c…", "kiejobs wait 0f3c… --timeout-s 60 --json"),
    )(wait)


def submit(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="The model's id; `kiejobs models` lists them.")
    ] = None,
    *,
    input: Annotated[
        list[str] | None,
        typer.Option(
            "--input", "-i", metavar="KEY=VALUE", help="One field of the input, @FILE for a file; repeatable."
        ),
    ] = None,
    input_json: Annotated[
        str | None, typer.Option("--input-json", metavar="FILE", help="The input as JSON; - reads standard input.")
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="Short for --input prompt=TEXT.")] = None,
    prompt_part: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt-part", metavar="PART=TEXT", help="subject, scene, camera, style or avoid, instead of a prompt."
        ),
    ] = None,
    account: Annotated[str | None, typer.Option(help="The Kie account that pays; by default `default`.")] = None,
    priority: Annotated[Priority, typer.Option(help="batch stands ten minutes further back.")] = Priority.INTERACTIVE,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key and request again: the same job, nothing bought twice.")
    ] = None,
    metadata: Metadata = None,
    validate: Annotated[str, typer.Option(help="on, strict (an unknown model is refused) or off.")] = "on",
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for the result and show it.")] = False,
    batch: Annotated[
        str | None,
        typer.Option("--batch", metavar="FILE", help="Many: one JSON request per line; - reads standard input."),
    ] = None,
    skip_invalid: Annotated[bool, typer.Option("--skip-invalid", help="Of a batch, leave wrong lines out.")] = False,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout-s", min=0, help="Stop waiting after so long (900; a batch: no limit).")
    ] = None,
    json: Json = False,
) -> None:
    """Buy a generation: check it, put it in line, and with --wait show its result.

    The job is safe once its id is printed, even if the broker is down. Exit code with --wait: 0 stored, 1 failed,
    4 still running or parked.

    --batch takes a file with a request per line, with the fields of POST /api/generations, and writes FILE.results.jsonl.
    All lines are checked before the first is enqueued. The same file run again buys nothing twice, so a run that was
    interrupted is run again; a line that shall be bought again gets an idempotencyKey of its own. Exit code 2 where lines
    were left out.
    """
    from kiejobs.cli.values import read_input, split_pairs
    from kiejobs.kie import catalogue
    from kiejobs.producer import KieJobs

    jobs = KieJobs(who="cli")
    if batch is not None:
        from kiejobs.cli.batch import submit_batch

        _refuse_beside_batch(model, input, input_json, prompt, prompt_part, idempotency_key)
        named: dict[str, Any] = {"account": account, "priority": str(priority), "validate": validate}
        named |= {"metadata": dict(split_pairs(metadata or (), option="--metadata"))}
        defaults = {name: value for name, value in named.items() if value != _USUAL[name]}
        asked = {"skip_invalid": skip_invalid, "wait": wait, "as_json": json}
        _warn_without_broker(jobs)
        submit_batch(jobs, batch, defaults=defaults, timeout_s=timeout_s, **asked)
        return
    if model is None:
        raise InvalidInput("name a MODEL, or a file with --batch", field="MODEL", remedy="kiejobs submit --help")
    job = jobs.enqueue(
        model,
        read_input(catalogue.find(model), input or (), input_json, prompt),
        account=account,
        priority=priority,
        idempotency_key=idempotency_key,
        metadata=dict(split_pairs(metadata or (), option="--metadata")),
        validate=validate,
        prompt_parts=dict(split_pairs(prompt_part, option="--prompt-part")) if prompt_part else None,
    )
    _tell_doubts(jobs, job)
    if wait:
        _follow_and_tell(jobs, job.id, 900.0 if timeout_s is None else timeout_s, as_json=json)
    elif json:
        render.print_json(job_document(jobs.get(job.id)))
    else:
        render.say(job.id)
        found = jobs.get(job.id)
        stays = found.ended or found.phase is JobState.UNCONFIRMED  # then nobody waits for it
        render.hint(f"{render.standing(found)}. Next: kiejobs {'show' if stays else 'wait'} {job.id}")


def _refuse_beside_batch(*given: object) -> None:
    if any(each is not None for each in given):
        raise InvalidInput(
            "--batch takes its requests from the file: no model, input, prompt or key beside it",
            field="--batch",
            remedy="Write them into the file's lines; account, priority, metadata and validate may stand beside it.",
        )


def _tell_doubts(jobs: "KieJobs", job: Job) -> None:
    """Say on standard error what may go otherwise than its sender thinks."""
    for event in jobs.timeline(job.id):
        if event.kind == "warning":
            render.say(f"Warning: {event.note}", style="yellow", to=render.err())
    if not job.ended:
        _warn_without_broker(jobs)


def _warn_without_broker(jobs: "KieJobs") -> None:
    if jobs.settings.broker is None:
        text = "No broker is set and no `kiejobs up` runs here: the job waits in line until workers see this database."
        render.say(f"Warning: {text}", style="yellow", to=render.err())


def show(
    job: JobId,
    timeline: Annotated[
        bool, typer.Option("--timeline/--no-timeline", "-t", help="Tell what happened, line by line.")
    ] = True,
    json: Json = False,
) -> None:
    """Show where a job stands, its files, what went wrong, and what happened: when, who, why."""
    jobs = jobs_with(job)
    found = jobs.get(job)
    events = jobs.timeline(found.id) if timeline else None
    if json:
        render.print_json(job_document(found, events))
    else:
        _print_job(found, events)


def list_jobs(
    *,
    state: Annotated[PublicState | None, typer.Option(help="Only jobs in this state.")] = None,
    phase: Annotated[JobState | None, typer.Option(help="Only jobs in this fine state.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    unsaved: Annotated[
        bool, typer.Option("--unsaved", help="Only results that are not in storage yet, soonest to die first.")
    ] = False,
    tenant: Annotated[str, typer.Option(help="Whose jobs.")] = DEFAULT_TENANT,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", "-A", help="Everybody's jobs.")] = False,
    json: Json = False,
) -> None:
    """List jobs, newest first. With --unsaved, an empty list means that every result made so far is safe."""
    from kiejobs.producer import KieJobs

    asked: dict[str, Any] = {"state": state, "phase": phase, "model": model, "limit": limit, "unsaved": unsaved}
    if all_tenants:
        found = KieJobs(who="cli").list_all(**asked)
    else:
        found = KieJobs(who="cli", tenant=_checked(tenant)).list(**asked)
    if json:
        render.print_json({"generations": [job_document(job) for job in found]})
    elif unsaved:
        _print_unsaved(found, "" if all_tenants else tenant)
    elif not found:
        whose = "" if all_tenants else f" of tenant {tenant}; --all-tenants looks for everybody's"
        render.hint(
            f"No such jobs here{whose}. `kiejobs submit` makes one, `kiejobs doctor` says which database is read."
        )
    else:
        columns = ("job", "model", "state", "created (UTC)", *(["tenant"] if all_tenants else []))
        rows = [
            (job.id, job.model, render.standing(job), f"{job.created_at:%Y-%m-%d %H:%M:%S}", job.tenant)
            for job in found
        ]
        render.out().print(render.table(columns, [row[: len(columns)] for row in rows]))


def _checked(tenant: str) -> str:
    from kiejobs.settings import checked_tenant

    try:
        return checked_tenant(tenant)
    except ValueError as error:
        raise InvalidInput(str(error), field="--tenant", given=tenant) from None


def _print_unsaved(jobs: list[Job], tenant: str) -> None:
    if not jobs:
        whose = f" of tenant {tenant}" if tenant else ""
        everybodys = " --all-tenants looks at everybody's." if tenant else ""
        render.hint(f"Every result{whose} is safe: nothing waits to be stored.{everybodys}")
        return
    rows = [_unsaved_row(job, output) for job in jobs for output in job.outputs if output.state == OutputState.PENDING]
    render.out().print(render.table(("job", "file", "link dies (UTC)", "copied so far", "why not yet"), rows))


def _unsaved_row(job: Job, output: Output) -> tuple[str, str, str, str, str]:
    dies = f"{output.expires_at:%Y-%m-%d %H:%M}" if output.expires_at else ""
    return (job.id, str(output.index), dies, render.size(output.received_bytes), output.error or "being copied")


def wait(job: JobId, timeout_s: TimeoutS = 900.0, json: Json = False) -> None:
    """Wait until a job has ended and show its result. The job goes on whether anybody waits or not."""
    _follow_and_tell(jobs_with(job), job, timeout_s, as_json=json)


def _follow_and_tell(jobs: "KieJobs", job_id: str, timeout_s: float, *, as_json: bool) -> None:
    from kiejobs.cli.watch import follow

    if timeout_s != timeout_s:  # NaN would wait for ever  # noqa: PLR0124
        raise InvalidInput("--timeout-s is no number", field="--timeout-s", given=timeout_s, allowed="seconds")
    job = follow(jobs, job_id, timeout_s=timeout_s)
    if as_json:
        render.print_json(job_document(job))
    else:
        _print_job(job, None)
    code = exit_code_of_job(job)
    if code is Exit.UNFINISHED and job.phase is not JobState.UNCONFIRMED:
        render.hint(f"Not ended within {timeout_s:g} s; the job goes on. Next: kiejobs wait {job.id}")
    if code:
        raise typer.Exit(code)


def _print_job(job: Job, events: Iterable[Event] | None) -> None:
    render.facts(_facts(job))
    for output in job.outputs:
        render.say(_file_line(output))
        if output.sha256:
            render.say(f"     sha256 {output.sha256}", style="dim")
        if output.url:
            render.say(f"     {output.url}")
    if events is not None:
        render.say("")
        rows = [_event_row(event, job.created_at) for event in events]
        render.out().print(render.table(("when (UTC)", "after", "who", "what", "note"), rows))


def _facts(job: Job) -> list[tuple[str, str]]:
    took = (job.ended_at - job.created_at).total_seconds() if job.ended_at else None
    failure: list[tuple[str, str]] = []
    if job.phase is not JobState.SUCCESS and (job.reason or job.phase in (JobState.TIMEOUT, JobState.UNCONFIRMED)):
        code = f" ({job.code})" if job.code else ""
        failure = [("why", f"{job.message or job.reason or ''}{code}"), ("what to do", advice(job))]
    return [
        ("job", job.id),
        ("model", job.model),
        ("state", render.standing(job)),
        ("Kie's task", job.provider_task_id or ""),
        ("created", f"{job.created_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("took", f"{took:.1f} s, {render.polls(job.polls)}" if took is not None else ""),
        ("found by", job.found_by or ""),
        ("credits", f"{float(job.credits):g}" if job.credits is not None else ""),
        *failure,
        ("metadata", ", ".join(f"{name}={value}" for name, value in job.metadata.items())),
    ]


def _file_line(output: Output) -> str:
    role = "" if output.role == "result" else f"  {output.role}"
    what = output.media_type or output.state
    trouble = f"  {output.error}" if output.error else ""
    return f"  {output.index}  {what}  {render.size(output.size_bytes or output.received_bytes)}{role}{trouble}"


def _event_row(event: Event, began: datetime) -> tuple[str, ...]:
    moved = f"{event.from_state or '·'} → {event.to_state}" if event.to_state else ""
    what: Any = f"{event.kind} ({moved})" if moved else event.kind
    after = render.seconds(max((event.at - began).total_seconds(), 0.0))
    return (f"{event.at:%m-%d %H:%M:%S.%f}"[:-3], after, event.who, what, event.note)
