"""`python -m benchmarks.churn`: what instances that come and go cost the others (R8, R14).

A counter has slices of thousands of instances. One process measures how long its calls on it take;
meanwhile another either lets short-lived instances join, count and leave, or sends as many requests
from one instance that stays. The rounds alternate, so that a noisy machine hurts both alike.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import redis

from benchmarks import scene
from distkit import StrictInstanceAwareCounter
from distkit.testing import driver_of
from tests.harness.servers import RedisServer, find_binaries

CROWD = 4_000
COMING = 10_000
ROUNDS = 10
PER_ROUND = COMING // ROUNDS
QUANTILES = 100


def main() -> None:
    server = RedisServer(find_binaries().binaries[-1])
    client = server.client()
    member = scene.among_instances(client, CROWD)
    member.inc("k")
    prefix = driver_of(member).space.prefix
    taken: dict[str, list[float]] = {"stay": [], "come and go": []}
    for _ in range(ROUNDS):
        for others in taken:
            taken[others] += _watch(member, server.socket, prefix, others)
    came = client.hlen(f"distkit:{{{prefix}}}:instances")
    print(f"{COMING:,} instances came and went beside {CROWD:,}; {came:,} entries are left")
    cuts = {others: _quantiles(some) for others, some in taken.items()}
    for name, place in (("p50", 49), ("p99", 98)):
        stay, churn = cuts["stay"][place], cuts["come and go"][place]
        print(f"{name}: {stay * 1e6:.0f} us, {churn * 1e6:.0f} us: {churn / stay:.2f} times")
    server.stop()


def _watch(
    member: StrictInstanceAwareCounter, socket: str, prefix: str, others: str
) -> list[float]:
    """The seconds that each call took while the others did their work."""
    words = [sys.executable, "-m", "benchmarks.churn", socket, prefix, others]
    taken = []
    with subprocess.Popen(words, stdout=subprocess.PIPE) as work:
        assert work.stdout is not None
        assert work.stdout.readline() == b"begins\n"
        while work.poll() is None:
            began = time.perf_counter()
            member.inc("k")
            taken.append(time.perf_counter() - began)
            time.sleep(0.0005)
    assert work.returncode == 0
    return taken


def _quantiles(some: list[float]) -> list[float]:
    return statistics.quantiles(some, n=QUANTILES)


def work(socket: str, prefix: str, what: str) -> None:
    """Be the others: four requests for each short life."""
    client = redis.Redis(unix_socket_path=socket)
    stays = StrictInstanceAwareCounter(client, prefix)
    stays.inc("k")
    print("begins", flush=True)
    for _ in range(PER_ROUND):
        if what == "stay":
            for _ in range(4):
                stays.inc("k")
            continue
        comes = StrictInstanceAwareCounter(client, prefix)
        comes.inc("k")
        driver_of(comes).leave()
    driver_of(stays).leave()


if __name__ == "__main__":
    work(*sys.argv[1:]) if sys.argv[1:] else main()
