"""The crash shoot-out: five ways to limit how many work at once, and processes that are killed.

Several processes share a few slots. Each takes a slot, works, gives it back, and begins again. Who
is really inside is known: each process says so in memory that it shares with this one, which leaves
out those that it has killed. Two runs for each way:

* kill: processes are killed with SIGKILL at random, and others take their places;
* flush: nobody is killed, but Redis loses everything twice.

What each way believes is compared all the time with what is true. *Leaked* are slots that were
taken and held by nobody for longer than twice the time to live, *lost* are holders that were not
counted for as long; of both, the most at any time. *Over-admitted* is for how much of the time more
were inside than there are slots.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import deque
from multiprocessing.sharedctypes import Synchronized
from typing import Any, NamedTuple

from docs.measure.ways import SLOTS, TTL_MS, WAYS, available
from tests.harness.servers import RedisServer, find_binaries

PROCESSES = 6
KILLS, PAUSES_S = 8, (1.0, 3.0)
FLUSH_S, FLUSHES = 6.0, (1.5, 3.5)
SETTLE_S = 4 * TTL_MS / 1000
"""How long we go on looking after the last fault."""
LONG_S = 2 * TTL_MS / 1000
"""What is wrong for so long is not a crash that is about to be noticed."""
EVERY_S = 0.02


def work(way: str, socket: str, seed: int, inside: Synchronized[int], admitted: Any) -> None:
    """One process, until it is killed."""
    chance = random.Random(seed)
    with WAYS[way].semaphore(socket) as semaphore:
        while True:
            if not semaphore.enter():
                time.sleep(chance.uniform(0.02, 0.06))
                continue
            inside.value = 1
            with admitted.get_lock():
                admitted.value += 1
            time.sleep(chance.uniform(0.15, 0.4))
            inside.value = 0
            semaphore.leave()


class Sample(NamedTuple):
    at: float
    inside: int
    taken: int


class Crew:
    """The processes."""

    def __init__(self, way: str, server: RedisServer) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._way, self._server = way, server
        self._seed = 0
        self.admitted = self._context.Value("i", 0)
        self.inside = [self._context.Value("i", 0) for _ in range(PROCESSES)]
        self.processes: list[Any] = [self._start(place) for place in range(PROCESSES)]

    def _start(self, place: int) -> Any:
        self._seed += 1
        given = (self._way, self._server.socket, self._seed, self.inside[place], self.admitted)
        process = self._context.Process(target=work, args=given, daemon=True)
        process.start()
        return process

    def kill(self, place: int) -> None:
        os.kill(self.processes[place].pid, signal.SIGKILL)
        self.processes[place].join()
        self.inside[place].value = 0

    def replace(self, place: int) -> None:
        self.kill(place)
        self.processes[place] = self._start(place)

    def sample(self, seconds: float) -> list[Sample]:
        """What is true and what is believed, again and again."""
        found, end = [], time.monotonic() + seconds
        with self._server.client() as client:
            while time.monotonic() < end:
                inside = sum(number.value for number in self.inside)
                taken = WAYS[self._way].taken(client)
                found.append(Sample(time.monotonic(), inside, taken))
                time.sleep(EVERY_S)
        return found


def _run(way: str, flush: bool) -> dict[str, Any]:
    server = RedisServer(find_binaries().binaries[-1])
    crew = Crew(way, server)
    chance = random.Random(1)
    while not crew.admitted.value:
        time.sleep(0.05)
    samples: list[Sample] = []
    if flush:
        before = 0.0
        for at in (*FLUSHES, FLUSH_S):
            samples += crew.sample(at - before)
            before = at
            if at != FLUSH_S:
                server.client().flushall()
    else:
        for _ in range(KILLS):
            samples += crew.sample(chance.uniform(*PAUSES_S))
            crew.replace(chance.randrange(PROCESSES))
    samples += crew.sample(SETTLE_S)
    for place in range(PROCESSES):
        crew.kill(place)
    server.stop()
    over = sum(sample.inside > SLOTS for sample in samples)
    return {
        "kills": 0 if flush else KILLS,
        "admitted": crew.admitted.value,
        "leaked": _lasting(samples, 1),
        "lost": _lasting(samples, -1),
        "most_inside": max(sample.inside for sample in samples),
        "over_admitted": round(over / len(samples), 3),
    }


def _lasting(samples: list[Sample], sign: int) -> int:
    """How many more (sign 1) or fewer (-1) were believed than true, without a break for LONG_S: of
    all stretches of that length, the most."""
    most = 0
    stretch: deque[Sample] = deque()
    for sample in samples:
        stretch.append(sample)
        while len(stretch) > 1 and sample.at - stretch[1].at >= LONG_S:
            stretch.popleft()
        if sample.at - stretch[0].at >= LONG_S:
            most = max(most, min(sign * (one.taken - one.inside) for one in stretch))
    return most


def measure() -> dict[str, Any]:
    rows = []
    for way in available():
        rows.append({"name": WAYS[way].title, "kill": _run(way, False), "flush": _run(way, True)})
        print(rows[-1], flush=True)
    return {"slots": SLOTS, "processes": PROCESSES, "ttl_ms": TTL_MS, "rows": rows}
