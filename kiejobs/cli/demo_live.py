"""What `demo --live` needs beside the demo: the user's Kie, its balance, a yes, and the truth about the money.

Of the user's settings only those that lead to Kie are taken; database, broker and storage stay the demo's own. Nothing is
bought before a yes, and whatever ends the demo, what was bought and has not come is told, with the way to go on.
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kiejobs.advice import advice_on
from kiejobs.cli import render
from kiejobs.cli.asking import agreed
from kiejobs.cli.demo_screen import DemoScreen, short
from kiejobs.cli.examples import PICTURE
from kiejobs.errors import DependencyError, KieUnavailable, NotPossible, SettingsError
from kiejobs.jobs import DEFAULT_ACCOUNT, Job, JobState

if TYPE_CHECKING:
    from kiejobs.kie.client import KieClient
    from kiejobs.settings import Settings

PATIENCE_S = 600.0
"""After so long the demo stops watching; a picture usually takes 10 to 30 s."""
TAKEN = ("KIE_API_KEY", "KIE_BASE_URL", "KIEJOBS_EGRESS_ALLOW")
"""The settings that lead to Kie, and to its files where KIE_BASE_URL is a simulator of this machine."""
_ELSEWHERE = ("KIEJOBS_DATABASE_URL", "KIEJOBS_BROKER_URL", "KIEJOBS_STORAGE_URL")
"""The settings that would lead `up` away from the demo's folder."""
_USD_PER_CREDIT = 0.005  # https://docs.kie.ai, read in autumn 2026


@dataclass(frozen=True)
class LiveKie:
    """The user's own Kie: the settings that lead to it, as they are set."""

    given: dict[str, str]
    settings: "Settings"

    @cached_property
    def client(self) -> "KieClient":
        """A client with the user's key, for the balance alone: workers make the create call."""
        from kiejobs.kie.client import KieClient

        return KieClient(self.settings.base_url, self.settings.keys[DEFAULT_ACCOUNT].key.get_secret_value())

    def credits_now(self) -> float | None:
        """Read the balance; None where Kie does not tell."""
        try:
            return self.client.credit()
        except DependencyError:
            return None


@dataclass(frozen=True, slots=True)
class Purchase:
    """What was agreed to, and the balance at that time."""

    kie: LiveKie
    credits_before: float

    def document(self) -> dict[str, Any]:
        """Describe the money, now that it is spent."""
        return {
            "live": True,
            "kie": self.kie.settings.base_url,
            "creditsBefore": self.credits_before,
            "creditsAfter": self.kie.credits_now(),
        }


def agree(screen: DemoScreen, *, yes: bool) -> Purchase:
    """Read the balance, say what will be bought and for how much, and ask. NotPossible without a yes."""
    kie = _the_users_kie()
    try:
        credits = kie.client.credit()
    except DependencyError as error:
        raise KieUnavailable(
            f"{kie.settings.base_url} does not tell the key's balance: {error}",
            remedy="Nothing was bought. Check the key at https://kie.ai/api-key, and that this machine reaches the address.",
        ) from None
    price = _price()
    if credits < price:
        raise NotPossible(
            f"the account has {credits:g} credits, and a picture costs about {price:g}",
            remedy="Nothing was bought. Add credits at https://kie.ai, or run `kiejobs demo`, which pays nothing.",
        )
    screen.offer(kie.settings.base_url, PICTURE.model, price, price * _USD_PER_CREDIT, credits)
    if not (yes or agreed("Buy it?")):
        raise NotPossible("nothing was bought")
    return Purchase(kie, credits)


def _the_users_kie() -> LiveKie:
    from kiejobs.settings import only, set_here

    given = set_here(TAKEN)
    settings = only(given)
    if not settings.keys:
        raise SettingsError(
            "no key is set, and `demo --live` buys at the real Kie",
            remedy="Set KIE_API_KEY (https://kie.ai/api-key), or run `kiejobs demo`, which needs none.",
        )
    return LiveKie(given, settings)


def _price() -> float:
    from kiejobs.kie import catalogue

    known = catalogue.find(PICTURE.model)
    assert known is not None and known.price_credits is not None  # noqa: S101 - the catalogue prices it
    return known.price_credits


@contextmanager
def accounted_for(screen: DemoScreen, folder: Path) -> Iterator[None]:
    """Say at the end, whatever brings it, what was bought and is not there yet, and how to go on."""
    try:
        yield
    finally:
        _account(screen, folder)


def _account(screen: DemoScreen, folder: Path) -> None:
    """Tell of a job that has not ended. The workers are gone by now: one that was not sent is not sent any more."""
    from kiejobs.producer import KieJobs
    from kiejobs.settings import only

    jobs = KieJobs(only({"KIEJOBS_DATA_DIR": folder}), who="demo")
    job = next(iter(jobs.list(limit=1)), None) if (folder / "kiejobs.db").exists() else None
    if job is not None and job.phase is JobState.QUEUED:
        job = jobs.cancel(job.id)
    if job is None or job.phase is JobState.CANCELED:
        screen.say("\nNothing was bought.", style="bold")
    elif not job.ended:
        _tell_unfinished(screen, folder, job)


def _tell_unfinished(screen: DemoScreen, folder: Path, job: Job) -> None:
    if job.provider_task_id:
        screen.say("\nThe generation is paid for, and not stored yet.", style="bold")
        screen.say(f"Kie's task: {job.provider_task_id}")
    else:
        screen.say("\nThe create call was cut off: nobody knows whether the generation is paid for.", style="bold")
        screen.say(advice_on(JobState.UNCONFIRMED, None, job.id))
    screen.say(f"Job {job.id} is kept in\n  {folder}\nGo on with it, from this folder:")
    screen.say(f"  {_with_the_same_kie()}KIEJOBS_DATA_DIR={short(str(folder))} {render.program()} up")


def _with_the_same_kie() -> str:
    """Return what has to stand before `up` so that it finds the demo's folder, and Kie with the same key."""
    from kiejobs.settings import set_here

    given = set_here(TAKEN, dotenv=False)  # what stands in `.env` is read there again
    again = [f"{name}={'…' if name == 'KIE_API_KEY' else shlex.quote(value)} " for name, value in given.items()]
    return "".join([*again, *(f"{name}= " for name in set_here(_ELSEWHERE))])
