"""Names: which are allowed (R1), which numbers are (R2), and the Redis keys that they become.

A name holds no colon, so that the parts of a Redis key cannot run into each other and a hash can
reserve the field `:` for its own head. A prefix holds no brace either: it is the cluster's hash
tag, which puts all that belongs to it into one slot.
"""

from __future__ import annotations

from functools import lru_cache

from distkit.errors import CounterOverflowError, InvalidKeyError

LIMIT = 2**53 - 1
"""R2: exact in Lua, in JSON and in every port."""


def checked_key(key: object) -> str:
    """R1: return the key, or raise InvalidKeyError. Programs use few keys, often."""
    return _checked_key(key) if type(key) is str else checked_name(key, "key")


@lru_cache(maxsize=4096)
def _checked_key(key: str) -> str:
    return checked_name(key, "key")


def checked_name(name: object, what: str, forbidden: str = ":") -> str:
    """R1: return the name, or raise InvalidKeyError saying what is wrong with it."""
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


def checked_int(number: object, what: str) -> int:
    """Return the number, or raise TypeError: a bool or a float is no count."""
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
    """The Redis keys of one prefix; see PROTOCOL.md, "Keys".

    They are bytes: names are UTF-8 in Redis, whatever encoding the client is set to (R1).
    """

    def __init__(self, prefix: str) -> None:
        root = f"distkit:{{{checked_name(prefix, 'prefix', ':{}')}}}:".encode()
        self.prefix = prefix
        self.instances = root + b"instances"
        self.keys = root + b"keys"
        self._counters = root + b"counter:"

    def counter(self, key: str) -> bytes:
        return self._counters + key.encode()
