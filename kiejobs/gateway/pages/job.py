"""The page of one job: where it stands, what it brought and cost, what happened, and the buttons."""

from fastapi import APIRouter, Request, Response

from kiejobs.db.dossier import Dossier, dossier
from kiejobs.db.orders import FRUITLESS
from kiejobs.errors import InvalidInput, NotPossible
from kiejobs.gateway import outputs
from kiejobs.gateway.pages.gallery import prompt_of
from kiejobs.gateway.pages.view import PageRoute, go, page
from kiejobs.gateway.pages.visitor import Look, Ordering, WriteOrder
from kiejobs.gateway.pages.words import STATES
from kiejobs.jobs import Job, JobState, OutputState, SubmissionState
from kiejobs.kie import catalogue
from kiejobs.lifecycle import Event, may
from kiejobs.producer import KieJobs

router = APIRouter(route_class=PageRoute)

_DOUBTFUL = (SubmissionState.UNKNOWN, SubmissionState.WRITTEN_OFF)


@router.get("/jobs/{job_id}")
def job_page(job_id: str, look: Look) -> Response:
    """Show a job."""
    jobs = look.jobs_with(job_id)
    job, events = jobs.get_whole(job_id)
    papers = dossier(jobs.database, job.id)
    model = catalogue.find(job.model)
    return page(
        "job.html",
        look.services,
        look.visitor,
        job=job,
        events=events,
        papers=papers,
        prompt=prompt_of(papers.request),
        buttons=buttons(job, papers) if look.visitor.may_write else frozenset(),
        seen=mark_of(job, papers),
        price=model.price_credits if model else None,
        now=papers.at,
        live=not job.ended,
    )


def buttons(job: Job, papers: Dossier) -> frozenset[str]:
    """Say which orders make sense for a job now. Whether one is possible is decided when it is given."""
    restorable = job.phase is JobState.FAIL and any(one.state is OutputState.FAILED for one in job.outputs)
    offered = {
        "cancel": job.phase is JobState.SUBMITTING or may(job.phase, Event.CANCELED),
        "refresh": job.phase in (JobState.WAITING, JobState.TIMEOUT, JobState.STORING),
        "store": restorable,
        "buy": job.phase is JobState.UNCONFIRMED
        or (may(job.phase, Event.BOUGHT_AGAIN) and not (restorable and job.reason not in FRUITLESS)),
        "adopt": job.phase is JobState.UNCONFIRMED
        or (job.phase is JobState.QUEUED and any(call.state in _DOUBTFUL for call in papers.creates)),
    }
    return frozenset(name for name, sensible in offered.items() if sensible)


def mark_of(job: Job, papers: Dossier) -> str:
    """Say in one word what an order that costs or gives something up was decided upon: the state, and what was bought."""
    return f"{job.phase}.{len(papers.creates)}"


def _must_be_as_seen(order: Ordering, jobs: KieJobs, job_id: str) -> None:
    """Refuse an order that somebody gave before a page that is no longer true; NotPossible says what has changed."""
    job = jobs.get(job_id)
    seen, now = order.form.get("seen", ""), mark_of(job, dossier(jobs.database, job.id))
    if seen == now:
        return
    words = {str(state): word for state, word in STATES.items()}
    was, is_now = words.get(seen.partition(".")[0]), words[job.phase]
    if was is None:
        changed = "the form does not say what its page showed"
    elif was == is_now:
        changed = "a create call was made since the page was opened"
    else:
        changed = f"the page showed it as “{was}”, and it is “{is_now}” by now"
    remedy = "Look at the job again; if you still want to, press the button there."
    raise NotPossible(f"Nothing was done: {changed}.", remedy=remedy)


@router.get("/jobs/{job_id}/outputs/{index}")
@router.head("/jobs/{job_id}/outputs/{index}")
def output(job_id: str, index: int, look: Look, request: Request) -> Response:
    """Give a stored file, as the HTTP API does."""
    return outputs.output(job_id, index, look.jobs_with(job_id), request, look.services)


@router.post("/jobs/{job_id}/cancel")
def cancel(job_id: str, order: WriteOrder) -> Response:
    """Give a job up, if it still stands where its page showed it: that says whether it is billed."""
    jobs = order.jobs_with(job_id)
    _must_be_as_seen(order, jobs, job_id)
    jobs.cancel(job_id)
    return go(f"/jobs/{job_id}")


@router.post("/jobs/{job_id}/refresh")
def refresh(job_id: str, order: WriteOrder) -> Response:
    """Look now."""
    order.jobs_with(job_id).refresh(job_id)
    return go(f"/jobs/{job_id}")


@router.post("/jobs/{job_id}/retry")
def retry(job_id: str, order: WriteOrder) -> Response:
    """Store the result again for free; with the field `pay`, buy a new one, if that is still what the page offered."""
    jobs = order.jobs_with(job_id)
    why = order.form.get("why", "").strip()[:500] or "retry"
    pay = order.form.get("pay") == "yes"
    if pay:
        _must_be_as_seen(order, jobs, job_id)
    jobs.retry(job_id, pay=pay, why=why)
    return go(f"/jobs/{job_id}")


@router.post("/jobs/{job_id}/adopt")
def adopt(job_id: str, order: WriteOrder) -> Response:
    """Name Kie's task; its record decides."""
    task_id = order.form.get("task_id", "").strip()
    jobs = order.jobs_with(job_id)
    if not task_id or len(task_id) > 100:
        raise InvalidInput("that is no task id", field="task_id", allowed="a text of at most 100 characters")
    jobs.adopt(job_id, task_id)
    return go(f"/jobs/{job_id}")
