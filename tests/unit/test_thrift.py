"""What a worker does once instead of at every look changes nothing that can be seen."""

import gc

import pytest
import redis
from kombu.transport import redis as transport

from workers import thrift


@pytest.fixture
def collector():
    """Python's collector, put back afterwards."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_a_channel_makes_one_client_for_its_pool_and_another_for_another():
    """A reconnected channel has a new pool; its old client must not be used again."""
    thrift.keep_redis_clients()
    thrift.keep_redis_clients()  # the app may be imported more than once
    channel = transport.Channel.__new__(transport.Channel)
    channel.__dict__["Client"] = redis.Redis
    channel._pool = redis.ConnectionPool()
    channel._closed = True
    first = channel._create_client()
    assert channel._create_client() is first
    channel._pool = redis.ConnectionPool()
    second = channel._create_client()
    assert second is not first
    assert second.connection_pool is channel._pool


def test_the_collector_leaves_alone_what_was_there(collector):
    """What is imported is frozen, and collections are rarer."""
    thrift.collect_less()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] == thrift.YOUNG
