"""The transport for `redis.Redis` and `redis.RedisCluster`."""

from __future__ import annotations

import contextlib
import functools
import os
import time
import weakref
from collections import deque
from itertools import count
from typing import Any, Protocol

import redis
from redis.client import Pipeline
from redis.cluster import ClusterPipeline
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from distkit.core.instance import Reply, Request
from distkit.redis.meaning import (
    ANSWERS,
    STALE,
    UNREACHABLE,
    Message,
    NotNow,
    address_in,
    answer_in,
    judged,
    not_executed,
    to_raise,
)
from distkit.redis.script import COUNTER, Inquiry, Script, Wall, pack
from distkit.redis.settings import (
    MOST_IDLE,
    MOST_REDIRECTIONS,
    SHARED,
    STAYS_FRESH_S,
    Place,
    asked_last,
    asks_sentinel,
    checked_pool,
    kind_of,
    leads_elsewhere,
    made,
    shared_by,
    waits_forever,
)


class Idle:
    """The idle connections that the counters of a client share."""

    __slots__ = ("__weakref__", "connections")

    def __init__(self) -> None:
        # Each with the time of its last use; the one used last at the right.
        self.connections: deque[tuple[Any, float]] = deque()
        _every.add(self)

    def close(self) -> None:
        while self.connections:
            with contextlib.suppress(IndexError):  # another thread took it
                connection, _ = self.connections.pop()
                connection.disconnect()

    def keep(self, connection: Any) -> None:
        if len(self.connections) >= MOST_IDLE:
            connection.disconnect()
        else:
            self.connections.append((connection, time.monotonic()))


def _disconnect_with(pool: Any) -> None:
    """Have whatever disconnects the pool close the idle connections of its counters too."""
    if SHARED in vars(pool):
        return
    shared: dict[Any, Idle] = {}
    vars(pool)[SHARED] = shared
    disconnect = pool.disconnect

    @functools.wraps(disconnect)
    def disconnect_all(*args: Any, **options: Any) -> None:
        for idle in list(shared.values()):
            idle.close()
        disconnect(*args, **options)

    pool.disconnect = disconnect_all


_every: weakref.WeakSet[Idle] = weakref.WeakSet()


def _forget_after_fork() -> None:
    """A connection belongs to the process that made it."""
    for idle in list(_every):
        idle.connections.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


class Transport(Protocol):
    """Sends one request until it is answered or the client's retry policy gives up."""

    script: Script

    def send(self, request: Request) -> Reply:
        """Return the reply.

        Raises:
            Abandoned: no reply came; `request.arrived` says whether it may have been executed.
            InvalidKeyError: a key of the prefix holds something else.
            redis.exceptions.ResponseError: the server refused the request.
        """
        ...

    def inquire(self, inquiry: Inquiry) -> None:
        """Have the inquiry hear its reply. Raises the same errors."""
        ...


def transport_for(client: object, wall: Wall, deadline: float) -> Transport:
    """The transport for a redis-py client; TypeError for anything else."""
    what = "a redis.Redis or a redis.RedisCluster"
    if isinstance(client, redis.RedisCluster) and not isinstance(client, ClusterPipeline):
        return ClusterTransport(client, wall, deadline)
    if isinstance(client, redis.Redis) and not isinstance(client, Pipeline):
        checked_pool(client, what)
        return PoolTransport(client, wall, deadline)
    raise TypeError(f"client must be {what}, not {kind_of(client)}")


