"""`python -m benchmarks.partitions`: one prefix on three shards, divided or not (R21).

Several processes, each with one asyncio instance and many callers, count on 1,000 keys of a cluster
of three masters that it starts. Rounds with 1 partition and with 12 follow each other, so that
whatever else the machine does affects both. It prints the calls a second, the processor time of the
clients and of each server, and how evenly the servers share the work.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import statistics
import time
from typing import Any, NamedTuple

import redis.asyncio

import distkit.asyncio
from tests.harness.deployments import HOST, Cluster, info
from tests.harness.servers import find_binaries

PARTITIONS = (1, 12)
PROCESSES = 4
CALLERS = 64
KEYS = [f"user-{number}" for number in range(1_000)]
SECONDS = 4.0
ROUNDS = 5


class Round(NamedTuple):
    """What one round measured: calls, and the seconds of processor time that they took."""

    calls: int
    seconds: float
    client_s: float
    servers_s: list[float]

    @property
    def rate(self) -> float:
        return self.calls / self.seconds

    @property
    def unevenness(self) -> float:
        """How far the busiest or the idlest server is from the mean."""
        mean = statistics.mean(self.servers_s)
        return max(abs(each - mean) for each in self.servers_s) / mean


async def _count(port: int, prefix: str, partitions: int, results: Any, start: Any) -> None:
    client = redis.asyncio.RedisCluster(host=HOST, port=port)
    counter = distkit.asyncio.StrictInstanceAwareCounter(client, prefix, partitions=partitions)
    await counter.get_all(KEYS)
    start.wait()
    chance, calls, until = random.Random(os.getpid()), 0, time.monotonic() + SECONDS
    used = time.process_time()

    async def caller() -> None:
        nonlocal calls
        while time.monotonic() < until:
            await counter.inc(chance.choice(KEYS))
            calls += 1

    await asyncio.gather(*(caller() for _ in range(CALLERS // PROCESSES)))
    results.put((calls, time.process_time() - used))
    await client.aclose()


def _process(*arguments: Any) -> None:
    asyncio.run(_count(*arguments))


def _used(cluster: Cluster) -> list[float]:
    """The processor time that each server has used."""
    found = [info(server, "cpu") for server in cluster.servers]
    return [float(each["used_cpu_user"]) + float(each["used_cpu_sys"]) for each in found]


def measure(cluster: Cluster, prefix: str, partitions: int) -> Round:
    context = multiprocessing.get_context("fork")
    results, start = context.Queue(), context.Barrier(PROCESSES + 1)
    arguments = (cluster.servers[0].port, prefix, partitions, results, start)
    processes = [context.Process(target=_process, args=arguments) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    start.wait()
    before, began = _used(cluster), time.monotonic()
    found = [results.get() for _ in processes]
    seconds, after = time.monotonic() - began, _used(cluster)
    for process in processes:
        process.join()
    servers = [end - begin for begin, end in zip(before, after, strict=True)]
    return Round(sum(calls for calls, _ in found), seconds, sum(used for _, used in found), servers)


def told(partitions: int, rounds: list[Round]) -> str:
    """The medians of the rounds."""
    middle = statistics.median
    calls = middle(each.rate for each in rounds)
    client = middle(each.client_s / each.calls for each in rounds) * 1e6
    server = middle(sum(each.servers_s) / each.calls for each in rounds) * 1e6
    busiest = middle(max(each.servers_s) / each.seconds for each in rounds)
    uneven = middle(each.unevenness for each in rounds)
    return (
        f"{partitions:>2} partitions: {calls:>8,.0f} calls/s; a call takes {client:.0f} µs of the "
        f"clients and {server:.0f} µs of the servers; busiest server {busiest:.0%} of a core; "
        f"servers differ from their mean by up to {uneven:.0%}"
    )


def main() -> None:
    cluster = Cluster(find_binaries().binaries[-1], replicas=0)
    rounds: dict[int, list[Round]] = {partitions: [] for partitions in PARTITIONS}
    for number in range(ROUNDS):
        for partitions in PARTITIONS:
            found = measure(cluster, f"bench-{number}-{partitions}", partitions)
            rounds[partitions].append(found)
    cluster.stop()
    print(
        f"{PROCESSES} processes, {CALLERS} callers, {len(KEYS):,} keys, 3 masters, "
        f"{os.cpu_count()} cores for all of them; medians of {ROUNDS} rounds"
    )
    for partitions, some in rounds.items():
        print(told(partitions, some))
    one, many = (statistics.median(each.rate for each in rounds[n]) for n in PARTITIONS)
    print(f"{PARTITIONS[1]} partitions count {many / one:.2f} times as fast as 1")


if __name__ == "__main__":
    main()
