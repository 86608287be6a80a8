"""A slot that moves between two nodes of a cluster, while a counter of its prefix counts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.retry
from redis.backoff import ConstantBackoff
from redis.retry import Retry

import distkit.asyncio
from distkit import NotExecutedError, StrictInstanceAwareCounter
from tests.conftest import REAL
from tests.harness.deployments import HOST, Cluster, slot_of

SLOT = slot_of("p")


class TwoNodes:
    """A cluster of two masters. The prefix's slot moves from the first of `nodes` to the second."""

    def __init__(self) -> None:
        self.cluster = Cluster(REAL[-1], masters=2, replicas=0)
        self.source = self.cluster.owner_of(SLOT)
        self.target = self.cluster.another_master(self.source)

    def begin_moving(self) -> None:
        """The prefix's slot is about to move; no key has yet."""
        self.cluster.begin_moving(SLOT, self.source, self.target)

    def move(self, *names: str) -> None:
        """Move these keys."""
        self.cluster.move_keys(self.source, self.target, names)

    def end_moving(self) -> None:
        """The second node owns the slot."""
        self.cluster.end_moving(SLOT, self.source, self.target)

    def names(self) -> list[str]:
        return [f"distkit:{{p}}:{name}" for name in ("instances", "keys", "counter:k")]


@pytest.fixture
def nodes() -> Iterator[TwoNodes]:
    nodes = TwoNodes()
    yield nodes
    nodes.cluster.stop()


def _client(nodes: TwoNodes, retries: int = 20) -> Any:
    retry = Retry(ConstantBackoff(0.05), retries)
    return redis.RedisCluster(host=HOST, port=nodes.source.port, retry=retry)


def _async_client(nodes: TwoNodes, retries: int = 20) -> Any:
    retry = redis.asyncio.retry.Retry(ConstantBackoff(0.05), retries)
    return redis.asyncio.RedisCluster(host=HOST, port=nodes.source.port, retry=retry)


def test_a_counter_goes_with_its_slot(nodes: TwoNodes) -> None:
    """Before: here. All keys have moved: ASK. Owned by the other node: MOVED."""
    counter = StrictInstanceAwareCounter(_client(nodes), "p")
    assert counter.inc("k") == (1, 1)
    nodes.begin_moving()
    assert counter.inc("k") == (2, 2)
    nodes.move(*nodes.names())
    assert counter.inc("k") == (3, 3)
    nodes.end_moving()
    assert counter.inc("k") == (4, 4)
    assert nodes.target.client().exists("distkit:{p}:counter:k") == 1


def test_an_asyncio_counter_goes_with_its_slot(nodes: TwoNodes) -> None:
    async def main() -> None:
        client = _async_client(nodes)
        counter = distkit.asyncio.StrictInstanceAwareCounter(client, "p")
        assert await counter.inc("k") == (1, 1)
        nodes.begin_moving()
        nodes.move(*nodes.names())
        assert await counter.inc("k") == (2, 2)
        nodes.end_moving()
        assert await counter.inc("k") == (3, 3)
        await client.aclose()

    asyncio.run(asyncio.wait_for(main(), 60))


def _finish_soon(nodes: TwoNodes) -> threading.Timer:
    def finish() -> None:
        nodes.move(*nodes.names()[1:])
        nodes.end_moving()

    timer = threading.Timer(0.5, finish)
    timer.start()
    return timer


def test_keys_on_both_nodes_are_waited_for(nodes: TwoNodes) -> None:
    """TRYAGAIN, for longer than redis-py follows redirections."""
    counter = StrictInstanceAwareCounter(_client(nodes), "p")
    assert counter.inc("k") == (1, 1)
    nodes.begin_moving()
    nodes.move(nodes.names()[0])
    timer = _finish_soon(nodes)
    assert counter.inc("k") == (2, 2)
    timer.join()


def test_an_asyncio_counter_waits_for_them_too(nodes: TwoNodes) -> None:
    async def main() -> None:
        client = _async_client(nodes)
        counter = distkit.asyncio.StrictInstanceAwareCounter(client, "p")
        assert await counter.inc("k") == (1, 1)
        nodes.begin_moving()
        nodes.move(nodes.names()[0])
        timer = _finish_soon(nodes)
        assert await counter.inc("k") == (2, 2)
        timer.join()
        await client.aclose()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_move_that_takes_too_long_executes_nothing(nodes: TwoNodes) -> None:
    """R12: the caller is told so, and it is so."""
    counter = StrictInstanceAwareCounter(_client(nodes, retries=1), "p")
    assert counter.inc("k") == (1, 1)
    nodes.begin_moving()
    nodes.move(nodes.names()[0])
    with pytest.raises(NotExecutedError):
        counter.inc("k", 100)
    nodes.move(*nodes.names()[1:])
    nodes.end_moving()
    assert counter.inc("k") == (2, 2)


def test_a_node_that_refuses_connections_executed_nothing(nodes: TwoNodes) -> None:
    counter = StrictInstanceAwareCounter(_client(nodes, retries=1), "p")
    nodes.source.stop()
    with pytest.raises(NotExecutedError):
        counter.inc("k")
