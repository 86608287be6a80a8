"""Which names and numbers are allowed (R1, R2), and the Redis keys that names become.

A name contains no colon: the parts of a Redis key stay apart, and a hash can use the field `:` for
its own head. A prefix contains no brace either: it becomes the cluster's hash tag, which puts all
keys of the prefix into one slot.
"""

from __future__ import annotations

import os
import socket
import unicodedata
from functools import lru_cache
from typing import Final

from distkit.errors import CounterOverflowError, InvalidKeyError

LIMIT = 2**53 - 1
"""R2: the largest count. Lua, JSON and every port represent it exactly."""


def checked_key(key: object) -> str:
    """R1: return the key, or raise InvalidKeyError. Cached, because programs reuse their keys."""
    return _checked_key(key) if type(key) is str else checked_name(key, "key")


@lru_cache(maxsize=4096)
def _checked_key(key: str) -> str:
    return checked_name(key, "key")


def checked_name(name: object, what: str, forbidden: str = ":") -> str:
    """R1: return the name, or raise an InvalidKeyError that says what is wrong with it."""
    if not isinstance(name, str):
        raise InvalidKeyError(f"{what} must be a str, not {type(name).__name__}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidKeyError(f"{what} cannot be written in UTF-8: {name!r}") from None
    if not 1 <= size <= 255:
        raise InvalidKeyError(f"{what} must have 1 to 255 bytes in UTF-8, not {size}")
    for char in forbidden:
        if char in name:
            raise InvalidKeyError(f"{what} must not contain {char!r}: {name!r}")
    return name


MOST_LABEL: Final = 64
"""How many bytes a label has at most."""


def checked_label(label: object) -> str:
    """Return the label, or raise TypeError or ValueError."""
    if not isinstance(label, str):
        raise TypeError(f"label must be a str, not {type(label).__name__}")
    try:
        size = len(label.encode())
    except UnicodeEncodeError:
        raise ValueError(f"label cannot be written in UTF-8: {label!r}") from None
    if size > MOST_LABEL:
        raise ValueError(f"label must have at most {MOST_LABEL} bytes in UTF-8, not {size}")
    if any(unicodedata.category(char) == "Cc" for char in label):
        raise ValueError(f"label must not contain control characters: {label!r}")
    return label


def default_label() -> str:
    """Where this process runs: `host:pid`."""
    tail = f":{os.getpid()}"
    host = "".join(char for char in socket.gethostname() if char.isprintable())
    return host.encode()[: MOST_LABEL - len(tail)].decode(errors="ignore") + tail


def checked_int(number: object, what: str) -> int:
    """Return the number, or raise TypeError: neither a bool nor a float is a count."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{what} must be an int, not {type(number).__name__}")
    return number


def checked_count(number: object, what: str = "count") -> int:
    """R2: return the count, or raise TypeError or CounterOverflowError."""
    if type(number) is int and -LIMIT <= number <= LIMIT:
        return number
    count = checked_int(number, what)
    if not -LIMIT <= count <= LIMIT:
        raise CounterOverflowError(f"{what} must be from -(2^53 - 1) to 2^53 - 1, not {count}")
    return count


class Keyspace:
    """The Redis keys of one prefix, or of one of its partitions; see PROTOCOL.md, "Keys".

    They are bytes, because names are UTF-8 in Redis whatever encoding the client uses (R1).

    Args:
        prefix: the namespace.
        partition: what the partition is called in the place of the prefix (R21).
    """

    def __init__(self, prefix: str, partition: str | None = None) -> None:
        checked_name(prefix, "prefix", ":{}")
        root = f"distkit:{{{partition or prefix}}}:".encode()
        self.prefix = prefix
        self.instances: bytes = root + b"instances"
        self.keys: bytes = root + b"keys"
        self.own: tuple[bytes, bytes] = (self.instances, self.keys)
        self.counters: bytes = root + b"counter:"

    def counter(self, key: str) -> bytes:
        return self.counters + key.encode()