class PoolTransport:
    """For `redis.Redis`, alone, behind Sentinel, or a fake.

    Args:
        client: the client whose settings connections are made from.
        wall: the wall clock.
        deadline: how long to wait for a reply, in seconds.
    """

    def __init__(self, client: Any, wall: Wall, deadline: float) -> None:
        self.script: Script = COUNTER
        self._client = client
        self._wall = wall
        self._deadline = deadline
        self._pool: Any = None
        self._shared = Idle()
        self._follows_sentinel = False

    def send(self, request: Request) -> Reply:
        wall_ms = None if self._wall.is_the_servers else self._wall.read()
        reply: Reply = self._deliver(request, self.script.by_hash(request, wall_ms))
        return reply

    def inquire(self, inquiry: Inquiry) -> None:
        inquiry.hear(self._deliver(inquiry, inquiry.words()))

    def _deliver(self, message: Message, words: tuple[Any, ...]) -> Any:
        """Transmit as often as the retry policy allows.

        redis-py connects before it follows the policy, and what it does if that fails depends on
        its release. So a first connection is made as redis-py makes it, and nothing is added.
        """
        try:
            try:  # in the usual case there is one that was used just now
                connection, used_at = self._shared.connections.pop()
                if self._follows_sentinel or time.monotonic() - used_at > STAYS_FRESH_S:
                    self._shared.connections.append((connection, used_at))
                    connection = self._connection(as_the_client=True)
            except IndexError:
                connection = self._connection(as_the_client=True)
            try:
                return self._exchange(connection, message, words)
            except UNREACHABLE as error:
                return self._again(message, words, error)
        except Exception as error:
            verdict = judged(error, message)
            if verdict is error:
                raise
            raise verdict from error

    def _again(self, message: Message, words: tuple[Any, ...], error: Exception) -> Any:
        """The first transmission failed. The client's retry policy decides about others."""
        failed = [error]

        def attempt() -> Any:
            if failed:
                raise failed.pop()
            return self._transmit(message, self._renewed(message, words))

        return self._policy().call_with_retry(attempt, lambda _: None)

    def _renewed(self, message: Message, words: tuple[Any, ...]) -> tuple[Any, ...]:
        """The words of a retry: the wall clock is read again."""
        if isinstance(message, Request):
            return self.script.by_hash(message, self._wall.read())
        return words

    # --- One transmission ------------------------------------------------------------------------

    def _transmit(self, message: Message, words: tuple[Any, ...]) -> Any:
        return self._exchange(self._connection(), message, words)

    def _exchange(self, connection: Any, message: Message, words: tuple[Any, ...]) -> Any:
        """Send on this connection and read the reply. Afterwards it is idle, or closed."""
        message.resent, message.arrived = message.arrived, True
        message.transmissions += 1
        try:
            connection.send_packed_command((pack(words),), check_health=False)
            try:
                reply = connection.read_response(disable_decoding=isinstance(message, Inquiry))
            except NoScriptError:
                whole = pack(self.script.whole(words))
                connection.send_packed_command((whole,), check_health=False)
                reply = connection.read_response()
        except BaseException as error:
            answer = answer_in(error)
            if answer is None or isinstance(answer, STALE):
                # A reply may still arrive. The next request must not take it for its own.
                connection.disconnect()
            if answer is None:
                raise
            not_executed(message)
            if not isinstance(answer, STALE):
                self._keep(connection)
            failure = to_raise(answer, self._elsewhere())
            raise failure from failure.__cause__
        self._keep(connection)
        return reply

    # --- Connections -----------------------------------------------------------------------------

    def _place(self) -> Place:
        """Where a new connection leads."""
        pool = self._client.connection_pool
        return Place(pool.connection_class, pool.connection_kwargs)

    def _elsewhere(self) -> tuple[type[Exception], ...]:
        """The answers after which another transmission may reach a server that can serve."""
        return (
            (ReadOnlyError, MasterDownError) if asks_sentinel(self._client.connection_pool) else ()
        )

    def _idle(self) -> Idle:
        pool = self._client.connection_pool
        if pool is not self._pool:
            _disconnect_with(pool)
            self._shared, self._pool = shared_by(pool, self._deadline, Idle), pool
            self._follows_sentinel = asks_sentinel(pool)
        return self._shared

    def _keep(self, connection: Any) -> None:
        self._shared.keep(connection)

    def _connection(self, as_the_client: bool = False) -> Any:
        """An idle connection that still works, or a new one."""
        idle = self._idle().connections
        while True:
            try:
                connection, used_at = idle.pop()
            except IndexError:
                return self._connected(self._place(), as_the_client)
            if self._is_usable(connection, used_at):
                return connection
            connection.disconnect()

    def _is_usable(self, connection: Any, used_at: float) -> bool:
        if self._follows_sentinel and leads_elsewhere(self._pool, connection):
            return False
        if time.monotonic() - used_at < STAYS_FRESH_S:
            return True
        try:
            return not connection.can_read(0)  # what is readable is the end of the stream
        except UNREACHABLE:
            return False

    def _connected(self, place: Place, as_the_client: bool = False) -> Any:
        """A new connection, tried once, or as often as the client would try."""
        connection, policy = made(place, Retry, self._deadline)
        once = connection.retry
        if as_the_client:
            connection.retry = policy
        try:
            connection.connect()
            connection.retry = once
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def _policy(self) -> Any:
        """The client's retry policy, as a copy of our own."""
        _, policy = made(self._place(), Retry, self._deadline)
        return policy


