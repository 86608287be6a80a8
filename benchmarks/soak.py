"""`python -m benchmarks.soak [KEYS]`: many keys that come and go, and what is left of them (R18).

Instances count 1,000,000 distinct keys up and down to 0 in random order, in batches; now and then
one crashes between the two and another takes its place. When it is over, and the stated time has
passed, Redis must hold nothing but the sessions that are alive, and no instance must remember
anything. It starts a redis-server of its own and ends with status 1 if something is left.
"""

from __future__ import annotations

import random
import sys
import time
import tracemalloc
from typing import Any

import redis

from distkit import StrictInstanceAwareCounter
from distkit.testing import driver_of
from tests.harness.servers import RedisServer, find_binaries

INSTANCES = 20
BATCH = 100
CRASHES = 40
THRESHOLD_MS = 3_000
SEED = 7
PATIENCE_S = 1_800


class Soak:
    """Instances that count, and the figures."""

    def __init__(self, client: redis.Redis, keys: int) -> None:
        self.client = client
        self.keys = keys
        self.chance = random.Random(SEED)
        self.alive = [self._join() for _ in range(INSTANCES)]
        self.crashed = 0
        self.most_bytes = 0
        self._told = 0.0

    def _join(self) -> StrictInstanceAwareCounter:
        options: Any = {"dead_instance_threshold_ms": THRESHOLD_MS}
        counter = StrictInstanceAwareCounter(self.client, "soak", **options)
        counter.__enter__()
        return counter

    def count(self) -> None:
        """Each key is counted up by some instance, and down again by the same one, unless that has
        crashed meanwhile."""
        names = list(range(self.keys))
        self.chance.shuffle(names)
        batches = [names[first : first + BATCH] for first in range(0, self.keys, BATCH)]
        crash_after = set(self.chance.sample(range(len(batches)), min(CRASHES, len(batches))))
        open_batches: list[tuple[StrictInstanceAwareCounter, list[int]]] = []
        for number, batch in enumerate(batches):
            counter = self.chance.choice(self.alive)
            counter.inc_all((f"user-{n}", 1) for n in batch)
            open_batches.append((counter, batch))
            if len(open_batches) > 50:
                self._close(open_batches.pop(self.chance.randrange(len(open_batches))))
            if number in crash_after:
                self._crash()
            if number % 1_000 == 0:
                self._note(number * BATCH)
        for each in open_batches:
            self._close(each)

    def _close(self, each: tuple[StrictInstanceAwareCounter, list[int]]) -> None:
        counter, batch = each
        if counter in self.alive:
            counter.inc_all((f"user-{n}", -1) for n in batch)

    def _crash(self) -> None:
        """Its heartbeats stop, and nobody is told."""
        gone = self.alive.pop(self.chance.randrange(len(self.alive)))
        heart = driver_of(gone).heart
        if heart is not None:
            heart.stop()
        self.crashed += 1
        self.alive.append(self._join())

    def _note(self, done: int) -> None:
        used = int(self.client.info("memory")["used_memory"])
        self.most_bytes = max(self.most_bytes, used)
        print(f"{done:>9,} keys counted; {self._held():>9,} counters, {used / 2**20:,.0f} MiB")

    def tell(self, seconds: float) -> None:
        """Every ten seconds, what is left."""
        if seconds // 10 > self._told:
            self._told = seconds // 10
            left, remembered = self._held(), self._remembered()
            print(f"{seconds:>6.0f} s later: {left:>9,} counters, {remembered:>9,} remembered")

    def _remembered(self) -> int:
        return sum(len(driver_of(each).instance.memory) for each in self.alive)

    def _held(self) -> int:
        return self.client.hlen("distkit:{soak}:keys")

    def is_clean(self) -> bool:
        """Whether Redis holds only the living, and nobody remembers anything."""
        names: Any = self.client.keys("*")
        sessions = self.client.hlen("distkit:{soak}:instances") - 1
        only_sessions = names == [b"distkit:{soak}:instances"] and sessions == INSTANCES
        return only_sessions and not self._remembered()

    def leave(self) -> None:
        for counter in self.alive:
            counter.__exit__(None, None, None)


def main(keys: int) -> int:
    server = RedisServer(find_binaries().binaries[-1])
    client = server.client()
    empty = int(client.info("memory")["used_memory"])
    tracemalloc.start()
    soak, began = Soak(client, keys), time.monotonic()
    soak.count()
    counted = time.monotonic()
    while not soak.is_clean() and time.monotonic() - counted < PATIENCE_S:
        time.sleep(0.2)
        soak.tell(time.monotonic() - counted)
    ended, clean = time.monotonic(), soak.is_clean()
    left = int(client.info("memory")["used_memory"]) - empty
    in_process, _ = tracemalloc.get_traced_memory()
    print(
        f"{keys:,} keys by {INSTANCES} instances, {soak.crashed} crashed; threshold "
        f"{THRESHOLD_MS / 1000:.0f} s; counted in {counted - began:.0f} s; clean: {clean}, "
        f"{ended - counted:.0f} s later; Redis at most {soak.most_bytes / 2**20:,.0f} MiB, then "
        f"{left / 1024:,.0f} KiB more than empty; Python {in_process / 2**20:,.1f} MiB"
    )
    soak.leave()
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
