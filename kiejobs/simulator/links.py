"""Links: which addresses on the files host lead to a file, for how long, and how one that died is made good again.

A result link lives as long as the simulator was told, a short-lived one as long as its family says; a link from
download-url carries a sealed token and works for 20 minutes. Uploads live for three days.
Source: docs.kie.ai/common-api/download-url.md, docs.kie.ai/file-upload-api/quickstart.md.
"""

import hashlib
import hmac
import secrets
import time
from urllib.parse import unquote

from kiejobs.simulator.tasks import Task, Tasks
from kiejobs.simulator.uploads import Uploads

LINK_LIFE_S = 20 * 60
"""How long a link from download-url works."""


class Links:
    """Every address the files host may be asked for."""

    def __init__(self, tasks: Tasks, uploads: Uploads, file_ttl_s: float) -> None:
        """`files_url` is set once the port is known."""
        self.files_url = ""
        self._tasks = tasks
        self._uploads = uploads
        self._file_ttl_s = file_ttl_s
        self._secret = secrets.token_bytes(32)

    def of(self, task: Task) -> tuple[str, ...]:
        """Where a task's result files are, by index."""
        return tuple(f"{self.files_url}{path}" for path in _paths(task))

    def task_of(self, path: str) -> Task | None:
        """The task whose result file is at `/f/<taskId>/<n>.<ext>`, if the file is there."""
        task = self._tasks.get(path.removeprefix("/f/").partition("/")[0])
        return task if task is not None and _has_files(task) and path in _paths(task) else None

    def are_gone(self, task: Task) -> bool:
        """Whether a task's files are past their time."""
        return task.settled_s is not None and time.monotonic() - task.settled_s >= self._file_ttl_s

    def is_open(self, task: Task, path: str, token: str | None) -> bool:
        """Whether this link still works."""
        short_s = task.order.family.short_lived.get(int(path.rpartition("/")[2].partition(".")[0]))
        if short_s is not None and time.monotonic() - (task.settled_s or 0) >= short_s:
            return False
        if token is not None:
            return self._admits(path, token)
        if task.scenario.expired_link and not task.link_refreshed:
            return False
        return not self.are_gone(task)

    def fresh(self, url: str, task: Task | None = None) -> str | None:
        """A link to the same file that works for 20 minutes, or None if `url` is not one of ours (or not of `task`)."""
        path, _, _ = url.removeprefix(self.files_url).partition("?")
        found = self.task_of(path) if url.startswith(f"{self.files_url}/f/") else None
        if found is None or task not in (None, found):
            return None
        found.link_refreshed = True
        expires = str(int(time.time()) + LINK_LIFE_S)
        return f"{self.files_url}{path}?token={expires}.{self._seal(path, expires)}"

    def leads_to_a_file(self, url: str) -> bool:
        """Whether Kie could fetch its own file from there."""
        path, _, query = url.removeprefix(self.files_url).partition("?")
        if self._uploads.get(unquote(path)) is not None:
            return True
        task = self.task_of(path)
        if task is None or task.scenario.dead_link:
            return False
        return self.is_open(task, path, query.removeprefix("token=") or None)

    def _admits(self, path: str, token: str) -> bool:
        """Whether a token is one of ours for this path, and still good."""
        expires, _, seal = token.partition(".")
        genuine = hmac.compare_digest(seal.encode(), self._seal(path, expires).encode())
        return genuine and int(expires) > time.time()

    def _seal(self, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{path}.{expires}".encode(), hashlib.sha256).hexdigest()


def _has_files(task: Task) -> bool:
    """A task that ended well; one that comes in stages gives its files away before, to be listened to."""
    return task.made or (bool(task.order.family.stages) and not task.failed)


def _paths(task: Task) -> tuple[str, ...]:
    return tuple(f"/f/{task.id}/{index}.{kind}" for index, kind in enumerate(task.files))
