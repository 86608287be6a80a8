"""The transport for `redis.Redis` and `redis.RedisCluster`."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

import redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from distkit.core.instance import Reply, Request
from distkit.redis.shared import COUNTER, JUDGED, NOT_NOW, Clock, Script, Wall, judged


class Transport(Protocol):
    """Sends one request until it is answered or the client's retry policy gives up."""

    def send(self, request: Request) -> Reply:
        """Return the reply.

        Raises:
            Abandoned: no reply came.
            InvalidKeyError: a key of the prefix holds something else.
            redis.exceptions.ResponseError: the server refused the request.
        """
        ...


def transport_for(client: object, clock_ms: Clock | None, script: Script = COUNTER) -> Transport:
    """The transport for a redis-py client; TypeError for anything else."""
    wall = Wall(clock_ms)
    if isinstance(client, redis.RedisCluster):
        return ClusterTransport(client, wall, script)
    if isinstance(client, redis.Redis) and not isinstance(client, Pipeline):
        return PoolTransport(client, wall, script)
    kind = f"{type(client).__module__}.{type(client).__qualname__}"
    raise TypeError(f"client must be a redis.Redis or a redis.RedisCluster, not {kind}")


class PoolTransport:
    """For `redis.Redis`, alone, behind Sentinel, or a fake."""

    def __init__(self, client: redis.Redis, wall: Wall, script: Script) -> None:
        self._client: Any = client
        self._wall = wall
        self.script = script

    def send(self, request: Request) -> Reply:
        try:
            if self._client.connection:  # the client's only one
                with self._client.single_connection_lock:
                    return self._on(self._client.connection, request)
            pool = self._client.connection_pool
            connection = pool.get_connection()
            try:
                return self._on(connection, request)
            finally:
                pool.release(connection)
        except JUDGED as error:
            raise judged(error, request) from error

    def _on(self, connection: Any, request: Request) -> Reply:
        try:
            reply: Reply = connection.retry.call_with_retry(
                lambda: self._once(connection, request),
                lambda _: connection.disconnect(),
            )
        except ResponseError:
            raise
        except BaseException:
            # A reply may still arrive. The next request must not take it for its own.
            connection.disconnect()
            raise
        return reply

    def _once(self, connection: Any, request: Request) -> Reply:
        request.resent = request.arrived
        connection.connect()
        command = self.script.by_hash(request, self._wall.read())
        request.arrived = True
        try:
            connection.send_command(*command)
            reply: Reply = connection.read_response()
        except NoScriptError:
            connection.send_command(*self.script.whole(command))
            reply = connection.read_response()
        return reply


class ClusterTransport:
    """For `redis.RedisCluster`: a prefix is in one slot, so one node runs the whole request.

    With a target node, redis-py follows redirections and leaves retrying to this class.
    """

    def __init__(self, client: redis.RedisCluster, wall: Wall, script: Script) -> None:
        self._client: Any = client
        self._wall = wall
        self.script = script

    def send(self, request: Request) -> Reply:
        try:
            reply: Reply = self._client.retry.call_with_retry(
                lambda: self._once(request), lambda _: self._rediscover()
            )
        except JUDGED as error:
            raise judged(error, request) from error
        return reply

    def _once(self, request: Request) -> Reply:
        client = self._client
        request.resent = request.arrived
        command = self.script.by_hash(request, self._wall.read())
        try:
            node = client.get_node_from_key(request.keys[0])
            if node is None:
                raise RedisConnectionError("no node of the cluster serves this prefix")
            request.arrived = True
            try:
                reply: Reply = client.execute_command(*command, target_nodes=node)
            except NoScriptError:
                reply = client.execute_command(*self.script.whole(command), target_nodes=node)
        except NOT_NOW as error:
            raise RedisConnectionError(str(error)) from error
        return reply

    def _rediscover(self) -> None:
        with contextlib.suppress(Exception):  # the next attempt reports what is wrong
            self._client.nodes_manager.initialize()
