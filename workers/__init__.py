"""The Celery application: `python -m workers worker|beat`, `celery -A workers flower|inspect`."""

from celery import maybe_patch_concurrency

maybe_patch_concurrency()  # `-P gevent` replaces parts of Python, before anything else has taken them

from workers.app import app  # noqa: E402

__all__ = ["app"]
