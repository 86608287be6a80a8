"""Clients of a deployment, as programs make them: with timeouts and a retry policy."""

from __future__ import annotations

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
    """Which master clients of Sentinel take, in a split brain: `port`, or what Sentinel says."""

    def __init__(self) -> None:
        self.port: int | None = None


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
        return package.RedisCluster(startup_nodes=nodes, **options)
    if address["kind"] == "sentinel":
        kind = _steered_async(steering) if is_async else _steered(steering)
        sentinels = [(HOST, port) for port in address["ports"]]
        asked = {"socket_timeout": TIMEOUT_S}
        return kind(sentinels, sentinel_kwargs=asked).master_for(MASTER_NAME, **options)
    return package.Redis(host=HOST, port=address["ports"][0], **options)


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
