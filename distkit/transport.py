"""How a request gets to Redis and back: redis-py's connections and retries, our bookkeeping.

The one thing that this file adds to `client.execute_command` is to know whether a request had been
sent before the reply that came: R12 depends on it. So it takes a connection from the client's own
pool and runs the client's own retry policy around one transmission. The same bytes are sent again,
which the session's numbers make safe (R11).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
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

from distkit.errors import InvalidKeyError
from distkit.keys import checked_int
from distkit.session import Abandoned, Answer, Request

Clock = Callable[[], int]

UNREACHABLE = (RedisConnectionError, RedisTimeoutError, OSError)


class Script:
    """The Lua script: sent by its hash, and whole where the server does not know it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def run(self, execute: Callable[..., Any], request: Request, wall_ms: int | None) -> Any:
        """Run it through `execute(command, ...)`. A server without the script executed nothing."""
        # Names are UTF-8 in Redis, whatever encoding the client is set to (R1).
        keys = [key.encode() for key in request.keys]
        rest = (len(keys), *keys, *map(_utf8, request.args(wall_ms)))
        try:
            return execute("EVALSHA", self.sha, *rest)
        except NoScriptError:
            return execute("EVAL", self.text, *rest)


def _utf8(word: str | int) -> bytes | int:
    return word.encode() if isinstance(word, str) else word


COUNTER = Script((resources.files("distkit") / "lua" / "counter.lua").read_text("utf-8"))


class Transport(Protocol):
    """Sends one request until it is answered or the client's retry policy gives up."""

    def send(self, request: Request) -> Answer:
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


class Sending:
    """One request on its way: whether a copy of it may have arrived, and before this attempt."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.arrived = False
        self.resent = False

    def attempt(self) -> None:
        self.resent = self.arrived

    def transmit(self) -> None:
        self.arrived = True

    @contextlib.contextmanager
    def judged(self) -> Iterator[None]:
        """Turn the error that ends the sending into what it means.

        A refusal (an error reply, a wrong password) is the caller's to see, and nothing was
        executed; unless it met a retry, for the copy before that may have been.
        """
        try:
            yield
        except (*UNREACHABLE, ResponseError) as error:
            if self.resent or not isinstance(error, AuthenticationError | ResponseError):
                raise Abandoned(self.arrived) from error
            if "WRONGTYPE" in str(error):
                raise prefix_in_other_use(self.request.keys[:2]) from error
            raise


class PoolTransport:
    """For `redis.Redis`, alone, behind Sentinel, or a fake."""

    def __init__(self, client: redis.Redis, wall: Wall, script: Script) -> None:
        self._client = client
        self._wall = wall
        self._script = script

    def send(self, request: Request) -> Answer:
        sending = Sending(request)
        with sending.judged(), self._connection() as connection:
            reply = connection.retry.call_with_retry(
                lambda: self._once(connection, sending),
                lambda _: connection.disconnect(),
            )
        return Answer(reply, sending.resent)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        """One of the pool's, or the client's only one."""
        client: Any = self._client
        only = client.connection
        with client.single_connection_lock if only else contextlib.nullcontext():
            connection = only or client.connection_pool.get_connection()
            try:
                yield connection
            except ResponseError:
                raise
            except BaseException:
                # A reply may still be on its way: it must not become the next request's.
                connection.disconnect()
                raise
            finally:
                if not only:
                    client.connection_pool.release(connection)

    def _once(self, connection: Any, sending: Sending) -> Any:
        sending.attempt()
        connection.connect()

        def execute(*command: object) -> Any:
            connection.send_command(*command)
            return connection.read_response()

        wall_ms = self._wall.read()
        sending.transmit()
        return self._script.run(execute, sending.request, wall_ms)


class ClusterTransport:
    """For `redis.RedisCluster`: the prefix is one slot, so that its node runs the whole request.

    With the target node named, redis-py follows redirections and leaves the retrying to us.
    """

    def __init__(self, client: redis.RedisCluster, wall: Wall, script: Script) -> None:
        self._client = client
        self._wall = wall
        self._script = script

    def send(self, request: Request) -> Answer:
        client: Any = self._client
        sending = Sending(request)
        with sending.judged():
            reply = client.retry.call_with_retry(
                lambda: self._once(sending), lambda _: self._rediscover()
            )
        return Answer(reply, sending.resent)

    def _once(self, sending: Sending) -> Any:
        client: Any = self._client
        sending.attempt()

        def execute(*command: object) -> Any:
            return client.execute_command(*command, target_nodes=node)

        wall_ms = self._wall.read()
        try:
            node = client.get_node_from_key(sending.request.keys[0])
            if node is None:
                raise RedisConnectionError("no node of the cluster serves this prefix")
            sending.transmit()
            return self._script.run(execute, sending.request, wall_ms)
        except (RedisClusterException, ClusterDownError) as error:
            # As lasting as a lost connection, and to be tried again like one.
            raise RedisConnectionError(str(error)) from error

    def _rediscover(self) -> None:
        client: Any = self._client
        with contextlib.suppress(Exception):  # the next attempt says what is wrong
            client.nodes_manager.initialize()


def prefix_in_other_use(own: Sequence[str]) -> InvalidKeyError:
    """R1's error where something else stands in place of the keys that every prefix has."""
    instances, keys = own
    return InvalidKeyError(
        f"this prefix cannot be used: the Redis keys {instances!r} (a hash) and {keys!r} (a set) "
        f"are its own, and one of them holds something else"
    )
