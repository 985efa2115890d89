"""The guard against kombu's fault: there as long as it is needed, and not longer."""

from types import SimpleNamespace

import kombu
import pytest
from kombu.transport import redis as transport
from redis.exceptions import ConnectionError as RedisConnectionError

from workers import broker_guard

ORIGINAL = transport.Channel._connparams


@pytest.fixture
def unguarded(monkeypatch):
    """kombu's own method, whatever was imported before."""
    own = getattr(ORIGINAL, "original", ORIGINAL)
    monkeypatch.setattr(transport.Channel, "_connparams", own)


def _closed_channel():
    channel = transport.Channel.__new__(transport.Channel)
    channel.connection = SimpleNamespace(client=None)
    channel._closed = True
    return channel


def test_this_kombu_still_has_the_fault(unguarded):
    """Fails with the first kombu that raises a connection error by itself: then workers/broker_guard.py can go."""
    low, high = broker_guard.NEEDED_BY
    assert low <= kombu.VERSION[:2] < high, "another kombu: see whether it needs the guard, and set NEEDED_BY"
    with pytest.raises(AttributeError):
        _closed_channel()._connparams()


def test_with_the_guard_a_closed_transport_is_a_connection_error(unguarded):
    """The worker reconnects on this one."""
    assert broker_guard.install()
    with pytest.raises(RedisConnectionError):
        _closed_channel()._connparams()


def test_installing_twice_guards_once(unguarded):
    """The app may be imported more than once."""
    broker_guard.install()
    first = transport.Channel._connparams
    broker_guard.install()
    assert transport.Channel._connparams is first


def test_a_newer_kombu_is_left_alone(unguarded, monkeypatch):
    """Outside the versions that need it nothing is touched."""
    monkeypatch.setattr(broker_guard, "NEEDED_BY", ((4, 0), (4, 1)))
    monkeypatch.setattr(kombu, "VERSION", (5, 9, 0))
    before = transport.Channel._connparams
    assert broker_guard.install() is False
    assert transport.Channel._connparams is before
