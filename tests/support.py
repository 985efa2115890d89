"""What tests share: saying what a machine lacks."""

import os
import socket

import pytest


def missing(what: str) -> None:
    """Skip by name; with REQUIRE_SERVICES=1 (continuous integration) such a skip is a failure."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"this machine must have it: {what}", pytrace=False)
    pytest.skip(f"no {what}")


def answers(port: int) -> bool:
    """Say whether something listens on a local port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def postgresql_answers() -> bool:
    return answers(5432)


def rabbitmq_answers() -> bool:
    return answers(5672)


STANDS_IN = [pytest.mark.long] if postgresql_answers() else []
"""Marks of what does on SQLite once more what the same test does on PostgreSQL with real processes, for minutes."""

REAL_DATABASES = [pytest.param("sqlite", marks=STANDS_IN), "postgresql"]
