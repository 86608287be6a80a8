"""`python -m benchmarks.against REVISION`: this tree against another revision, in one run.

Both run on one server of their own in turns, so that the machine's other work affects both. Shown
are the ratios, as medians with the lowest and the highest. Above 1, this tree is faster.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.harness.servers import RedisServer, find_binaries

ROOT = Path(__file__).parents[1]
ROUNDS = int(os.environ.get("ROUNDS", "9"))

WORKER = """
import asyncio, json, sys, threading, time, uuid
import redis, redis.asyncio
import distkit.asyncio
from distkit import StrictInstanceAwareCounter

client = redis.Redis(unix_socket_path=sys.argv[1])
counter = StrictInstanceAwareCounter(client, uuid.uuid4().hex)
counter.inc("k")

def sequential():
    began = time.perf_counter()
    for _ in range(500):
        counter.inc("k")
    return 500 / (time.perf_counter() - began)

def threads():
    def work():
        for _ in range(200):
            counter.inc("k")
    workers = [threading.Thread(target=work) for _ in range(16)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return 16 * 200 / (time.perf_counter() - began)

def server():
    client.config_resetstat()
    for _ in range(500):
        counter.inc("k")
    return 1 / client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]

async def tasks(count):
    tasked = redis.asyncio.Redis(unix_socket_path=sys.argv[1])
    shared = distkit.asyncio.StrictInstanceAwareCounter(tasked, uuid.uuid4().hex)
    async def work():
        for _ in range(20):
            await shared.inc("k")
    await shared.inc("k")
    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(count)))
    rate = count * 20 / (time.perf_counter() - began)
    await tasked.aclose()
    return rate

for line in sys.stdin:
    print(json.dumps({
        "sequential inc": sequential(),
        "16 threads": threads(),
        "server's time of an inc alone": server(),
        "64 asyncio callers": asyncio.run(tasks(64)),
        "512 asyncio callers": asyncio.run(tasks(512)),
    }), flush=True)
"""


def _worker(tree: Path, socket: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, socket],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
    )


def _round(worker: subprocess.Popen[str]) -> dict[str, float]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    measured: dict[str, float] = json.loads(worker.stdout.readline())
    return measured


def main() -> None:
    revision = sys.argv[1]
    archive = subprocess.run(
        ["git", "archive", revision], check=True, capture_output=True, cwd=ROOT
    )
    found = {binary.name: binary for binary in find_binaries().binaries}
    server = RedisServer(found.get("redis-7.0") or next(iter(found.values())))
    with tempfile.TemporaryDirectory() as folder:
        extract: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, **extract)
        here, there = _worker(ROOT, server.socket), _worker(Path(folder), server.socket)
        rounds = [(_round(there), _round(here)) for _ in range(ROUNDS)]
        for name in rounds[0][0]:
            ratios = sorted(ours[name] / theirs[name] for theirs, ours in rounds)
            middle = statistics.median(ratios)
            print(f"{name:32} {middle:.2f} ({ratios[0]:.2f}..{ratios[-1]:.2f}) times {revision}")
        here.terminate()
        there.terminate()
    server.stop()


if __name__ == "__main__":
    main()
