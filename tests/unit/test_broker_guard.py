"""The guards against kombu's faults: there as long as they are needed, and not longer."""

from queue import Empty
from types import SimpleNamespace

import kombu
import pytest
from kombu.transport import redis as transport
from redis.exceptions import ConnectionError as RedisConnectionError

from workers import broker_guard

GUARDED = ("_connparams", "_brpop_read")
ORIGINALS = {name: getattr(transport.Channel, name) for name in GUARDED}
NO_MESSAGES = [b"a prompt", b'{"prompt": "a prompt"}', b"[]", b"5", b"null", b"\xff"]


@pytest.fixture
def unguarded(monkeypatch):
    """kombu's own method, whatever was imported before."""
    for name, found in ORIGINALS.items():
        monkeypatch.setattr(transport.Channel, name, getattr(found, "original", found))


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


@pytest.fixture(params=NO_MESSAGES)
def reading(request, unguarded):
    """A channel to which Redis gives what is no message."""
    channel = transport.Channel.__new__(transport.Channel)
    channel._closed, channel._queue_cycle = True, SimpleNamespace(rotate=lambda queue: None)
    channel.connection_errors = (RedisConnectionError,)
    given = SimpleNamespace(connection=None, parse_response=lambda *_, **__: (b"submit", request.param))
    channel.client = given
    channel.connection = SimpleNamespace(_deliver=lambda message, queue: transport.Channel.Message(message, channel))
    return channel


def test_this_kombu_still_dies_of_what_is_no_message(reading):
    """Fails with the first kombu that gets over it by itself."""
    with pytest.raises((ValueError, TypeError, LookupError)):
        reading._brpop_read()


def test_with_the_guard_what_is_no_message_is_dropped_unshown(reading, caplog):
    """The transport goes on to the next one."""
    assert broker_guard.install()
    with pytest.raises(Empty):
        reading._brpop_read()
    assert "dropped" in caplog.text
    assert "prompt" not in caplog.text


def test_installing_twice_guards_once(unguarded):
    """The app may be imported more than once."""
    broker_guard.install()
    first = [getattr(transport.Channel, name) for name in GUARDED]
    broker_guard.install()
    assert [getattr(transport.Channel, name) for name in GUARDED] == first


def test_a_newer_kombu_is_left_alone(unguarded, monkeypatch):
    """Outside the versions that need it nothing is touched."""
    monkeypatch.setattr(broker_guard, "NEEDED_BY", ((4, 0), (4, 1)))
    monkeypatch.setattr(kombu, "VERSION", (5, 9, 0))
    before = transport.Channel._connparams
    assert broker_guard.install() is False
    assert transport.Channel._connparams is before
