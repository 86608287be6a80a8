"""What an error says about a request: surely not executed, refused by the server, or unknown.

A request may have been executed as soon as its first byte was sent. Three things prove that a
transmission executed nothing: it was never sent, the server answered with an error, or the server
answered that it cannot serve now. Only then is the transmission taken back (`not_executed`); an
earlier copy of the same request may still have been executed (R12).
"""

from __future__ import annotations

import re
from typing import Any, Final

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from distkit.core.instance import Request
from distkit.errors import InvalidKeyError
from distkit.redis.script import Inquiry

Message = Request | Inquiry

UNREACHABLE: Final[tuple[type[Exception], ...]] = (RedisConnectionError, RedisTimeoutError, OSError)
"""No answer; the client's retry policy decides about another transmission."""

ANSWERS: Final[tuple[type[Exception], ...]] = (
    ResponseError,
    BusyLoadingError,
    AuthenticationError,
    AuthorizationError,
)
"""The server answered with an error."""

IN_SCRIPT: Final = re.compile(r"@user_script: ?\d+: -([A-Z]+) (.*)", re.S)
"""Redis 6.2 wraps the error of a command inside a script into this text."""

CLASSES: Final[dict[str, type[Exception]]] = {
    "READONLY": ReadOnlyError,
    "OOM": OutOfMemoryError,
    "NOPERM": NoPermissionError,
    "LOADING": BusyLoadingError,
    "MASTERDOWN": MasterDownError,
    "CLUSTERDOWN": ClusterDownError,
}
FORBIDDEN: Final = ("The user executing the script can't", "ACL failure in script")
"""How Redis 6.2 and 7.0 say NOPERM inside a script."""

STALE: Final[tuple[type[Exception], ...]] = (
    ReadOnlyError,
    MasterDownError,
    AuthenticationError,
    NoPermissionError,
)
"""The connection leads to the wrong server or has the wrong rights: a new one may be better."""


class Abandoned(Exception):
    """The client's retries are used up without a reply. `__cause__` is the last error."""


class NotNow(RedisConnectionError):
    """The server executed nothing and cannot serve now. Retry policies take it for a lost
    connection."""


def recognised(error: Exception) -> Exception:
    """The error of its own class, where the server wrapped it into the text of a script's error."""
    if type(error) is not ResponseError:
        return error
    text = str(error)
    if any(phrase in text for phrase in FORBIDDEN):
        return NoPermissionError(text)
    if found := IN_SCRIPT.search(text):
        kind = CLASSES.get(found[1])
        if kind is not None:
            return kind(f"{found[1]} {found[2]}")
    if "unknown command" in text.lower() and "eval" in text.lower():
        return ResponseError(
            f"{text} (this server runs no Lua scripts; if it is fakeredis: install fakeredis[lua])"
        )
    return error


def answer_in(error: BaseException) -> Exception | None:
    """The server's answer, if this error says that there was one."""
    if isinstance(error, ANSWERS):
        return recognised(error)
    # A connection that Sentinel manages turns READONLY into a connection error.
    if isinstance(error.__context__, ReadOnlyError):
        return error.__context__
    return None


def to_raise(answer: Exception, elsewhere: tuple[type[Exception], ...]) -> Exception:
    """What to raise for this answer: NotNow if another transmission may fare better.

    Args:
        answer: the error that the server answered with.
        elsewhere: the answers after which the client finds a better server, or the same one later.
    """
    if not isinstance(answer, (BusyLoadingError, *elsewhere)):
        return answer
    not_now = NotNow(str(answer))
    not_now.__cause__ = answer
    return not_now


def not_executed(message: Message) -> None:
    """The last transmission executed nothing. An earlier copy may have been executed."""
    message.arrived = message.resent


def judged(error: Exception, message: Message) -> Exception:
    """Classify the error that ended a request: the caller's error, or Abandoned.

    The caller gets what the server refused, if no copy of the request can have been executed. With
    Abandoned, `message.arrived` says whether the request may have been executed.
    """
    refused = isinstance(error, ResponseError | AuthenticationError)
    if refused and not message.arrived:
        return prefix_in_other_use(message.keys) if "WRONGTYPE" in str(error) else error
    abandoned = Abandoned()
    abandoned.__cause__ = error
    return abandoned


def prefix_in_other_use(keys: list[bytes]) -> InvalidKeyError:
    """R1's error if one of the two keys that every prefix has holds something else."""
    instances, names = (key.decode() for key in keys[:2])
    return InvalidKeyError(
        f"this prefix cannot be used: the Redis keys {instances!r} and {names!r} (hashes) are "
        f"its own, and one of them holds something else"
    )


def address_in(error: Any) -> tuple[str, int]:
    """Where a redirection points to; the host is empty if it is the server's own."""
    return error.host, int(error.port)
