"""The transport for `redis.asyncio`.

A cancelled `send` leaves no reply behind in a connection. Its request stays in flight and is sent
again (R11).
"""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

import redis.asyncio
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

from distkit.core.instance import Reply, Request
from distkit.redis.shared import COUNTER, JUDGED, NOT_NOW, Clock, Script, Wall, judged


class Transport(Protocol):
    """Sends one request until it is answered or the client's retry policy gives up."""

    async def send(self, request: Request) -> Reply:
        """As the synchronous transport's `send`."""
        ...


def transport_for(client: object, clock_ms: Clock | None, script: Script = COUNTER) -> Transport:
    """The transport for a client of redis.asyncio; TypeError for anything else."""
    wall = Wall(clock_ms)
    if isinstance(client, redis.asyncio.RedisCluster):
        return ClusterTransport(client, wall, script)
    if isinstance(client, redis.asyncio.Redis) and not isinstance(client, Pipeline):
        return PoolTransport(client, wall, script)
    kind = f"{type(client).__module__}.{type(client).__qualname__}"
    raise TypeError(
        f"client must be a redis.asyncio.Redis or a redis.asyncio.RedisCluster, not {kind}"
    )


class PoolTransport:
    """For `redis.asyncio.Redis`, alone, behind Sentinel, or a fake."""

    def __init__(self, client: Any, wall: Wall, script: Script) -> None:
        self._client = client
        self._wall = wall
        self.script = script

    async def send(self, request: Request) -> Reply:
        client = self._client
        try:
            if client.single_connection_client:
                await client.initialize()
                async with client._single_conn_lock:
                    return await self._on(client.connection, request)
            pool = client.connection_pool
            connection = await pool.get_connection()
            try:
                return await self._on(connection, request)
            finally:
                await pool.release(connection)
        except JUDGED as error:
            raise judged(error, request) from error

    async def _on(self, connection: Any, request: Request) -> Reply:
        # A task is cancelled while it waits: inside redis-py, which then closes the connection.
        reply: Reply = await connection.retry.call_with_retry(
            lambda: self._once(connection, request),
            lambda _: connection.disconnect(),
        )
        return reply

    async def _once(self, connection: Any, request: Request) -> Reply:
        request.resent = request.arrived
        await connection.connect()
        command = self.script.by_hash(request, self._wall.read())
        request.arrived = True
        try:
            await connection.send_command(*command)
            reply: Reply = await connection.read_response()
        except NoScriptError:
            await connection.send_command(*self.script.whole(command))
            reply = await connection.read_response()
        return reply


class ClusterTransport:
    """For `redis.asyncio.RedisCluster`; see the synchronous class."""

    def __init__(self, client: Any, wall: Wall, script: Script) -> None:
        self._client = client
        self._wall = wall
        self.script = script

    async def send(self, request: Request) -> Reply:
        try:
            reply: Reply = await self._client.retry.call_with_retry(
                lambda: self._once(request), lambda _: self._rediscover()
            )
        except JUDGED as error:
            raise judged(error, request) from error
        return reply

    async def _once(self, request: Request) -> Reply:
        client = self._client
        request.resent = request.arrived
        command = self.script.by_hash(request, self._wall.read())
        try:
            await client.initialize()
            node = client.get_node_from_key(request.keys[0])
            if node is None:
                raise RedisConnectionError("no node of the cluster serves this prefix")
            request.arrived = True
            try:
                reply: Reply = await client.execute_command(*command, target_nodes=node)
            except NoScriptError:
                whole = self.script.whole(command)
                reply = await client.execute_command(*whole, target_nodes=node)
        except NOT_NOW as error:
            raise RedisConnectionError(str(error)) from error
        return reply

    async def _rediscover(self) -> None:
        with contextlib.suppress(Exception):  # the next attempt reports what is wrong
            await self._client.nodes_manager.initialize()
