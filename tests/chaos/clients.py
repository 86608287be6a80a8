"""Clients of a deployment, as programs make them: with timeouts and a retry policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.retry
import redis.sentinel
from redis.backoff import ConstantBackoff

from tests.harness.deployments import HOST, MASTER_NAME, Address

TIMEOUT_S: Final = 0.5
RETRIES: Final = 4
PAUSE_S: Final = 0.05
"""A call gives up after at most RETRIES + 1 attempts of TIMEOUT_S, with pauses between them."""


class Steering:
    """Which of two masters clients take, in a split brain.

    Attributes:
        port: of the master; None if they take what Sentinel, or the cluster, says.
        among: the ports of both.
        nodes: of a cluster, by port.
    """

    def __init__(self) -> None:
        self.port: int | None = None
        self.among: Sequence[int] = ()
        self.nodes: dict[int, Any] = {}

    def steer(self, port: int | None, among: Sequence[int] = ()) -> None:
        self.among, self.port = among, port


def client_of(address: Address, steering: Steering, *, is_async: bool = False) -> Any:
    """A client of the deployment at this address."""
    package: Any = redis.asyncio if is_async else redis
    retry: Any = redis.asyncio.retry.Retry if is_async else redis.retry.Retry
    options: dict[str, Any] = {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "retry": retry(ConstantBackoff(PAUSE_S), RETRIES),
    }
    if address["kind"] == "cluster":
        nodes = [package.cluster.ClusterNode(HOST, port) for port in address["ports"]]
        return _steered_cluster(package.RedisCluster, steering)(startup_nodes=nodes, **options)
    if address["kind"] == "sentinel":
        kind = _steered_async(steering) if is_async else _steered(steering)
        sentinels = [(HOST, port) for port in address["ports"]]
        asked = {"socket_timeout": TIMEOUT_S}
        return kind(sentinels, sentinel_kwargs=asked).master_for(MASTER_NAME, **options)
    return package.Redis(host=HOST, port=address["ports"][0], **options)


def _steered_cluster(kind: Any, steering: Steering) -> Any:
    class Steered(kind):  # type: ignore[misc]
        def get_node_from_key(self, key: Any, replica: bool = False) -> Any:
            node = super().get_node_from_key(key, replica)
            port = steering.port
            if port is None or node is None or node.port not in steering.among:
                return node
            if port not in steering.nodes:  # the cluster's table may not have it
                steering.nodes[port] = _node_at(port, node)
            return steering.nodes[port]

    return Steered


def _node_at(port: int, like: Any) -> Any:
    """Another node, with the same settings."""
    settings = {**getattr(like, "connection_kwargs", {})}  # of the asyncio client's nodes
    for place in ("host", "port"):
        settings.pop(place, None)
    return type(like)(HOST, port, **settings)


def _steered(steering: Steering) -> Any:
    class Steered(redis.sentinel.Sentinel):
        def discover_master(self, service_name: str) -> Any:
            found: Any = super().discover_master
            return (HOST, steering.port) if steering.port else found(service_name)

    return Steered


def _steered_async(steering: Steering) -> Any:
    class Steered(redis.asyncio.sentinel.Sentinel):
        async def discover_master(self, service_name: str) -> Any:
            found: Any = super().discover_master
            return (HOST, steering.port) if steering.port else await found(service_name)

    return Steered
