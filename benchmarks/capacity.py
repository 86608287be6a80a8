"""`python -m benchmarks.capacity [--to FILE]`: the capacity model, and how well it predicts.

It measures what requests cost a redis-server and how much memory sessions, slices and counters
take. From these constants the model says what any number of instances, keys and calls needs. Then
it simulates 100,000 instances: their requests, as PROTOCOL.md spells them, with a wall clock of
their own, on the real script. What the server used is compared with what the model predicted.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import scene
from benchmarks.capacity_model import Constants, Load
from benchmarks.capacity_page import page
from distkit import StrictInstanceAwareCounter
from distkit.core import operations
from distkit.redis.script import COUNTER
from distkit.testing import driver_of
from tests.harness.servers import RedisServer, find_binaries

REPEATS = 5
CALLS = 400
MANY = 100_000
"""How many instances are simulated."""
FEW = 100
"""How many slices a counter of the simulation has. (Redis packs hashes of up to 512 fields.)"""


class Bench:
    """A redis-server, and what its scripts take."""

    def __init__(self) -> None:
        # An open among many sessions takes long on a busy machine; nobody is told BUSY for that.
        self.server = RedisServer(find_binaries().binaries[-1], "--lua-time-limit", "0")
        self.client = self.server.client()
        self.client.script_load(COUNTER.text)

    def cpu_us(self) -> float:
        """The microseconds of processor time that the server has used: what other programs do at
        the same time matters little to it."""
        found: Any = self.client.info("cpu")
        return (float(found["used_cpu_user"]) + float(found["used_cpu_sys"])) * 1e6

    def cost(self, call: Callable[[], object], times: int = CALLS) -> float:
        """The microseconds of the server for each call: the median of several runs."""
        found = []
        for _ in range(REPEATS):
            before = self.cpu_us()
            for _ in range(times):
                call()
            found.append((self.cpu_us() - before) / times)
        return statistics.median(found)

    def used(self) -> int:
        return int(self.client.info("memory")["used_memory"])


def measure(bench: Bench) -> Constants:
    """Measure the constants on an otherwise empty server."""
    client = bench.client
    counter = scene.counter_on(client)
    counter.inc("k")
    driver = driver_of(counter)
    call = bench.cost(lambda: counter.inc("k"))
    steps = [operations.inc("k", 1 + number % 2) for number in range(512)]
    keys = [operations.inc(f"k{number}", 1) for number in range(100)]
    driver.run(keys)
    step = (bench.cost(lambda: driver.run(steps), 40) - call) / 511
    key = (bench.cost(lambda: driver.run(keys), 40) - call) / 99
    looks = bench.cost(counter.heartbeat)
    idle = scene.counter_on(client)
    beat = bench.cost(idle.heartbeat)
    opens = _opens(bench, 20_000)
    departure = _first_calls(bench, 2_000, after=_leaves) - _first_calls(bench, 2_000, after=_stays)
    short, long = (_first_calls(bench, some, after=_dies) for some in (1_000, 21_000))
    client.flushall()
    return Constants(
        call,
        step,
        key,
        beat,
        (looks - beat) / 10,
        opens,
        departure,
        (long - short) / 20_000,
        *_bytes(bench),
    )


def _opens(bench: Bench, sessions: int) -> float:
    """What it takes to open a session among so many."""
    bench.client.flushall()
    member = scene.among_instances(bench.client, sessions)
    prefix = driver_of(member).space.prefix
    beat = bench.cost(member.heartbeat, 20)

    def join() -> None:
        scene.counter_on(bench.client, prefix)  # it opens, and beats once

    return bench.cost(join, 3) - beat


def _stays(counter: StrictInstanceAwareCounter, bench: Bench) -> None:
    """It has opened a session, which nobody has to notice."""


def _leaves(counter: StrictInstanceAwareCounter, bench: Bench) -> None:
    driver_of(counter).leave()


def _dies(counter: StrictInstanceAwareCounter, bench: Bench) -> None:
    """A lease ends: the counter's earliest expiry is set to long ago."""
    name = f"distkit:{{{driver_of(counter).space.prefix}}}:counter:k"
    head: Any = bench.client.hget(name, ":")
    layout, epoch, high, low, _, closed = head.decode().split()
    bench.client.hset(name, ":", f"{layout} {epoch} {high} {low} 1 {closed}")


def _first_calls(
    bench: Bench, slices: int, after: Callable[[StrictInstanceAwareCounter, Bench], None]
) -> float:
    """What a call takes, on a counter with so many slices, that is the first since somebody has
    left, or since a lease has ended."""
    bench.client.flushall()
    member = scene.among_instances(bench.client, slices)
    prefix = driver_of(member).space.prefix
    found = []
    for _ in range(40 * REPEATS):
        after(scene.counter_on(bench.client, prefix), bench)
        before = bench.cpu_us()
        member.inc("k")
        found.append(bench.cpu_us() - before)
    return statistics.fmean(found)


def _bytes(bench: Bench) -> tuple[float, float, float]:
    """Of a session, of a slice, and of a counter with one slice."""
    client = bench.client
    sizes = {}
    for name, many in (("instances", MANY), ("counter:k", FEW)):
        client.flushall()
        member = scene.among_instances(client, many)
        key = f"distkit:{{{driver_of(member).space.prefix}}}:{name}"
        sizes[name] = (client.memory_usage(key, samples=0) or 0) / many
    client.flushall()
    empty = bench.used()
    scene.among_keys(client, MANY)
    counter = (bench.used() - empty) / MANY
    client.flushall()
    return sizes["instances"], sizes["counter:k"], counter


