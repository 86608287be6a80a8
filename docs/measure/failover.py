"""Failovers by Sentinel: how long calls fail, and who is presumed dead because of it.

A primary, its replica and a Sentinel. Two instances have the same threshold and their background
heartbeats. The primary is killed. Until Sentinel has promoted the replica, nobody can be heard.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import redis
import redis.sentinel

from distkit import DistkitError, Event, StrictInstanceAwareCounter
from tests.harness.servers import RedisServer, find_binaries, free_port

THRESHOLD_MS = 2_000
DOWN_AFTER_MS = (500, 1_000, 2_000, 4_000)
"""From a quarter of the threshold to twice the threshold."""
CONFIG = """
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor m 127.0.0.1 {primary} 1
sentinel down-after-milliseconds m {down_after}
sentinel failover-timeout m 10000
"""


class Sentinel:
    """A Sentinel of its own for one primary."""

    def __init__(self, server: RedisServer, down_after_ms: int) -> None:
        self.port = free_port()
        self._folder = tempfile.mkdtemp(prefix="dk-")
        config = Path(self._folder) / "sentinel.conf"
        config.write_text(
            CONFIG.format(
                port=self.port, folder=self._folder, primary=server.port, down_after=down_after_ms
            )
        )
        self._process = subprocess.Popen(
            [str(server.binary.path), str(config), "--sentinel"], stdout=subprocess.DEVNULL
        )

    def wait_until_it_knows_the_replica(self) -> None:
        while True:
            try:
                asked: Any = redis.Redis(port=self.port)
                if asked.execute_command("SENTINEL", "REPLICAS", "m"):
                    return
            except redis.exceptions.ConnectionError:
                pass
            time.sleep(0.1)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _follow(replica: redis.Redis, port: int) -> None:
    """Make it a replica, and wait until it has everything."""
    replica.replicaof("127.0.0.1", port)
    while True:
        info: Any = replica.info("replication")
        if info.get("master_link_status") == "up":
            return
        time.sleep(0.1)


def _fail_over(down_after_ms: int) -> dict[str, Any]:
    binary = find_binaries().binaries[-1]
    primary = RedisServer(binary, "--repl-diskless-sync-delay", "0", tcp=True)
    replica = RedisServer(binary, tcp=True)
    _follow(replica.client(), primary.port)
    sentinel = Sentinel(primary, down_after_ms)
    sentinel.wait_until_it_knows_the_replica()
    events: list[Event] = []
    make: Any = redis.sentinel.Sentinel

    def counter(label: str) -> StrictInstanceAwareCounter:
        asks: Any = make([("127.0.0.1", sentinel.port)])
        client = asks.master_for("m", socket_timeout=0.3)
        return StrictInstanceAwareCounter(
            client,
            "p",
            label=label,
            dead_instance_threshold_ms=THRESHOLD_MS,
            on_event=events.append,
        )

    with counter("A") as a, counter("B") as b:
        a.inc("k", 2)
        b.inc("k", 3)
        time.sleep(1.0)
        primary.crash()
        began = time.monotonic()
        while (failed_s := time.monotonic() - began) < 60:
            try:
                first = a.get("k")
                break
            except (DistkitError, redis.exceptions.RedisError):
                time.sleep(0.02)
        time.sleep(THRESHOLD_MS / 1000)
        after = a.get("k")
    for part in (sentinel, primary, replica):
        part.stop()
    kinds = [event.kind.name for event in events]
    return {
        "down_after_ms": down_after_ms,
        "failed_s": round(failed_s, 2),
        "first": list(first),
        "after": list(after),
        "presumed_dead": kinds.count("PRESUMED_DEAD"),
        "lost_writes": kinds.count("LOST_WRITES"),
    }


def measure() -> dict[str, Any]:
    return {"threshold_ms": THRESHOLD_MS, "failovers": [_fail_over(ms) for ms in DOWN_AFTER_MS]}
