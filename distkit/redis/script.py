"""The Lua script, and the bytes of a request that runs it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from importlib import resources
from typing import Any, Final

from distkit.core.instance import Request
from distkit.keys import Keyspace, checked_int

Clock = Callable[[], int]


def _pack(words: Iterable[bytes | str | int]) -> bytes:
    """A command in RESP."""
    encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    lines = [b"*%d\r\n" % len(encoded)]
    lines += [b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded]
    return b"".join(lines)


try:
    from hiredis import pack_command
except ImportError:
    pack: Callable[[Any], bytes] = _pack
else:
    pack = pack_command


HERE: Final = b"0"
"""What the hash of a prefix's keys says of a counter that is there; of others, their epoch."""


class Script:
    """The Lua script. It is sent by its hash, and as a whole to a server that does not know it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha: str = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def by_hash(self, request: Request, wall_ms: int | None) -> tuple[Any, ...]:
        """The command. A server that answers NoScriptError executed nothing; send it `whole`."""
        keys, wall = request.keys, "" if wall_ms is None else wall_ms
        return ("EVALSHA", self.sha, len(keys), *keys, *request.head, wall, *request.parts)

    def whole(self, command: tuple[Any, ...]) -> tuple[Any, ...]:
        """The same command with the script's text in it."""
        return ("EVAL", self.text, *command[2:])


COUNTER = Script((resources.files("distkit.redis") / "counter.lua").read_text("utf-8"))


class Wall:
    """R3's wall clock: the server's own, or a test's."""

    def __init__(self, clock_ms: Clock | None) -> None:
        if clock_ms is not None and not callable(clock_ms):
            raise TypeError(f"clock_ms must be callable, not {type(clock_ms).__name__}")
        self._clock_ms = clock_ms
        self.is_the_servers: bool = clock_ms is None

    def read(self) -> int | None:
        """The time in ms; None asks the script to read the server's clock."""
        if self._clock_ms is None:
            return None
        return checked_int(self._clock_ms(), "clock_ms()")


class Inquiry(ABC):
    """A command besides the script's: pass its reply to `hear`. To a transport it is a request that
    may be sent any number of times.

    Attributes:
        keys: Redis keys in the slot to which it goes.
        arrived, resent, transmissions: as for a `Request`.
    """

    def __init__(self, keys: list[bytes]) -> None:
        self.arrived: bool = False
        self.resent: bool = False
        self.transmissions: int = 0
        self.keys: list[bytes] = keys

    @abstractmethod
    def words(self) -> tuple[Any, ...]:
        """The command."""

    @abstractmethod
    def hear(self, reply: Any) -> None:
        """Take the reply, which is not decoded."""


MARK: Final = """\
if not redis.call('HGET', KEYS[1], ':') then
    redis.call('HSET', KEYS[1], ':', ARGV[1])
end
return redis.call('HGET', KEYS[1], ':')"""
"""Marks a prefix, unless it is marked or used, and returns the head that it has."""


class Mark(Inquiry):
    """R21: makes sure that a prefix is marked as divided.

    Args:
        space: the Redis keys of the prefix.
        wanted: the head that says so.

    Attributes:
        wanted, found: the head that there should be, and the one that there is.
    """

    def __init__(self, space: Keyspace, wanted: str) -> None:
        super().__init__([*space.own])
        self.wanted: str = wanted
        self.found: str = ""

    def words(self) -> tuple[Any, ...]:
        return ("EVAL", MARK, 1, self.keys[0], self.wanted)

    def hear(self, reply: Any) -> None:
        self.found = reply.decode()


class Scan(Inquiry):
    """`HSCAN` over the hash of a prefix's keys: send it, and again, until `done`.

    Attributes:
        found: the keys of the counters that are there, so far; not of those of which only the epoch
            is left (R18).
        at_once: about how many keys Redis returns at once.
    """

    def __init__(self, space: Keyspace) -> None:
        super().__init__([*space.own])
        self.at_once: int = 1000
        self.found: set[str] = set()
        self.done: bool = False
        self._cursor = 0

    def words(self) -> tuple[Any, ...]:
        return ("HSCAN", self.keys[1], self._cursor, "COUNT", self.at_once)

    def hear(self, reply: Any) -> None:
        cursor, fields = reply
        self._cursor = int(cursor)
        pairs = zip(fields[::2], fields[1::2], strict=True)
        self.found.update(key.decode() for key, epoch in pairs if epoch == HERE)
        self.done = not self._cursor
        self.arrived = self.resent = False


class Sweep(Scan):
    """A scan that goes on for as long as the instance lives, a little at a time (R18)."""

    def take(self, most: int) -> list[str]:
        """At most so many of the keys that were found, each once."""
        taken = sorted(self.found)[:most]
        self.found.difference_update(taken)
        return taken
