"""The transport for `redis.asyncio`: as `sync.py`, awaited.

A connection belongs to an event loop. The idle ones of a loop are closed when the loop ends, or
when the program forgets the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import weakref
from collections import deque
from collections.abc import AsyncGenerator
from itertools import count
from typing import Any, Protocol

import redis.asyncio
from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterPipeline
from redis.asyncio.retry import Retry
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
from redis.exceptions import TimeoutError as RedisTimeoutError

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
    """The idle connections that the counters of a client share in one event loop."""

    __slots__ = ("__weakref__", "_closing", "connections")

    def __init__(self) -> None:
        self.connections: deque[Any] = deque()
        self._closing: AsyncGenerator[None, None] | None = None
        _every.add(self)

    async def open(self) -> None:
        """Have the event loop close the connections when it ends: an unfinished asynchronous
        generator is what a loop finalizes, and so does the garbage collector."""
        if self._closing is None:
            self._closing = _closing(self.connections)
            await self._closing.__anext__()

    def keep(self, connection: Any) -> bool:
        """Keep the connection, unless there are enough."""
        if len(self.connections) >= MOST_IDLE:
            return False
        self.connections.append(connection)
        return True


async def _closing(connections: deque[Any]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await _close(connections)


async def _close(connections: deque[Any]) -> None:
    while connections:
        await _drop(connections.pop())


def _disconnect_with(pool: Any) -> None:
    """Have whatever disconnects the pool close the idle connections of its counters too."""
    if SHARED in vars(pool):
        return
    vars(pool)[SHARED] = {}
    disconnect = pool.disconnect

    @functools.wraps(disconnect)
    async def disconnect_all(*args: Any, **options: Any) -> None:
        for idle in list(_idle_by_key(pool).values()):
            await _close(idle.connections)
        await disconnect(*args, **options)

    pool.disconnect = disconnect_all


async def _drop(connection: Any) -> None:
    """Close it; on a loop that is closed already, as far as that goes."""
    with contextlib.suppress(Exception):
        await connection.disconnect(nowait=True)


async def _nothing(_: Exception) -> None:
    """What happens between two attempts."""


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

    async def send(self, request: Request) -> Reply:
        """As the synchronous transport's `send`. If it is cancelled, the request stays in flight:
        it is sent again (R11)."""
        ...

    async def inquire(self, inquiry: Inquiry) -> None:
        """Have the inquiry hear its reply."""
        ...


def transport_for(client: object, wall: Wall, deadline: float) -> Transport:
    """The transport for a client of redis.asyncio; TypeError for anything else."""
    what = "a redis.asyncio.Redis or a redis.asyncio.RedisCluster"
    if isinstance(client, redis.asyncio.RedisCluster) and not isinstance(client, ClusterPipeline):
        return ClusterTransport(client, wall, deadline)
    if isinstance(client, redis.asyncio.Redis) and not isinstance(client, Pipeline):
        checked_pool(client, what)
        return PoolTransport(client, wall, deadline)
    raise TypeError(f"client must be {what}, not {kind_of(client)}")


class Deadline:
    """Ends a transmission that gets no reply in time, by closing its connection.

    One timer serves all transmissions of a transport: to start and stop one for each would cost
    more than the rest of the transport.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.expired: bool = False
        self._due = 0.0  # 0: no transmission is under way
        self._connection: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, connection: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.expired = False
        self._connection, self._due = connection, loop.time() + self.seconds
        if self._timer is None or loop is not self._loop:
            self._loop = loop
            self._timer = loop.call_at(self._due, self._look)

    def stop(self) -> None:
        self._due, self._connection = 0.0, None

    def _look(self) -> None:
        self._timer = None
        if not self._due or self._loop is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._look)
            return
        transport = getattr(getattr(self._connection, "_writer", None), "transport", None)
        if transport is not None:
            self.expired = True
            transport.abort()


