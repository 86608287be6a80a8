"""How a request gets to Redis and back: what the synchronous and the asyncio transport share.

A transport uses redis-py's connections and retry policies. It adds one thing to
`client.execute_command`: it knows whether a request had been sent before the reply came. R12
depends on that. It therefore takes a connection from the client's pool and runs the client's retry
policy around each transmission itself. A retry sends the same bytes, which the numbers of the
session make safe (R11).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

from redis.client import NEVER_DECODE
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    RedisClusterException,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from distkit.core.instance import Request
from distkit.errors import InvalidKeyError, NotExecutedError
from distkit.keys import Keyspace, checked_int

Clock = Callable[[], int]

UNREACHABLE = (RedisConnectionError, RedisTimeoutError, OSError)

NOT_NOW = (RedisClusterException, ClusterDownError)
"""A cluster's temporary errors: they are retried like a lost connection."""


class Abandoned(Exception):
    """The client's retries are used up without a reply. `__cause__` is the last error."""


class Script:
    """The Lua script. It is sent by its hash, and as a whole to a server that does not know it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha: str = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def by_hash(self, request: Request, wall_ms: int | None) -> tuple[Any, ...]:
        """The command. A server that answers NoScriptError executed nothing; send it `whole`."""
        keys = request.keys
        return ("EVALSHA", self.sha, len(keys), *keys, *request.args(wall_ms))

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

    def read(self) -> int | None:
        if self._clock_ms is None:
            return None
        return checked_int(self._clock_ms(), "clock_ms()")


def judged(error: Exception, request: Request) -> Exception:
    """Classify the error that ended a transmission: the caller's error, or Abandoned.

    The caller gets a refusal (an error reply, a wrong password) as it is: nothing was executed. If
    the refusal answered a retry, an earlier copy may have been executed, so the call is abandoned.
    """
    refusal = isinstance(error, AuthenticationError | ResponseError)
    if refusal and not request.resent:
        return prefix_in_other_use(request.keys[:2]) if "WRONGTYPE" in str(error) else error
    abandoned = Abandoned()
    abandoned.__cause__ = error
    return abandoned


JUDGED = (*UNREACHABLE, ResponseError)
"""The errors that end a transmission. Others go to the caller: an interrupt, a broken clock."""


def prefix_in_other_use(own: Sequence[bytes]) -> InvalidKeyError:
    """R1's error if one of the two keys that every prefix has holds something else."""
    instances, keys = (name.decode() for name in own)
    return InvalidKeyError(
        f"this prefix cannot be used: the Redis keys {instances!r} (a hash) and {keys!r} (a set) "
        f"are its own, and one of them holds something else"
    )


class KnownKeys:
    """`SSCAN` over the set of a prefix's keys, without I/O.

    Send `command`, pass its reply to `hear`, and repeat until `done`; the result is `found`.
    """

    options: dict[str, Any] = {NEVER_DECODE: True}  # noqa: RUF012 - it is never changed

    def __init__(self, space: Keyspace) -> None:
        self.found: set[str] = set()
        self.done: bool = False
        self._space = space
        self._cursor = 0

    @property
    def command(self) -> tuple[Any, ...]:
        return ("SSCAN", self._space.keys, self._cursor, "COUNT", 1000)

    def hear(self, reply: tuple[int, list[bytes]]) -> None:
        self._cursor, names = reply
        self.found.update(name.decode() for name in names)
        self.done = not self._cursor

    def judged(self, error: Exception) -> Exception:
        """Classify the error that ended a command."""
        if isinstance(error, (*UNREACHABLE, RedisClusterException)):
            return NotExecutedError(f"no reply from Redis ({error}): nothing was deleted")
        if "WRONGTYPE" in str(error):
            return prefix_in_other_use(self._space.own)
        return error


SCAN_ERRORS = (*UNREACHABLE, RedisClusterException, ResponseError)
"""The errors that `KnownKeys.judged` classifies."""
