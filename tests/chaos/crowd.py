"""Many short-lived processes: `python -m tests.chaos.crowd KIND PREFIX HOW_MANY PORT...`.

Each is a fork of this process, counts on two keys, and then leaves or crashes.
"""

from __future__ import annotations

import os
import random
import sys
from typing import Any, Final

from redis.exceptions import RedisError

from distkit import DistkitError, StrictInstanceAwareCounter
from tests.chaos.clients import Steering, client_of
from tests.chaos.fleet import THRESHOLD_MS
from tests.harness.deployments import Address

AT_ONCE: Final = 10
KEYS: Final = ("crowd", "k0-0")


def live(address: Address, prefix: str, crashes: bool) -> None:
    """The life of one process. Redis may be out of reach: then it counts nothing."""
    client = client_of(address, Steering())
    options: Any = {"dead_instance_threshold_ms": THRESHOLD_MS}
    try:
        with StrictInstanceAwareCounter(client, prefix, **options) as counter:
            for key in KEYS:
                counter.inc(key)
            if crashes:
                os._exit(0)
    except (DistkitError, RedisError):
        os._exit(1)


def main(kind: str, prefix: str, how_many: int, ports: list[int]) -> None:
    address, chance = Address(kind=kind, ports=ports), random.Random(prefix)
    running: list[int] = []
    for _ in range(how_many):
        crashes = chance.random() < 0.5
        child = os.fork()
        if child == 0:
            live(address, prefix, crashes)
            os._exit(0)
        running.append(child)
        if len(running) == AT_ONCE:
            os.waitpid(running.pop(0), 0)
    for child in running:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), [*map(int, sys.argv[4:])])
