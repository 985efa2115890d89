"""What child processes are given: the environment they inherit, and where the code lies that they run.

Settings are read by `kiejobs.settings` alone; this module only hands names on, or takes them away so that the demo
never meets a key that happens to be set.
"""

import os
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import kiejobs
from kiejobs.errors import SettingsError

_OURS = ("KIE_", "KIEJOBS_", "AWS_", "OTEL_")
_BROKERS = ("auto", "redis", "fakeredis")


def inherited() -> dict[str, str]:
    """Return the environment as it is."""
    return dict(os.environ)  # noqa: TID251 - handed on to children, not read


def without_settings() -> dict[str, str]:
    """Return the environment without every name, in whatever case, that could hold a key or lead to somebody's data."""
    return {name: value for name, value in inherited().items() if not name.upper().startswith(_OURS)}


def embedded_broker() -> str:
    """Return KIEJOBS_EMBEDDED_BROKER, the one name that the demo keeps. SettingsError for a word it does not know."""
    chosen = inherited().get("KIEJOBS_EMBEDDED_BROKER") or "auto"
    if chosen not in _BROKERS:
        raise SettingsError(
            f"KIEJOBS_EMBEDDED_BROKER is {chosen!r}", remedy=f"Set it to one of {', '.join(_BROKERS)}, or unset it."
        )
    return chosen


def checkout() -> Path:
    """Return the folder that holds `workers/` beside the package; SettingsError where only the package is installed."""
    folder = Path(kiejobs.__file__).resolve().parent.parent
    if not (folder / "workers").is_dir():
        raise SettingsError(
            "the workers are not part of the installed package",
            remedy="Run this from a checkout of the project (it holds workers/, celeryconfig.py and flowerconfig.py).",
        )
    return folder


def with_checkout(environment: dict[str, str]) -> dict[str, str]:
    """Return an environment in which `python -m workers` finds its code from any folder."""
    path = [str(checkout()), *filter(None, [environment.get("PYTHONPATH")])]
    return environment | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


_EXTRAS = {"obstore": "workers", "flower": "workers", "fakeredis": "embedded"}
_EXTRAS |= {"fastapi": "gateway", "jinja2": "gateway", "prometheus_client": "gateway", "uvicorn": "gateway"}
"""Module → the extra that installs it."""


def require(modules: Iterable[str]) -> None:
    """SettingsError, before anything is started, where a program would miss one of these modules."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        extras = ",".join(sorted({_EXTRAS[module] for module in missing}))
        raise SettingsError(
            f"{', '.join(missing)} cannot be found here",
            remedy=f'Install what is missing: pip install "kiejobs[{extras}]"',
        )
