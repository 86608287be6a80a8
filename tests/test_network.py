"""R11 through a real network that fails: nothing is lost, and nothing counts twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from distkit import OutcomeUnknownError, StrictInstanceAwareCounter
from tests.proxy import Faults, FaultyProxy
from tests.servers import RedisServer

CALLS = 1_000


@contextmanager
def through(
    server: RedisServer, faults: Faults, seed: int = 20
) -> Iterator[tuple[FaultyProxy, redis.Redis]]:
    """A client with redis-py's own default retries, behind a proxy."""
    with FaultyProxy(server.port, faults, seed) as proxy, redis.Redis(port=proxy.port) as client:
        yield proxy, client
        client.close()


def test_the_proxy_makes_a_plain_incr_count_too_much(real_server: RedisServer) -> None:
    """What this is all about: redis-py sends again what had been executed."""
    faults = Faults(drop_replies=0.05, commands=frozenset({b"INCRBY"}))
    with through(real_server, faults) as (proxy, client):
        client.set_retry(Retry(NoBackoff(), 10))
        for _ in range(CALLS):
            client.incrby("plain")
    assert proxy.dropped_replies > 20
    assert real_server.client().get("plain") == b"%d" % (CALLS + proxy.dropped_replies)


def test_1000_inc_are_1000_when_replies_are_dropped(real_server: RedisServer) -> None:
    with through(real_server, Faults(drop_replies=0.05)) as (proxy, client):
        counter = StrictInstanceAwareCounter(client, "p")
        answers = [counter.inc("k") for _ in range(CALLS)]
    assert answers == [(n, n) for n in range(1, CALLS + 1)], "each its own exact reply"
    assert proxy.dropped_replies > 20


def test_1000_inc_are_1000_when_all_goes_wrong(real_server: RedisServer) -> None:
    """Replies and requests dropped, and copies that arrive after the retry, and after the call."""
    faults = Faults(drop_replies=0.05, drop_requests=0.05, copies=0.2)
    with through(real_server, faults) as (proxy, client):
        counter = StrictInstanceAwareCounter(client, "p")
        answers = [counter.inc("k") for _ in range(CALLS)]
        proxy.drain()
        assert counter.get("k") == (CALLS, CALLS)
    assert answers == [(n, n) for n in range(1, CALLS + 1)]
    assert min(proxy.dropped_replies, proxy.dropped_requests, proxy.late_copies) > 20


def test_several_instances_and_threads_through_a_bad_network(real_server: RedisServer) -> None:
    """Four instances of four threads each; the total is what all of them did."""
    faults = Faults(drop_replies=0.03, drop_requests=0.03, copies=0.1)
    with through(real_server, faults) as (proxy, client):
        client.set_retry(Retry(NoBackoff(), 10))
        counters = [StrictInstanceAwareCounter(client, "p") for _ in range(4)]

        def work(counter: StrictInstanceAwareCounter) -> None:
            for _ in range(25):
                counter.inc("k", 3)
                counter.dec("k")

        threads = [threading.Thread(target=work, args=(c,)) for c in counters for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        proxy.drain()
        assert [counter.get("k") for counter in counters] == [(800, 200)] * 4


def test_a_call_whose_every_reply_is_lost_is_unknown_and_the_next_one_works(
    real_server: RedisServer,
) -> None:
    """R12, with redis-py's errors below it."""
    with through(real_server, Faults()) as (proxy, client):
        client.set_retry(Retry(NoBackoff(), 2))
        counter = StrictInstanceAwareCounter(client, "p")
        counter.inc("k")
        proxy.faults = Faults(drop_replies=1.0)
        with pytest.raises(OutcomeUnknownError) as caught:
            counter.inc("k")
        assert isinstance(caught.value.__cause__, redis.exceptions.ConnectionError)
        proxy.faults = Faults()
        assert counter.inc("k") == (3, 3), "it had been executed, once"


def test_a_timeout_is_unknown_and_the_next_call_works(real_server: RedisServer) -> None:
    admin = real_server.client()
    client = real_server.client(socket_timeout=0.1, retry=Retry(NoBackoff(), 0))
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc("k")
    admin.client_pause(400)
    with pytest.raises(OutcomeUnknownError):
        counter.inc("k")
    admin.client_unpause()
    total, own = counter.get("k")
    assert total == own
    assert own in (1, 2)
    assert counter.inc("k") == (own + 1, own + 1)


def test_an_interrupt_between_send_and_reply_harms_nobody(
    real_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ctrl-C leaves no reply behind in the connection for somebody else's request."""
    client = real_server.client()
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc("k")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(redis.UnixDomainSocketConnection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            counter.inc("k")
    assert client.get("nothing") is None
    assert counter.inc("k") in [(2, 2), (3, 3)]
