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
from dataclasses import replace
from typing import Any, NamedTuple

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
from distkit.core.partitions import (
    check_division,
    checked_partitions,
    divided_into,
    partition_of,
    spaces_of,
)
from distkit.keys import checked_key
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
    "partitions_of",
    "partitions_of_async",
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
        partitions: into how many the prefix is divided (R21); `partitions_of` finds out. All of
            them are read, one after the other. Of an instance there is the session in which it was
            heard last, and the clock is that of the partition that was used last.

    Raises:
        InvalidKeyError: the prefix or a key is not allowed, or the prefix's Redis keys hold
            something else.
        LayoutError: the prefix has another layout.
        PartitionsError: the prefix is divided into another number of partitions.
        redis.exceptions.RedisError: as the client raises it.
    """
    found = pages(
        client,
        prefix,
        keys=keys,
        match=match,
        slices=slices,
        clock_ms=clock_ms,
        partitions=partitions,
    )
    return merged([*found])


def pages(
    client: Client,
    prefix: str,
    *,
    keys: Iterable[str] | None = None,
    match: str | None = None,
    slices: bool = True,
    clock_ms: WallClock | None = None,
    partitions: int = 1,
) -> Iterator[PrefixInfo]:
    """As `inspect`, some 250 counters at a time. Every page has all instances.

    A page can be empty, and a counter can come twice if counters are created meanwhile.
    """
    spaces, chosen = spaces_of(prefix, checked_partitions(partitions)), _checked(keys)
    readers = [Reader(space, Wall(clock_ms)) for space in spaces]
    return _pages(client, readers, _Wanted(prefix, chosen, match, slices))


def _pages(client: Client, readers: Sequence[Reader], wanted: _Wanted) -> Iterator[PrefixInfo]:
    if len(readers) > 1:
        mark = Reader(wanted.prefix, Wall(None))
        check_division(wanted.prefix, run(client, mark, mark.head()), len(readers))
    for reader in readers:
        run(client, reader, reader.begin())
    whole = _whole(wanted.prefix, readers)
    for number, reader in enumerate(readers):
        for page in _pages_of(client, reader, wanted.of(number, len(readers))):
            yield _part(page, whole)


def _pages_of(client: Client, reader: Reader, wanted: _Wanted) -> Iterator[PrefixInfo]:
    if wanted.keys is not None:
        listing = run(client, reader, reader.look_up(wanted.keys))
        yield run(client, reader, reader.counters(listing, wanted.slices))
        return
    cursor = 0
    while True:
        listing = run(client, reader, reader.page(cursor, wanted.match))
        yield run(client, reader, reader.counters(listing, wanted.slices))
        cursor = listing.cursor
        if not cursor:
            return


def partitions_of(client: Client, prefix: str) -> int:
    """Into how many partitions the prefix is divided (R21); 1 if it is not divided."""
    reader = Reader(prefix, Wall(None))
    head = run(client, reader, reader.head())
    return divided_into(head or "") or 1


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
    found = pages_async(
        client,
        prefix,
        keys=keys,
        match=match,
        slices=slices,
        clock_ms=clock_ms,
        partitions=partitions,
    )
    return merged([page async for page in found])


async def pages_async(
    client: AsyncClient,
    prefix: str,
    *,
    keys: Iterable[str] | None = None,
    match: str | None = None,
    slices: bool = True,
    clock_ms: WallClock | None = None,
    partitions: int = 1,
) -> AsyncIterator[PrefixInfo]:
    """`pages` with a client of `redis.asyncio`."""
    wanted = _Wanted(prefix, _checked(keys), match, slices)
    readers = [
        Reader(space, Wall(clock_ms)) for space in spaces_of(prefix, checked_partitions(partitions))
    ]
    if partitions > 1:
        mark = Reader(prefix, Wall(None))
        check_division(prefix, await run_async(client, mark, mark.head()), partitions)
    for reader in readers:
        await run_async(client, reader, reader.begin())
    whole = _whole(prefix, readers)
    for number, reader in enumerate(readers):
        async for page in _pages_of_async(client, reader, wanted.of(number, partitions)):
            yield _part(page, whole)


async def _pages_of_async(
    client: AsyncClient, reader: Reader, wanted: _Wanted
) -> AsyncIterator[PrefixInfo]:
    if wanted.keys is not None:
        listing = await run_async(client, reader, reader.look_up(wanted.keys))
        yield await run_async(client, reader, reader.counters(listing, wanted.slices))
        return
    cursor = 0
    while True:
        listing = await run_async(client, reader, reader.page(cursor, wanted.match))
        yield await run_async(client, reader, reader.counters(listing, wanted.slices))
        cursor = listing.cursor
        if not cursor:
            return


async def partitions_of_async(client: AsyncClient, prefix: str) -> int:
    """`partitions_of` with a client of `redis.asyncio`."""
    reader = Reader(prefix, Wall(None))
    head = await run_async(client, reader, reader.head())
    return divided_into(head or "") or 1


# --- Partitions ----------------------------------------------------------------------------------


class _Wanted(NamedTuple):
    """What is to be read; the arguments of `inspect`."""

    prefix: str
    keys: list[str] | None
    match: str | None
    slices: bool

    def of(self, number: int, partitions: int) -> _Wanted:
        """The same of one partition."""
        if self.keys is None:
            return self
        return self._replace(keys=[k for k in self.keys if partition_of(k, partitions) == number])


def _whole(prefix: str, readers: Sequence[Reader]) -> PrefixInfo | None:
    """What the partitions have in common, without counters. None if the prefix is not divided."""
    if len(readers) == 1:
        return None
    infos = [reader.info({}, {}, (), {}) for reader in readers]
    last = max((info.clock for info in infos), key=lambda clock: clock.last_wall_ms or 0)
    outage_ms = max(info.clock.outage_ms for info in infos)
    return replace(combined(prefix, infos), clock=replace(last, outage_ms=outage_ms))


def _part(page: PrefixInfo, whole: PrefixInfo | None) -> PrefixInfo:
    """A page of a partition as one of the whole prefix."""
    if whole is None:
        return page
    return replace(
        whole,
        counters=page.counters,
        tombstones=page.tombstones,
        missing=page.missing,
        unreadable=page.unreadable,
    )


def _checked(keys: Iterable[str] | None) -> list[str] | None:
    if isinstance(keys, str):
        raise TypeError("keys must be several keys, not one str")
    return None if keys is None else list(dict.fromkeys(checked_key(key) for key in keys))


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
