"""Which commands read a prefix, and what their replies say; sending them is somebody else's work.

A `Reading` is a generator: it yields commands that share a pipeline, is sent their replies, and
returns its result. `distkit/inspection.py` drives it with a synchronous client or an asyncio one.

The rules this file keeps:
  * It reads. No command changes anything, so it runs on a replica too. It needs no permission that
    a counter does not need.
  * It is bounded. No command and no pipeline keeps the server longer than about 1 ms, however large
    the prefix or one of its counters is: hashes are read with HSCAN, and small ones with HGETALL.
  * An instance that has opened a session since the instances were read is not taken for dead: the
    owner of a slice that does not seem to count is looked up again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from redis.exceptions import ResponseError

from distkit.core.inspection import (
    HEAD,
    HERE,
    Clock,
    CounterInfo,
    InstanceInfo,
    PrefixInfo,
    Unreadable,
    clock_of,
    counter_of,
    instance_of,
    session_in,
)
from distkit.core.instance import LAYOUT
from distkit.errors import LayoutError
from distkit.keys import Keyspace
from distkit.redis.script import Wall

PAGE: Final = 250
"""About how many fields one HSCAN returns."""

CHUNK: Final = 100
"""How many small commands share a pipeline, and how many fields an HMGET asks for."""

SMALL: Final = 250
"""A hash of so many fields is read by one HGETALL; small ones share a pipeline up to that size."""

ResultT = TypeVar("ResultT")
Command = tuple[Any, ...]
Reading = Generator[Sequence[Command], list[Any], ResultT]
Fields = dict[str, str]


class Listing(NamedTuple):
    """A page of the list of counters.

    Attributes:
        cursor: of the next page; 0 if there is none.
        keys: of counters.
        tombstones: the epochs of tombstones, by key.
        unlisted: those of `keys` that are not in the list, so that they need not exist.
    """

    cursor: int
    keys: list[str]
    tombstones: dict[str, int]
    unlisted: frozenset[str] = frozenset()


class Reader:
    """Reads one prefix.

    Args:
        prefix: its name; or the Redis keys of a partition (R21).
        wall: the server's wall clock, or a test's.

    Attributes:
        space: the Redis keys of the prefix.
        clock: the server's time when the reading began.
        instances: those that have a session, by id.
        listed: how many counters and tombstones there are.
    """

    def __init__(self, prefix: str | Keyspace, wall: Wall) -> None:
        self.space: Keyspace = prefix if isinstance(prefix, Keyspace) else Keyspace(prefix)
        self.clock: Clock = Clock(0, 0)
        self.instances: dict[str, InstanceInfo] = {}
        self.listed: int = 0
        self._wall = wall

    def begin(self, with_instances: bool = True) -> Reading[None]:
        """Read the time and the instances. Raises LayoutError, or InvalidKeyError if the Redis key
        of the instances holds something else."""
        head, listed, time = yield [
            ("HMGET", self.space.instances, HEAD),
            ("HLEN", self.space.keys),
            ("TIME",),
        ]
        wall_ms = self._wall.read()
        if wall_ms is None:
            seconds, micros = refused_is_raised(time)
            wall_ms = int(seconds) * 1000 + int(micros) // 1000
        found = refused_is_raised(head)
        self.clock = clock_of(self.space.prefix, _text(found[0]), wall_ms)
        if is_wrong_type(listed):  # a set of keys is older than layouts with numbers
            raise LayoutError(0, LAYOUT, self.space.prefix)
        self.listed = refused_is_raised(listed)
        if with_instances:
            fields = yield from self._scan(self.space.instances)
            self._take(fields)

    def head(self) -> Reading[str | None]:
        """The head of the prefix's instances; None if there is none."""
        (found,) = yield [("HGET", self.space.instances, HEAD)]
        return _text(refused_is_raised(found))

    def page(self, cursor: int, match: str | None = None) -> Reading[Listing]:
        """Read a page of the list of counters: those whose keys match the glob pattern."""
        words: Command = ("HSCAN", self.space.keys, cursor, "COUNT", PAGE)
        if match is not None:
            words += ("MATCH", match)
        (reply,) = yield [words]
        following, fields = refused_is_raised(reply)
        states = {_name(key): int(state) for key, state in fields.items()}
        keys = [key for key, state in states.items() if state == HERE]
        tombstones = {key: state for key, state in states.items() if state != HERE}
        return Listing(int(following), keys, tombstones)

    def look_up(self, keys: Sequence[str]) -> Reading[Listing]:
        """What the list says of these counters. Those that are not in it may still exist."""
        here, tombstones, unlisted = [], dict[str, int](), set[str]()
        for some in in_chunks(keys, CHUNK):
            (reply,) = yield [("HMGET", self.space.keys, *some)]
            for key, state in zip(some, refused_is_raised(reply), strict=True):
                if state is not None and int(state) != HERE:
                    tombstones[key] = int(state)
                    continue
                here.append(key)
                if state is None:
                    unlisted.add(key)
        return Listing(0, here, tombstones, frozenset(unlisted))

    def counters(self, listing: Listing, with_slices: bool) -> Reading[PrefixInfo]:
        """Read the counters of a page of the list."""
        counters: dict[str, CounterInfo] = {}
        missing: list[str] = []
        unreadable: dict[str, str] = {}
        for keys in in_chunks(listing.keys, CHUNK // 2):
            sizes, heads = yield from self._heads(keys)
            fields: Mapping[str, Fields] = {}
            if with_slices:
                wanted = {key: sizes[key] for key in keys if isinstance(heads[key], str)}
                fields = yield from self._slices(wanted)
            for key in keys:
                head, slices = heads[key], fields.get(key)
                if slices is not None:  # its head was read again, with the slices
                    head = slices.pop(HEAD, None)
                try:
                    if head is None:
                        if key not in listing.unlisted:
                            missing.append(key)
                    elif isinstance(head, Unreadable):
                        raise head
                    else:
                        size = sizes[key] - 1 if slices is None else len(slices)
                        counters[key] = counter_of(
                            key, head, size, slices, self.instances, self.clock
                        )
                except Unreadable as error:
                    unreadable[key] = str(error)
        return self.info(counters, listing.tombstones, tuple(missing), unreadable)

    def info(
        self,
        counters: Mapping[str, CounterInfo],
        tombstones: Mapping[str, int],
        missing: tuple[str, ...],
        unreadable: Mapping[str, str],
    ) -> PrefixInfo:
        return PrefixInfo(
            self.space.prefix,
            self.clock,
            self.instances,
            self.listed,
            counters,
            tombstones,
            missing,
            unreadable,
        )

    # --- Pieces ----------------------------------------------------------------------------------

    def _heads(self, keys: Sequence[str]) -> Reading[tuple[dict[str, int], dict[str, Any]]]:
        """The sizes of the counters' hashes, and their heads: text, None, or Unreadable."""
        names = [self.space.counter(key) for key in keys]
        commands: list[Command] = [("HLEN", name) for name in names]
        commands += [("HMGET", name, HEAD) for name in names]
        replies = yield commands
        sizes: dict[str, int] = {}
        heads: dict[str, Any] = {}
        for key, size, head in zip(keys, replies, replies[len(keys) :], strict=False):
            if is_wrong_type(size):
                sizes[key], heads[key] = 0, Unreadable("it is not a hash")
            else:
                sizes[key], heads[key] = refused_is_raised(size), _text(refused_is_raised(head)[0])
        # Between the two commands the counter may have been created.
        doubtful = [key for key in keys if sizes[key] and heads[key] is None]
        if doubtful:
            again = yield [("HMGET", self.space.counter(key), HEAD) for key in doubtful]
            for key, head in zip(doubtful, again, strict=True):
                heads[key] = _text(refused_is_raised(head)[0]) or Unreadable(
                    "it is a hash without a head"
                )
        return sizes, heads

    def _slices(self, sizes: Mapping[str, int]) -> Reading[dict[str, Fields]]:
        """All fields of these counters' hashes, and the instances that own them."""
        found: dict[str, Fields] = {}
        together: list[str] = []
        room = SMALL
        small = [key for key, size in sizes.items() if size <= SMALL]
        for key in small:
            if sizes[key] > room and together:
                yield from self._read_whole(together, found)
                together, room = [], SMALL
            together.append(key)
            room -= sizes[key]
        if together:
            yield from self._read_whole(together, found)
        for key in sizes.keys() - small:
            found[key] = yield from self._scan(self.space.counter(key))
        yield from self._look_again(found.values())
        return found

    def _read_whole(self, keys: Sequence[str], found: dict[str, Fields]) -> Reading[None]:
        replies = yield [("HGETALL", self.space.counter(key)) for key in keys]
        for key, reply in zip(keys, replies, strict=True):
            found[key] = _fields(refused_is_raised(reply))

    def _scan(self, name: bytes) -> Reading[Fields]:
        """All fields of a hash, page by page."""
        found: Fields = {}
        cursor = 0
        while True:
            (reply,) = yield [("HSCAN", name, cursor, "COUNT", PAGE)]
            following, fields = refused_is_raised(reply)
            found.update(_fields(fields))
            cursor = int(following)
            if not cursor:
                return found

    def _look_again(self, counters: Iterable[Fields]) -> Reading[None]:
        """Read the entries of those that have opened or closed a session since, as far as the
        slices show it."""
        doubtful: dict[str, None] = {}
        for fields in counters:
            for name, text in fields.items():
                if name != HEAD and not self._owns(name, text):
                    doubtful[name] = None
        for names in in_chunks(list(doubtful), CHUNK):
            (entries,) = yield [("HMGET", self.space.instances, *names)]
            for name, entry in zip(names, refused_is_raised(entries), strict=True):
                self.instances.pop(name, None)
                if entry is not None:
                    self._take({name: _name(entry)})

    def _owns(self, name: str, slice_text: str) -> bool:
        """Whether the slice is of the session that its instance had when it was read."""
        owner = self.instances.get(name)
        try:
            return owner is not None and owner.session == session_in(slice_text)
        except Unreadable:  # whoever parses it says so
            return True

    def _take(self, entries: Fields) -> None:
        for name, entry in entries.items():
            if not name.startswith(HEAD):  # the head, and what else is no instance
                self.instances[name] = instance_of(name, entry, self.clock.now_ms)


def in_chunks(things: Sequence[ResultT], size: int) -> Iterable[Sequence[ResultT]]:
    return (things[at : at + size] for at in range(0, len(things), size))


def is_wrong_type(reply: object) -> bool:
    return isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply)


def refused_is_raised(reply: Any) -> Any:
    """The reply; if it is an error, raise it."""
    if isinstance(reply, Exception):
        raise reply
    return reply


def _name(value: bytes) -> str:
    """R1: names are UTF-8. A name that is not was not written by a counter; it is shown as is."""
    return value.decode("utf-8", "backslashreplace")


def _text(value: bytes | None) -> str | None:
    return None if value is None else _name(value)


def _fields(reply: Mapping[bytes, bytes]) -> Fields:
    return {_name(key): _name(value) for key, value in reply.items()}
