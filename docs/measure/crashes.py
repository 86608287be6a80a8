"""Servers that count their connections in two ways, and are killed with SIGKILL.

Each server is a process. It opens and closes connections at random, and counts each of them twice:
with INCRBY on one Redis key, and with a counter of distkit. The true number is known: each process
keeps its own in memory that it shares with this one, which leaves out those that it has killed.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.sharedctypes import Synchronized
from typing import Any

import redis

from distkit import StrictInstanceAwareCounter
from tests.harness.servers import RedisServer, find_binaries

SERVERS = 4
SECONDS = 24.0
EVERY_S = 0.1
THRESHOLD_MS = 2_000
KILLS = ((4.0, 1), (9.0, 3), (14.0, 0), (18.0, 2))
"""When which server is killed."""
BACK_AFTER_S = 1.2
"""How long after that its successor starts."""
MOST = 20


def serve(socket: str, seed: int, mine: Synchronized[int]) -> None:
    """One server, until it is killed."""
    chance = random.Random(seed)
    client = redis.Redis(unix_socket_path=socket)
    counter = StrictInstanceAwareCounter(
        redis.Redis(unix_socket_path=socket), "shop", dead_instance_threshold_ms=THRESHOLD_MS
    )
    with counter:
        while True:
            opens = mine.value == 0 or (mine.value < MOST and chance.random() < 0.62)
            by = 1 if opens else -1
            client.incrby("connections", by)
            counter.inc("connections", by)
            mine.value += by
            time.sleep(chance.uniform(0.05, 0.2))


class Fleet:
    """The servers, and how many connections each has."""

    def __init__(self, server: RedisServer) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._socket = server.socket
        self._seed = 0
        self.connections = [self._context.Value("i", 0) for _ in range(SERVERS)]
        self.processes: list[Any] = [None] * SERVERS
        for place in range(SERVERS):
            self.start(place)

    def start(self, place: int) -> None:
        self._seed += 1
        self.connections[place].value = 0
        given = (self._socket, self._seed, self.connections[place])
        process = self._context.Process(target=serve, args=given, daemon=True)
        process.start()
        self.processes[place] = process

    def kill(self, place: int) -> int:
        """Kill it. Returns how many connections it had."""
        process = self.processes[place]
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        had = int(self.connections[place].value)
        self.connections[place].value = 0
        self.processes[place] = None
        return had

    def counts(self) -> list[int | None]:
        return [
            int(number.value) if process else None
            for number, process in zip(self.connections, self.processes, strict=True)
        ]


def measure() -> dict[str, Any]:
    server = RedisServer(find_binaries().binaries[-1])
    client = server.client()
    reader = StrictInstanceAwareCounter(client, "shop", dead_instance_threshold_ms=THRESHOLD_MS)
    fleet = Fleet(server)
    while not all(number.value for number in fleet.connections):
        time.sleep(0.05)
    kills, samples = [], []
    events = [(at, "kill", place) for at, place in KILLS]
    events += [(at + BACK_AFTER_S, "start", place) for at, place in KILLS]
    events.sort()
    begin = time.monotonic()
    while (now := time.monotonic() - begin) < SECONDS:
        while events and events[0][0] <= now:
            _, what, place = events.pop(0)
            if what == "kill":
                kills.append({"at": round(now, 2), "server": place, "had": fleet.kill(place)})
            else:
                fleet.start(place)
        counts = fleet.counts()
        plain: Any = client.get("connections")
        ours = reader.get("connections").cumulative
        samples.append([round(now, 2), counts, int(plain), ours])
        time.sleep(EVERY_S)
    for place in range(SERVERS):
        if fleet.processes[place] is not None:
            fleet.kill(place)
    server.stop()
    return {"threshold_ms": THRESHOLD_MS, "kills": kills, "samples": samples}
