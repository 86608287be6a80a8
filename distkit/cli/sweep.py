"""Finding what no list names: a search through the whole database, in short steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import redis

from distkit.cli.connection import Client, servers_of
from distkit.keys import Keyspace

STEP = 500
"""How many keys of the database one SCAN looks at: about 0.2 ms of the server's time."""


def hashes_of(client: Client, prefix: str) -> Iterator[bytes]:
    """The Redis keys that begin as those of the prefix do, or as those of its partitions, now or in
    an earlier division; each once. No other prefix has such keys: none contains a colon (R1)."""
    escaped = re.sub(rb"([*?\[\]\\^])", rb"\\\1", prefix.encode())
    pattern = b"distkit:{" + escaped + b"[}:]*"
    seen: set[bytes] = set()
    for server in servers_of(client):
        for name in _matching(server, pattern):
            if name not in seen and name.startswith(_roots(prefix)):
                seen.add(name)
                yield name


def _roots(prefix: str) -> tuple[bytes, bytes]:
    """How the Redis keys of a prefix, and those of its partitions, begin."""
    return Keyspace(prefix).instances.removesuffix(b"instances"), f"distkit:{{{prefix}:".encode()


def _matching(server: redis.Redis, pattern: bytes) -> Iterator[bytes]:
    cursor = 0
    send: Any = server.execute_command
    while True:
        # SCAN through execute_command: the client may decode what is no text.
        reply = send("SCAN", cursor, "MATCH", pattern, "COUNT", STEP, NEVER_DECODE=True)
        following, names = reply
        yield from names
        cursor = int(following)
        if not cursor:
            return
