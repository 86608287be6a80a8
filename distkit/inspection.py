"""See what is in Redis without taking part: nothing here is a heartbeat, or removes anything.

Programs that have a counter call `counter.inspect()`. `inspect` needs only a client, and may be
given one of a replica. The results are judged as the server would judge at the next request: who is
live, which slices count, what the totals are.

Hashes are read page by page, so that no command keeps the server for more than about 1 ms. A large
prefix is therefore not seen at one instant: a counter that is created meanwhile may be absent.
The time is read at the beginning, and everybody is judged by it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

import redis
import redis.asyncio

from distkit.core.inspection import (
    Clock,
    CounterInfo,
    InstanceInfo,
    PrefixInfo,
    SliceInfo,
    combined,
    merged,
)
from distkit.core.partitions import check_division, checked_partitions, name_of
from distkit.keys import Keyspace, checked_key
from distkit.redis.reading import Command, Reader, Reading, ResultT
from distkit.redis.script import Clock as WallClock
from distkit.redis.script import Wall

__all__ = [
    "Clock",
    "CounterInfo",
    "InstanceInfo",
    "PrefixInfo",
    "SliceInfo",
    "inspect",
    "inspect_async",
    "pages",
    "pages_async",
]

Client = redis.Redis | redis.RedisCluster
AsyncClient = redis.asyncio.Redis | redis.asyncio.RedisCluster


def inspect(
    client: Client,
    prefix: str,
    *,
    keys: Iterable[str] | None = None,
    match: str | None = None,
    slices: bool = True,
    clock_ms: WallClock | None = None,
    partitions: int = 1,
) -> PrefixInfo:
    """Read a prefix: its instances, its counters and their slices, its tombstones.

    All of it is held in memory: about 1 kB for a counter with two slices. `pages` is for prefixes
    that are too large for that.

    Args:
        client: a `redis.Redis` or `redis.RedisCluster`, of a replica too.
        prefix: the namespace.
        keys: only these counters; by default all that are listed.
        match: only counters whose keys match this glob pattern, as Redis's `KEYS` has it.
        slices: whether to read the slices. Without them, `total` may include slices of the dead.
        clock_ms: for tests: a function that returns the server's wall clock in ms. By default,
            Redis's `TIME`.
        partitions: into how many the prefix is divided (R21). All of them are read, one after the
            other; of an instance there is the session in which it was heard last.

    Raises:
        InvalidKeyError: the prefix or a key is not allowed, or the prefix's Redis keys hold
            something else.
        LayoutError: the prefix has another layout.
        PartitionsError: the prefix is divided into another number of partitions.
        redis.exceptions.RedisError: as the client raises it.
    """
    spaces, chosen = _spaces(prefix, partitions), _checked(keys)
    if partitions > 1:
        reader = Reader(prefix, Wall(None))
        check_division(prefix, run(client, reader, reader.head()), partitions)
    found = [
        merged([*_pages(client, space, chosen, match, slices, Wall(clock_ms))]) for space in spaces
    ]
    return found[0] if partitions == 1 else combined(prefix, found)


def pages(
    client: Client,
    prefix: str,
    *,
    keys: Iterable[str] | None = None,
    match: str | None = None,
    slices: bool = True,
    clock_ms: WallClock | None = None,
) -> Iterator[PrefixInfo]:
    """As `inspect`, some 250 counters at a time. Every page has all instances.

    A page can be empty, and a counter can come twice if counters are created meanwhile.
    """
    return _pages(client, Keyspace(prefix), _checked(keys), match, slices, Wall(clock_ms))


def _pages(
    client: Client,
    space: Keyspace,
    chosen: list[str] | None,
    match: str | None,
    slices: bool,
    wall: Wall,
) -> Iterator[PrefixInfo]:
    reader = Reader(space, wall)
    run(client, reader, reader.begin())
    if chosen is not None:
        listing = run(client, reader, reader.look_up(chosen))
        yield run(client, reader, reader.counters(listing, slices))
        return
    cursor = 0
    while True:
        listing = run(client, reader, reader.page(cursor, match))
        yield run(client, reader, reader.counters(listing, slices))
        cursor = listing.cursor
        if not cursor:
            return


async def inspect_async(
    client: AsyncClient,
    prefix: str,
    *,
    keys: Iterable[str] | None = None,
    match: str | None = None,
    slices: bool = True,
    clock_ms: WallClock | None = None,
    partitions: int = 1,
) -> PrefixInfo:
    """`inspect` with a client of `redis.asyncio`."""
    spaces, chosen = _spaces(prefix, partitions), _checked(keys)
    if partitions > 1:
        reader = Reader(prefix, Wall(None))
        check_division(prefix, await run_async(client, reader, reader.head()), partitions)
    found = []
    for space in spaces:
        reading = _pages_async(client, space, chosen, match, slices, Wall(clock_ms))
        found.append(merged([page async for page in reading]))
    return found[0] if partitions == 1 else combined(prefix, found)


async def pages_async(
    client: AsyncClient,
    prefix: str,
    *,
    keys: Iterable[str] | None = None,
    match: str | None = None,
    slices: bool = True,
    clock_ms: WallClock | None = None,
) -> AsyncIterator[PrefixInfo]:
    """`pages` with a client of `redis.asyncio`."""
    reading = _pages_async(client, Keyspace(prefix), _checked(keys), match, slices, Wall(clock_ms))
    async for page in reading:
        yield page


async def _pages_async(
    client: AsyncClient,
    space: Keyspace,
    chosen: list[str] | None,
    match: str | None,
    slices: bool,
    wall: Wall,
) -> AsyncIterator[PrefixInfo]:
    reader = Reader(space, wall)
    await run_async(client, reader, reader.begin())
    if chosen is not None:
        listing = await run_async(client, reader, reader.look_up(chosen))
        yield await run_async(client, reader, reader.counters(listing, slices))
        return
    cursor = 0
    while True:
        listing = await run_async(client, reader, reader.page(cursor, match))
        yield await run_async(client, reader, reader.counters(listing, slices))
        cursor = listing.cursor
        if not cursor:
            return


# --- Sending -------------------------------------------------------------------------------------


def run(client: Client, reader: Reader, reading: Reading[ResultT]) -> ResultT:
    """Send the commands of a reading, and return its result."""
    if not isinstance(client, Client):
        raise TypeError(f"client must be a redis.Redis or a redis.RedisCluster, not {client!r}")
    try:
        commands = next(reading)
        while True:
            pipeline: Any = client.pipeline(transaction=False)
            _queue(client, pipeline, reader, commands)
            commands = reading.send(pipeline.execute(raise_on_error=False))
    except StopIteration as end:
        result: ResultT = end.value
        return result


async def run_async(client: AsyncClient, reader: Reader, reading: Reading[ResultT]) -> ResultT:
    """`run` with a client of `redis.asyncio`."""
    if not isinstance(client, AsyncClient):
        raise TypeError(
            f"client must be a redis.asyncio.Redis or a redis.asyncio.RedisCluster, not {client!r}"
        )
    if isinstance(client, redis.asyncio.RedisCluster):
        await client.initialize()  # so that it knows which node has the prefix
    try:
        commands = next(reading)
        while True:
            pipeline: Any = client.pipeline(transaction=False)
            _queue(client, pipeline, reader, commands)
            commands = reading.send(await pipeline.execute(raise_on_error=False))
    except StopIteration as end:
        result: ResultT = end.value
        return result


def _queue(client: Any, pipeline: Any, reader: Reader, commands: Sequence[Command]) -> None:
    """Names are UTF-8 in Redis whatever encoding the client uses (R1): nothing is decoded here."""
    for words in commands:
        options: dict[str, Any] = {"NEVER_DECODE": True}
        if words[0] == "TIME" and hasattr(client, "get_node_from_key"):
            # In a cluster, the clock that counts is that of the node that has the prefix.
            options["target_nodes"] = client.get_node_from_key(reader.space.instances)
        encoded = [word.encode() if isinstance(word, str) else word for word in words[1:]]
        pipeline.execute_command(words[0], *encoded, **options)


def _spaces(prefix: str, partitions: int) -> list[Keyspace]:
    """The Redis keys of the prefix, or of each of its partitions."""
    if checked_partitions(partitions) == 1:
        return [Keyspace(prefix)]
    return [Keyspace(prefix, name_of(prefix, n, partitions)) for n in range(partitions)]


def _checked(keys: Iterable[str] | None) -> list[str] | None:
    if isinstance(keys, str):
        raise TypeError("keys must be several keys, not one str")
    return None if keys is None else list(dict.fromkeys(checked_key(key) for key in keys))
