"""kiejobs: paid AI generations through Kie.ai, bought once, watched to the end, every result stored.

The public names, resolved when they are first used: `KieJobs` to enqueue and read, `Job`, `Output`, `JobState` and
`PublicState` for what comes back, `errors` for what can go wrong.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kiejobs import errors as errors
    from kiejobs.jobs import Job as Job
    from kiejobs.jobs import JobState as JobState
    from kiejobs.jobs import Output as Output
    from kiejobs.jobs import PublicState as PublicState
    from kiejobs.producer import KieJobs as KieJobs

__version__ = "0.1.0"
__all__ = ["Job", "JobState", "KieJobs", "Output", "PublicState", "__version__", "errors"]

_HOME = {
    "Job": "kiejobs.jobs",
    "JobState": "kiejobs.jobs",
    "KieJobs": "kiejobs.producer",
    "Output": "kiejobs.jobs",
    "PublicState": "kiejobs.jobs",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("kiejobs.errors")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'kiejobs' has no attribute {name!r}")
