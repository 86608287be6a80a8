"""How a request gets to Redis and back: redis-py's connections and retries, our bookkeeping.

The one thing that this file adds to `client.execute_command` is to know whether a request had been
sent before the reply that came: R12 depends on it. So it takes a connection from the client's own
pool and runs the client's own retry policy around one transmission. The same bytes are sent again,
which the session's numbers make safe (R11).

`transport_asyncio.py` is the same for `redis.asyncio`; what both need is in the first half here.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, Protocol

import redis
from redis.client import Pipeline
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    NoScriptError,
    RedisClusterException,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from distkit.core.instance import Reply, Request
from distkit.errors import InvalidKeyError
from distkit.keys import checked_int

Clock = Callable[[], int]

UNREACHABLE = (RedisConnectionError, RedisTimeoutError, OSError)

NOT_NOW = (RedisClusterException, ClusterDownError)
"""A cluster's errors that are as lasting as a lost connection, and to be tried again like one."""


class Abandoned(Exception):
    """No reply can be had: the client's retries are used up. `__cause__` is the last error."""


class Script:
    """The Lua script: sent by its hash, and whole where the server does not know it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def by_hash(self, request: Request, wall_ms: int | None) -> tuple[Any, ...]:
        """The command. From a server that answers NoScriptError, which executed nothing, another
        reply is to be had with `whole`."""
        keys = request.keys
        return ("EVALSHA", self.sha, len(keys), *keys, *request.args(wall_ms))

    def whole(self, command: tuple[Any, ...]) -> tuple[Any, ...]:
        """The same with the script's text in it."""
        return ("EVAL", self.text, *command[2:])


COUNTER = Script((resources.files("distkit.redis") / "counter.lua").read_text("utf-8"))


class Wall:
    """R3's wall clock: the server's own, or a test's."""

    def __init__(self, clock_ms: Clock | None) -> None:
        if clock_ms is not None and not callable(clock_ms):
            raise TypeError(f"clock_ms must be callable, not {type(clock_ms).__name__}")
        self._clock_ms = clock_ms

    def read(self) -> int | None:
        if self._clock_ms is None:
            return None
        return checked_int(self._clock_ms(), "clock_ms()")


def judged(error: Exception, request: Request) -> Exception:
    """The error that ended the sending as what it means.

    A refusal (an error reply, a wrong password) is the caller's to see, and nothing was executed;
    unless it met a retry, for the copy before that may have been.
    """
    refusal = isinstance(error, AuthenticationError | ResponseError)
    if refusal and not request.resent:
        return prefix_in_other_use(request.keys[:2]) if "WRONGTYPE" in str(error) else error
    abandoned = Abandoned()
    abandoned.__cause__ = error
    return abandoned


JUDGED = (*UNREACHABLE, ResponseError)
"""The errors that end a sending; any other is the caller's (an interrupt, a broken clock)."""


def prefix_in_other_use(own: Sequence[bytes]) -> InvalidKeyError:
    """R1's error where something else stands in place of the keys that every prefix has."""
    instances, keys = (name.decode() for name in own)
    return InvalidKeyError(
        f"this prefix cannot be used: the Redis keys {instances!r} (a hash) and {keys!r} (a set) "
        f"are its own, and one of them holds something else"
    )


# --- For redis.Redis and redis.RedisCluster ------------------------------------------------------


class Transport(Protocol):
    """Sends one request until it is answered or the client's retry policy gives up."""

    def send(self, request: Request) -> Reply:
        """Raises Abandoned without a reply, InvalidKeyError if the prefix is in other use, and what
        the server refuses with."""
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
        self._script = script

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
            # A reply may still be on its way: it must not become the next request's.
            connection.disconnect()
            raise
        return reply

    def _once(self, connection: Any, request: Request) -> Reply:
        request.resent = request.arrived
        connection.connect()
        command = self._script.by_hash(request, self._wall.read())
        request.arrived = True
        try:
            connection.send_command(*command)
            reply: Reply = connection.read_response()
        except NoScriptError:
            connection.send_command(*self._script.whole(command))
            reply = connection.read_response()
        return reply


class ClusterTransport:
    """For `redis.RedisCluster`: the prefix is one slot, so that its node runs the whole request.

    With the target node named, redis-py follows redirections and leaves the retrying to us.
    """

    def __init__(self, client: redis.RedisCluster, wall: Wall, script: Script) -> None:
        self._client: Any = client
        self._wall = wall
        self._script = script

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
        command = self._script.by_hash(request, self._wall.read())
        try:
            node = client.get_node_from_key(request.keys[0])
            if node is None:
                raise RedisConnectionError("no node of the cluster serves this prefix")
            request.arrived = True
            try:
                reply: Reply = client.execute_command(*command, target_nodes=node)
            except NoScriptError:
                reply = client.execute_command(*self._script.whole(command), target_nodes=node)
        except NOT_NOW as error:
            raise RedisConnectionError(str(error)) from error
        return reply

    def _rediscover(self) -> None:
        with contextlib.suppress(Exception):  # the next attempt says what is wrong
            self._client.nodes_manager.initialize()
