"""The textbook implementation that `benchmarks.cost` measures kiejobs beside: what a competent team writes first.

Three tasks and Redis as broker and result backend: create, look again with `self.retry(countdown=…)`, copy with requests
and boto3. Kept connections, timeouts on every call, bodies streamed, network errors and refusals retried, and the ladder
that kiejobs has, so that both look equally often. Who feeds it keeps within Kie's limit: Celery's own `rate_limit` let one
create pass per second where twenty were allowed, which would have been no fair match. It keeps no ledger.
"""

import json
import os
import time
from typing import Any

import boto3
import requests
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from celery import Celery, Task

KIE, BUCKET = os.environ.get("TEXTBOOK_KIE", ""), os.environ.get("TEXTBOOK_BUCKET", "")
REDIS = os.environ.get("TEXTBOOK_REDIS", "redis://127.0.0.1:6379/0")
TIMEOUT_S = 30
GIVE_UP_S = 600

app = Celery("textbook", broker=REDIS, backend=REDIS)
app.conf.update(
    task_acks_late=os.environ.get("TEXTBOOK_ACKS_LATE") == "1",
    worker_send_task_events=True,  # for Flower
    broker_connection_retry_on_startup=True,
)

session = requests.Session()
KEY = {"Authorization": "Bearer key-of-the-textbook"}
session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=32))
bucket = boto3.client(
    "s3",
    endpoint_url=os.environ.get("AWS_ENDPOINT_URL"),
    config=Config(max_pool_connections=32),
    region_name="us-east-1",
)


class Refused(Exception):
    """Kie answered with another code than 200."""


def call(method: str, path: str, **given: Any) -> Any:
    """Call Kie and return the answer's data."""
    response = session.request(method, f"{KIE}{path}", timeout=TIMEOUT_S, headers=KEY, **given)
    response.raise_for_status()
    answer = response.json()
    if answer["code"] != 200:
        raise Refused(f"{answer['code']}: {answer['msg']}")
    return answer["data"]


@app.task(bind=True, max_retries=5)
def submit(self: Task, model: str, given: dict[str, Any]) -> str:
    """Create the task at Kie."""
    try:
        created = call("POST", "/api/v1/jobs/createTask", json={"model": model, "input": given})
    except (requests.RequestException, Refused) as error:
        raise self.retry(exc=error, countdown=5) from None
    look.apply_async((created["taskId"], time.time()), countdown=2)
    return str(created["taskId"])


@app.task(bind=True, max_retries=None)
def look(self: Task, task_id: str, accepted_at: float) -> str:
    """Look at the record until it has ended."""
    elapsed_s = time.time() - accepted_at
    wait_s = 2 if elapsed_s < 30 else 5 if elapsed_s < 120 else 15
    try:
        record = call("GET", "/api/v1/jobs/recordInfo", params={"taskId": task_id})
    except (requests.RequestException, Refused) as error:
        raise self.retry(exc=error, countdown=wait_s) from None
    if record["state"] == "success":
        for index, url in enumerate(json.loads(record["resultJson"])["resultUrls"]):
            copy.delay(task_id, index, url)
        return "success"
    if record["state"] == "fail":
        raise Refused(f"{record['failCode']}: {record['failMsg']}")
    if elapsed_s > GIVE_UP_S:
        raise TimeoutError(task_id)
    raise self.retry(countdown=wait_s)


@app.task(
    autoretry_for=(requests.RequestException, BotoCoreError, ClientError),
    retry_backoff=5,
    retry_kwargs={"max_retries": 8},
)
def copy(task_id: str, index: int, url: str) -> str:
    """Copy one file into the bucket."""
    key = f"{task_id}/{index}{os.path.splitext(url)[1]}"  # noqa: PTH122 - the address of a file, no path
    with session.get(url, stream=True, timeout=TIMEOUT_S) as response:
        response.raise_for_status()
        media = {"ContentType": response.headers["Content-Type"]}
        bucket.upload_fileobj(response.raw, BUCKET, key, ExtraArgs=media, Config=TransferConfig(use_threads=False))
    return key
