"""A slot that moves between two nodes of a cluster, while a counter of its prefix counts."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.retry
from redis.backoff import ConstantBackoff
from redis.crc import key_slot
from redis.retry import Retry

import distkit.asyncio
from distkit import NotExecutedError, StrictInstanceAwareCounter
from tests.conftest import REAL
from tests.harness.servers import RedisServer

SLOT = key_slot(b"distkit:{p}:keys")
HOST = "127.0.0.1"


class TwoNodes:
    """A cluster of two nodes; the first owns every slot."""

    def __init__(self, servers: list[RedisServer]) -> None:
        self.servers = servers
        self.nodes: list[Any] = [server.client() for server in servers]
        first = self.nodes[0]
        first.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        first.execute_command("CLUSTER", "MEET", HOST, servers[1].port)
        self.ids = [
            node.execute_command("CLUSTER", "MYID", NEVER_DECODE=True) for node in self.nodes
        ]
        for node in self.nodes:
            while (
                b"cluster_state:ok"
                not in node.execute_command("CLUSTER", "INFO", NEVER_DECODE=True)
                or b"cluster_known_nodes:2"
                not in node.execute_command("CLUSTER", "INFO", NEVER_DECODE=True)
                or b"handshake" in node.execute_command("CLUSTER", "NODES", NEVER_DECODE=True)
            ):
                time.sleep(0.02)

    def begin_moving(self) -> None:
        """The prefix's slot is about to move; no key has yet."""
        first, second = self.nodes
        second.execute_command("CLUSTER", "SETSLOT", SLOT, "IMPORTING", self.ids[0])
        first.execute_command("CLUSTER", "SETSLOT", SLOT, "MIGRATING", self.ids[1])

    def move(self, *names: str) -> None:
        """Move these keys."""
        to = (HOST, self.servers[1].port, "", 0, 5000, "KEYS", *names)
        self.nodes[0].execute_command("MIGRATE", *to)

    def end_moving(self) -> None:
        """The second node owns the slot."""
        for node in reversed(self.nodes):
            node.execute_command("CLUSTER", "SETSLOT", SLOT, "NODE", self.ids[1])

    def names(self) -> list[str]:
        return [f"distkit:{{p}}:{name}" for name in ("instances", "keys", "counter:k")]


@pytest.fixture
def nodes() -> Iterator[TwoNodes]:
    servers = [RedisServer(REAL[-1], "--cluster-enabled", "yes", tcp=True) for _ in range(2)]
    yield TwoNodes(servers)
    for server in servers:
        server.stop()


def _client(nodes: TwoNodes, retries: int = 20) -> Any:
    retry = Retry(ConstantBackoff(0.05), retries)
    return redis.RedisCluster(host=HOST, port=nodes.servers[0].port, retry=retry)


def _async_client(nodes: TwoNodes, retries: int = 20) -> Any:
    retry = redis.asyncio.retry.Retry(ConstantBackoff(0.05), retries)
    return redis.asyncio.RedisCluster(host=HOST, port=nodes.servers[0].port, retry=retry)


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
    assert nodes.nodes[1].exists("distkit:{p}:counter:k") == 1


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
    nodes.servers[0].stop()
    with pytest.raises(NotExecutedError):
        counter.inc("k")