# --- The simulation ------------------------------------------------------------------------------

PREFIX = "sim"
ROOT = f"distkit:{{{PREFIX}}}:"
SIMULATED = Load(MANY, 1_000, MANY, 10_000, 30.0, 1, 100.0, 100.0, 0.0)
SIMULATED_S = 10.0
"""One heartbeat of each instance."""
SESSION = 9
AT_ONCE = 200


def _name(number: int) -> str:
    """As long as a UUID."""
    return f"{number:036}"


class Simulation:
    """100,000 instances with one slice each, and their requests for ten seconds."""

    def __init__(self, bench: Bench, load: Load) -> None:
        self.bench, self.load = bench, load
        self.chance = random.Random(5)
        self.wall_ms = 1_000_000
        self.threshold_ms = int(load.threshold_s * 1000)
        self.seq = [2] * load.instances
        self.count = [1] * load.instances
        self.gone: set[int] = set()
        self._write()

    def _write(self) -> None:
        """Everybody is there, and counts 1."""
        client, load = self.bench.client, self.load
        expires = self.wall_ms + self.threshold_ms
        head = f"1 {self.wall_ms} {self.wall_ms} {SESSION} {SESSION} 0"
        entry = f"{expires} {self.threshold_ms} {SESSION} 0 2 simulated"
        names = [_name(number) for number in range(load.instances)]
        client.hset(ROOT + "instances", ":", head)
        for first in range(0, len(names), 1_000):
            client.hset(
                ROOT + "instances", mapping=dict.fromkeys(names[first : first + 1_000], entry)
            )
        each = load.instances // load.counters
        pipeline = client.pipeline(transaction=False)
        for number in range(load.counters):
            members = names[number :: load.counters]
            slices: Any = dict.fromkeys(members, f"1 0 2 {SESSION} 0 0 0 0")
            slices[":"] = f"1 0 0 {each} {expires} {SESSION}"
            pipeline.hset(f"{ROOT}counter:c{number}", mapping=slices)
            pipeline.hset(ROOT + "keys", f"c{number}", 0)
        pipeline.execute()

    def run(self) -> None:
        """Requests in random order, and the clock that goes on."""
        load = self.load
        due: list[tuple[str, int]] = [("beat", number) for number in range(load.instances)]
        due += [
            ("call", self.chance.randrange(load.instances))
            for _ in range(int(load.calls_s * SIMULATED_S))
        ]
        self.chance.shuffle(due)
        events = {
            self.chance.randrange(len(due)): what
            for what, each_s in (("join", load.joins_s), ("leave", load.leaves_s))
            for _ in range(int(each_s * SIMULATED_S))
        }
        pipeline = self.bench.client.pipeline(transaction=False)
        for place, (what, number) in enumerate(due):
            self.wall_ms = 1_000_000 + int(place / len(due) * SIMULATED_S * 1000)
            if place in events:
                self._come_or_go(pipeline, events[place], place)
            if number not in self.gone:
                self._request(pipeline, number, "+1" if what == "call" else "?")
            if len(pipeline) >= AT_ONCE:
                self._check(pipeline.execute())
        self._check(pipeline.execute())

    def _request(self, pipeline: Any, number: int, steps: str) -> None:
        name, key = _name(number), f"{ROOT}counter:c{number % self.load.counters}"
        last, self.seq[number] = self.seq[number], self.seq[number] + 1
        words = (name, SESSION, self.seq[number], last, self.threshold_ms, 0, self.wall_ms)
        memory = (0, self.count[number], last, steps)
        self._send(pipeline, [key], *words, *memory)
        self.count[number] += steps == "+1"

    def _come_or_go(self, pipeline: Any, what: str, place: int) -> None:
        words: tuple[object, ...]
        if what == "join":
            words = (f"new-{place}", 0, 1, 0, self.threshold_ms, 0, self.wall_ms, 0, "new")
        else:
            number = self.chance.randrange(self.load.instances)
            if number in self.gone:
                return
            self.gone.add(number)
            seq = self.seq[number]
            words = (_name(number), -SESSION, seq + 1, seq, self.threshold_ms, 0, self.wall_ms)
        self._send(pipeline, [], *words)

    @staticmethod
    def _send(pipeline: Any, counters: list[str], *words: object) -> None:
        keys = [ROOT + "instances", ROOT + "keys", *counters]
        pipeline.evalsha(COUNTER.sha, len(keys), *keys, *words)

    @staticmethod
    def _check(replies: list[Any]) -> None:
        for reply in replies:
            assert reply[0] == 1, f"no request may be refused: {reply}"

    def is_right(self) -> bool:
        """Whether every total is the sum of the slices of those that are there."""
        reader = StrictInstanceAwareCounter(
            self.bench.client, PREFIX, clock_ms=lambda: self.wall_ms
        )
        for number in range(self.load.counters):
            members = range(number, self.load.instances, self.load.counters)
            here = sum(self.count[each] for each in members if each not in self.gone)
            if reader.get(f"c{number}").cumulative != here:
                return False
        return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity")
    parser.add_argument("--to", metavar="FILE", help="where the page goes; default: the screen")
    asked = parser.parse_args()
    bench = Bench()
    constants = measure(bench)
    bench.client.flushall()
    empty = bench.used()
    simulation = Simulation(bench, SIMULATED)
    memory = bench.used() - empty
    before = bench.cpu_us()
    simulation.run()
    cores = (bench.cpu_us() - before) / 1e6 / SIMULATED_S
    right = simulation.is_right()
    text = page(constants, SIMULATED, cores, memory, right)
    bench.server.stop()
    if asked.to:
        Path(asked.to).write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