class PoolTransport:
    """For `redis.asyncio.Redis`, alone, behind Sentinel, or a fake.

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
        self._watch: Deadline | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shared_pool: Any = None
        self._shared = Idle()
        self._follows_sentinel = False

    async def send(self, request: Request) -> Reply:
        wall_ms = None if self._wall.is_the_servers else self._wall.read()
        reply: Reply = await self._deliver(request, self.script.by_hash(request, wall_ms))
        return reply

    async def inquire(self, inquiry: Inquiry) -> None:
        inquiry.hear(await self._deliver(inquiry, inquiry.words()))

    async def _deliver(self, message: Message, words: tuple[Any, ...]) -> Any:
        """Transmit as often as the retry policy allows.

        redis-py connects before it follows the policy, and what it does if that fails depends on
        its release. So a first connection is made as redis-py makes it, and nothing is added.
        """
        try:
            idle = self._idle().connections
            if idle and not self._follows_sentinel and not _has_ended(idle[-1]):
                connection = idle.pop()  # the usual case
            else:
                connection = await self._connection(as_the_client=True)
            try:
                return await self._exchange(connection, message, words)
            except UNREACHABLE as error:
                return await self._again(message, words, error)
        except Exception as error:
            verdict = judged(error, message)
            if verdict is error:
                raise
            raise verdict from error

    async def _again(self, message: Message, words: tuple[Any, ...], error: Exception) -> Any:
        """The first transmission failed. The client's retry policy decides about others."""
        failed = [error]

        async def attempt() -> Any:
            if failed:
                raise failed.pop()
            return await self._transmit(message, self._renewed(message, words))

        return await self._policy().call_with_retry(attempt, _nothing)

    def _renewed(self, message: Message, words: tuple[Any, ...]) -> tuple[Any, ...]:
        """The words of a retry: the wall clock is read again."""
        if isinstance(message, Request):
            return self.script.by_hash(message, self._wall.read())
        return words

    # --- One transmission ------------------------------------------------------------------------

    async def _transmit(self, message: Message, words: tuple[Any, ...]) -> Any:
        return await self._exchange(await self._connection(), message, words)

    async def _exchange(self, connection: Any, message: Message, words: tuple[Any, ...]) -> Any:
        """Send on this connection and read the reply. Afterwards it is idle, or closed."""
        message.resent, message.arrived = message.arrived, True
        message.transmissions += 1
        watch = self._watch or self._made_watch()
        watch.start(connection, self._loop or asyncio.get_running_loop())
        try:
            await connection.send_packed_command((pack(words),), check_health=False)
            try:
                reply = await connection.read_response(
                    disable_decoding=isinstance(message, Inquiry)
                )
            except NoScriptError:
                whole = pack(self.script.whole(words))
                await connection.send_packed_command((whole,), check_health=False)
                reply = await connection.read_response()
        except BaseException as error:
            answer = answer_in(error)
            if answer is None or isinstance(answer, STALE):
                # A reply may still arrive. The next request must not take it for its own.
                await _drop(connection)
            if answer is None:
                if watch.expired and isinstance(error, Exception):
                    raise RedisTimeoutError(f"no reply within {watch.seconds} s") from error
                raise
            not_executed(message)
            if not isinstance(answer, STALE):
                self._keep(connection)
            failure = to_raise(answer, self._elsewhere())
            raise failure from failure.__cause__
        finally:
            watch.stop()
        if not self._keep(connection):
            await _drop(connection)
        return reply

    # --- Connections -----------------------------------------------------------------------------

    def _place(self) -> Place:
        """Where a new connection leads."""
        pool = self._client.connection_pool
        return Place(pool.connection_class, pool.connection_kwargs)

    def _elsewhere(self) -> tuple[type[Exception], ...]:
        """The answers after which another transmission may reach a server that can serve."""
        return (ReadOnlyError, MasterDownError) if asks_sentinel(self._pool()) else ()

    def _idle(self) -> Idle:
        pool, loop = self._client.connection_pool, asyncio.get_running_loop()
        if loop is not self._loop or pool is not self._shared_pool:
            _disconnect_with(pool)
            self._shared = _idle_of(pool, self._deadline)
            self._loop, self._shared_pool = loop, pool
            self._follows_sentinel = asks_sentinel(pool)
        return self._shared

    def _keep(self, connection: Any) -> bool:
        return self._shared.keep(connection)

    async def _connection(self, as_the_client: bool = False) -> Any:
        """An idle connection that still works, or a new one."""
        idle = self._idle().connections
        while idle:
            connection = idle.pop()
            if self._is_usable(connection):
                return connection
            await _drop(connection)
        return await self._connected(self._place(), as_the_client)

    def _is_usable(self, connection: Any) -> bool:
        return not _has_ended(connection) and not leads_elsewhere(self._pool(), connection)

    def _pool(self) -> Any:
        return self._client.connection_pool

    async def _connected(self, place: Place, as_the_client: bool = False) -> Any:
        """A new connection, tried once, or as often as the client would try."""
        connection, policy = made(place, Retry, self._deadline)
        once = connection.retry
        if as_the_client:
            connection.retry = policy
        await self._idle().open()
        try:
            await connection.connect()
            connection.retry = once
        except BaseException:
            await _drop(connection)
            raise
        connection.socket_timeout = None  # from now on the deadline is ours to watch
        return connection

    def _made_watch(self) -> Deadline:
        """The counter's deadline, or the client's own timeout if that is shorter."""
        connection, _ = made(self._place(), Retry, self._deadline)
        self._watch = Deadline(connection.socket_timeout)
        return self._watch

    def _policy(self) -> Any:
        """The client's retry policy, as a copy of our own."""
        _, policy = made(self._place(), Retry, self._deadline)
        return policy


