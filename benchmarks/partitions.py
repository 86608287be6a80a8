"""`python -m benchmarks.partitions [--to FILE]`: one prefix on three shards, divided or not (R21).

Several processes, each with one asyncio instance and many callers, count on 1,000 keys of a cluster
of three masters that it starts. Rounds with 1, 3 and 12 partitions follow each other, so that
whatever else the machine does affects all of them. The page has the calls a second, the processor
time of the clients and of the servers, and how evenly the servers share the work.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import redis.asyncio

import distkit.asyncio
from tests.harness.deployments import HOST, Cluster, info
from tests.harness.servers import find_binaries

PARTITIONS = (1, 3, 12)
PROCESSES = 4
CALLERS = (64, 512)
SHARDS = 3
KEYS = [f"user-{number}" for number in range(1_000)]
SECONDS = 3.0
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


async def _count(
    port: int, prefix: str, partitions: int, callers: int, results: Any, start: Any
) -> None:
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

    await asyncio.gather(*(caller() for _ in range(callers // PROCESSES)))
    results.put((calls, time.process_time() - used))
    await client.aclose()


def _process(*arguments: Any) -> None:
    asyncio.run(_count(*arguments))


def _used(cluster: Cluster) -> list[float]:
    """The processor time that each server has used."""
    found = [info(server, "cpu") for server in cluster.servers]
    return [float(each["used_cpu_user"]) + float(each["used_cpu_sys"]) for each in found]


def measure(cluster: Cluster, prefix: str, partitions: int, callers: int) -> Round:
    context = multiprocessing.get_context("fork")
    results, start = context.Queue(), context.Barrier(PROCESSES + 1)
    arguments = (cluster.servers[0].port, prefix, partitions, callers, results, start)
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


def cells(callers: int, partitions: int, rounds: list[Round]) -> list[str]:
    """The medians of the rounds, as a row of the table."""
    middle = statistics.median
    client = middle(each.client_s / each.calls for each in rounds) * 1e6
    server = middle(sum(each.servers_s) / each.calls for each in rounds) * 1e6
    busiest = middle(max(each.servers_s) / each.calls for each in rounds)
    uneven = middle(each.unevenness for each in rounds)
    return [
        f"{callers}",
        f"{partitions}",
        f"{middle(each.rate for each in rounds):,.0f}",
        f"{client:.0f}",
        f"{server:.0f}",
        f"{1 / busiest:,.0f}",
        f"±{uneven:.0%}" if partitions > 1 else "one shard",
    ]


HEAD = """\
# Partitions: one prefix on three shards

`python -m benchmarks.partitions --to benchmarks/PARTITIONS.md` writes this page. {processes}
processes, each with one asyncio instance, count on {keys:,} keys of a cluster of {shards} masters;
medians of {rounds} interleaved rounds, on {cores} cores for clients and servers together.

| callers | partitions | calls/s | client µs/call | server µs/call | bound of the servers, calls/s | spread of the servers |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""

TAIL = """
Where the clients' cores are the limit, as here, partitions make calls slower, because the callers of
a process that wait share a request only within a partition: with more partitions a request carries
fewer of them, and costs client and server as much. Partitions pay where the server is the limit.
The *bound of the servers* is what they allow however many clients there are: one call takes the
busiest server so much time. So divide a prefix when its shard is busy, into as many partitions as
there are shards, or a small multiple, and expect most of it with many callers in a process.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.partitions")
    parser.add_argument("--to", metavar="FILE", help="where the page goes; default: the screen")
    asked = parser.parse_args()
    cluster = Cluster(find_binaries().binaries[-1], masters=SHARDS, replicas=0)
    rounds: dict[tuple[int, int], list[Round]] = {}
    for number in range(ROUNDS):
        for callers in CALLERS:
            for partitions in PARTITIONS:
                prefix = f"bench-{number}-{callers}-{partitions}"
                found = measure(cluster, prefix, partitions, callers)
                rounds.setdefault((callers, partitions), []).append(found)
    cluster.stop()
    head = HEAD.format(
        processes=PROCESSES, keys=len(KEYS), shards=SHARDS, rounds=ROUNDS, cores=os.cpu_count()
    )
    rows = [f"| {' | '.join(cells(*key, some))} |\n" for key, some in rounds.items()]
    page = head + "".join(rows) + TAIL
    if asked.to:
        Path(asked.to).write_text(page)
    else:
        print(page)


if __name__ == "__main__":
    main()