class ClusterTransport(PoolTransport):
    """For `redis.RedisCluster`: a prefix is in one slot, so one node runs the whole request."""

    def __init__(self, client: Any, wall: Wall, deadline: float) -> None:
        super().__init__(client, wall, deadline)
        self._key = b""
        self._moved_to: tuple[str, int] | None = None
        self._last: Place | None = None  # where the last connection led

    def _deliver(self, message: Message, words: tuple[Any, ...]) -> Any:
        """The policy of a cluster's client covers connecting, too."""
        try:
            try:
                return self._transmit(message, words)
            except UNREACHABLE as error:
                return self._again(message, words, error)
        except Exception as error:
            verdict = judged(error, message)
            if verdict is error:
                raise
            raise verdict from error

    def _transmit(self, message: Message, words: tuple[Any, ...]) -> Any:
        self._key = message.keys[0]
        try:
            for _ in range(MOST_REDIRECTIONS):
                try:
                    return self._exchange(self._connection(), message, words)
                except MovedError as error:
                    self._moved_to = address_in(error)
                except AskError as error:
                    return self._ask(address_in(error), message, words)
        except RedisClusterException as error:
            raise NotNow(str(error)) from error
        raise NotNow(f"the cluster redirected the request {MOST_REDIRECTIONS} times")

    def _ask(self, address: tuple[str, int], message: Message, words: tuple[Any, ...]) -> Any:
        """The slot is moving, and another node has the keys already: ask it, this once."""
        connection = self._connected(self._place().at(*address))
        connection.send_packed_command((pack(("ASKING",)),), check_health=False)
        connection.read_response()
        if words[0] == "EVALSHA":  # ASKING is good for one command: it must not be NOSCRIPT
            words = self.script.whole(words)
        try:
            return self._exchange(connection, message, words)
        except (AskError, MovedError) as error:
            raise NotNow(str(error)) from error

    def _again(self, message: Message, words: tuple[Any, ...], error: Exception) -> Any:
        """Like redis-py, count a cluster's retries by the client's policy, and after a lost
        connection look for the right node at once. The policy's waits are for a node that says it
        cannot serve now, and for a policy that never gives up."""
        policy: Any = self._client.retry
        policy._backoff.reset()
        for failures in count(1):
            self._find_nodes(error)
            if 0 <= policy.get_retries() < failures:
                break
            if isinstance(error, NotNow) or policy.get_retries() < 0:
                time.sleep(policy._backoff.compute(failures))
            try:
                return self._transmit(message, self._renewed(message, words))
            except UNREACHABLE as another:
                error = another
        raise error

    def _find_nodes(self, error: Exception) -> None:
        """Ask the cluster again which node serves the prefix. If no node answers that, the call
        ends, as redis-py's own do."""
        self._moved_to = None
        if self._last is not None and not isinstance(error, NotNow):
            nodes = self._client.nodes_manager
            options = asked_last(nodes, self._last)
            if waits_forever(self._last):
                self._try_nodes(nodes, self._last)
            nodes.initialize(**options)

    def _try_nodes(self, nodes: Any, place: Place) -> None:
        """Make a node that answers within the deadline the first to be asked."""
        for node in list(nodes.startup_nodes.values()):
            there = place.at(node.host, node.port)
            try:
                self._ping(there)
            except ANSWERS:
                return
            except UNREACHABLE:
                asked_last(nodes, there)
            else:
                return
        raise RedisConnectionError("no node of the cluster answers")

    def _ping(self, place: Place) -> None:
        connection = self._connected(place)
        try:
            connection.send_command("PING", check_health=False)
            connection.read_response()
        finally:
            connection.disconnect()

    def _place(self) -> Place:
        node = self._client.get_node_from_key(self._key)
        if node is None:
            raise NotNow("no node of the cluster serves this prefix")
        pool = self._client.get_redis_connection(node).connection_pool
        place = Place(pool.connection_class, pool.connection_kwargs)
        if self._moved_to:
            place = place.at(*self._moved_to)
        self._last = place
        return place

    def _elsewhere(self) -> tuple[type[Exception], ...]:
        return (ClusterDownError, MasterDownError, TryAgainError)

    def _idle(self) -> Idle:
        settings = self._place().settings
        return self._idle_at(settings["host"], settings["port"])

    def _idle_at(self, host: str, port: int) -> Idle:
        return shared_by(self._client, (self._deadline, host, port), Idle)

    def _keep(self, connection: Any) -> None:
        self._idle_at(connection.host, connection.port).keep(connection)
