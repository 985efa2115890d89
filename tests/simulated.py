"""Calls to a simulated Kie over real HTTP, as short as tests want them."""

from typing import Any

import requests

from kiejobs.simulator import Simulator

KEY = {"Authorization": "Bearer key-1"}


class Calls:
    """One customer of one simulator."""

    def __init__(self, kie: Simulator) -> None:
        """Begin with a simulator that has seen nothing."""
        self.kie = kie
        requests.post(f"{kie.base_url}/simulator/reset", timeout=5).raise_for_status()

    def post(self, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
        """The envelope of one POST, which is always HTTP 200."""
        answer = requests.post(self.kie.base_url + path, json=body, headers=KEY | headers, timeout=5)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """The envelope of one GET, which is always HTTP 200."""
        answer = requests.get(self.kie.base_url + path, params=query, headers=KEY, timeout=5)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def create(self, path: str, body: dict[str, Any]) -> str:
        """The id of a new task."""
        answer = self.post(path, body)
        assert answer["code"] == 200, answer
        return str(answer["data"]["taskId"])

    def make(self, path: str, body: dict[str, Any]) -> str:
        """The id of a task that has just finished."""
        task_id = self.create(path, body)
        self.finish(task_id)
        return task_id

    def finish(self, task_id: str) -> dict[str, Any]:
        """End a task now; its record."""
        answer = requests.post(f"{self.kie.base_url}/simulator/tasks/{task_id}/finish", timeout=5)
        answer.raise_for_status()
        return dict(answer.json())

    def age(self, task_id: str, seconds: float) -> None:
        """Let so much time pass for a task's links."""
        url = f"{self.kie.base_url}/simulator/tasks/{task_id}/age"
        requests.post(url, params={"seconds": seconds}, timeout=5).raise_for_status()

    def entries(self, name: str) -> list[dict[str, Any]]:
        """One list of the ledger."""
        found = self.kie.ledger()[name]
        assert isinstance(found, list)
        return found

    def balance(self) -> float:
        """What is left on the account."""
        return float(self.get("/api/v1/chat/credit")["data"])


def download(url: str) -> requests.Response:
    """One look at a link, without a key."""
    return requests.get(url, timeout=5)
