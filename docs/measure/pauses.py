"""How long a process may be paused before it is presumed dead.

A process sends heartbeats in the background. It is stopped (SIGSTOP) for a part of its threshold,
at a random moment between two heartbeats, and another instance looks whether it still counts.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from typing import Any

import redis

from distkit import StrictInstanceAwareCounter
from tests.harness.servers import RedisServer, find_binaries

THRESHOLD_MS = 3_000
SHARES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1)
PROCESSES = 12
ROUNDS = 2


def beat(socket: str) -> None:
    with StrictInstanceAwareCounter(
        redis.Redis(unix_socket_path=socket), "p", dead_instance_threshold_ms=THRESHOLD_MS
    ) as counter:
        counter.inc("k")
        while True:
            time.sleep(60)


def _pause(processes: list[Any], reader: StrictInstanceAwareCounter, share: float) -> int:
    """Pause all of them, each from a moment of its own. Returns how many died of it."""
    period = THRESHOLD_MS / 1000
    starts = [(random.uniform(0, period / 3), process) for process in processes]
    events = [(at, signal.SIGSTOP, process.pid) for at, process in starts]
    events += [(at + period * share, signal.SIGCONT, process.pid) for at, process in starts]
    begin, dead = time.monotonic(), 0
    for at, number, pid in sorted(events):
        time.sleep(max(0.0, begin + at - time.monotonic()))
        if number == signal.SIGCONT:
            dead += not _is_live(reader, pid)
        os.kill(pid, number)
    time.sleep(period)
    return dead


def _is_live(reader: StrictInstanceAwareCounter, pid: int) -> bool:
    """Whether its slice still counts. Its label ends with its process id."""
    instances = reader.inspect().instances.values()
    return any(i.is_live and i.label.endswith(f":{pid}") for i in instances)


def measure() -> dict[str, Any]:
    server = RedisServer(find_binaries().binaries[-1])
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=beat, args=(server.socket,), daemon=True) for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    rows = []
    # Somebody goes on sending heartbeats. If all were silent at once, it would be an outage (R19).
    with StrictInstanceAwareCounter(
        server.client(), "p", dead_instance_threshold_ms=60_000
    ) as reader:
        while reader.get("k").cumulative < PROCESSES:
            time.sleep(0.05)
        for share in SHARES:
            died = sum(_pause(processes, reader, share) for _ in range(ROUNDS))
            rows.append([share, died, ROUNDS * PROCESSES])
    for process in processes:
        process.kill()
    server.stop()
    return {"threshold_ms": THRESHOLD_MS, "pauses": rows}