class ClusterTransport(PoolTransport):
    """For `redis.asyncio.RedisCluster`; see the synchronous class."""

    def __init__(self, client: Any, wall: Wall, deadline: float) -> None:
        super().__init__(client, wall, deadline)
        self._key = b""
        self._moved_to: tuple[str, int] | None = None
        self._last: Place | None = None  # where the last connection led

    async def _deliver(self, message: Message, words: tuple[Any, ...]) -> Any:
        """The policy of a cluster's client covers connecting, too."""
        try:
            try:
                return await self._transmit(message, words)
            except UNREACHABLE as error:
                return await self._again(message, words, error)
        except Exception as error:
            verdict = judged(error, message)
            if verdict is error:
                raise
            raise verdict from error

    async def _transmit(self, message: Message, words: tuple[Any, ...]) -> Any:
        self._key = message.keys[0]
        await self._client.initialize()  # if no node answers that, the call ends
        try:
            for _ in range(MOST_REDIRECTIONS):
                try:
                    return await self._exchange(await self._connection(), message, words)
                except MovedError as error:
                    self._moved_to = address_in(error)
                except AskError as error:
                    return await self._ask(address_in(error), message, words)
        except RedisClusterException as error:
            raise NotNow(str(error)) from error
        raise NotNow(f"the cluster redirected the request {MOST_REDIRECTIONS} times")

    async def _ask(self, address: tuple[str, int], message: Message, words: tuple[Any, ...]) -> Any:
        """The slot is moving, and another node has the keys already: ask it, this once."""
        connection = await self._connected(self._place().at(*address))
        await connection.send_packed_command((pack(("ASKING",)),), check_health=False)
        await connection.read_response()
        if words[0] == "EVALSHA":  # ASKING is good for one command: it must not be NOSCRIPT
            words = self.script.whole(words)
        try:
            return await self._exchange(connection, message, words)
        except (AskError, MovedError) as error:
            raise NotNow(str(error)) from error

    async def _again(self, message: Message, words: tuple[Any, ...], error: Exception) -> Any:
        """As the synchronous class does."""
        policy: Any = self._client.retry
        policy._backoff.reset()
        for failures in count(1):
            await self._find_nodes(error)
            if 0 <= policy.get_retries() < failures:
                break
            if isinstance(error, NotNow) or policy.get_retries() < 0:
                await asyncio.sleep(policy._backoff.compute(failures))
            try:
                return await self._transmit(message, self._renewed(message, words))
            except UNREACHABLE as another:
                error = another
        raise error

    async def _find_nodes(self, error: Exception) -> None:
        """Ask the cluster again which node serves the prefix. If no node answers that, the call
        ends, as redis-py's own do."""
        self._moved_to = None
        if self._last is not None and not isinstance(error, NotNow):
            nodes = self._client.nodes_manager
            options = asked_last(nodes, self._last)
            if waits_forever(self._last):
                await self._try_nodes(nodes, self._last)
            await nodes.initialize(**options)

    async def _try_nodes(self, nodes: Any, place: Place) -> None:
        """Make a node that answers within the deadline the first to be asked."""
        for node in list(nodes.startup_nodes.values()):
            there = place.at(node.host, node.port)
            try:
                await self._ping(there)
            except ANSWERS:
                return
            except UNREACHABLE:
                asked_last(nodes, there)
            else:
                return
        raise RedisConnectionError("no node of the cluster answers")

    async def _ping(self, place: Place) -> None:
        connection = await self._connected(place)
        try:
            connection.socket_timeout = self._deadline
            await connection.send_command("PING", check_health=False)
            await connection.read_response()
        finally:
            await _drop(connection)

    def _place(self) -> Place:
        node = self._client.get_node_from_key(self._key)
        if node is None:
            raise NotNow("no node of the cluster serves this prefix")
        place = Place(node.connection_class, node.connection_kwargs)
        if self._moved_to:
            place = place.at(*self._moved_to)
        self._last = place
        return place

    def _pool(self) -> Any:
        return None

    def _elsewhere(self) -> tuple[type[Exception], ...]:
        return (ClusterDownError, MasterDownError, TryAgainError)

    def _idle(self) -> Idle:
        settings = self._place().settings
        return self._idle_at(settings["host"], settings["port"])

    def _idle_at(self, host: str, port: int) -> Idle:
        return _idle_of(self._client, (self._deadline, host, port))

    def _keep(self, connection: Any) -> bool:
        return self._idle_at(connection.host, connection.port).keep(connection)


def _idle_of(owner: Any, key: Any) -> Idle:
    """The idle connections of an owner in this event loop."""
    idle = _idle_by_key(owner)
    return idle.setdefault(key, Idle()) if key not in idle else idle[key]


def _idle_by_key(owner: Any) -> dict[Any, Idle]:
    """All of the idle connections of an owner in this event loop. Those of loops that are closed,
    which cannot be used or closed any more, are forgotten."""
    loop = asyncio.get_running_loop()
    loops: dict[Any, dict[Any, Idle]] = shared_by(owner, "loops", dict)
    if loop not in loops:
        for other in [other for other in loops if other.is_closed()]:
            del loops[other]
        loops[loop] = {}
    return loops[loop]


def _has_ended(connection: Any) -> bool:
    """Whether the server has closed the connection, as far as the event loop knows."""
    reader = getattr(connection, "_reader", None)
    return reader is None or reader.at_eof()
