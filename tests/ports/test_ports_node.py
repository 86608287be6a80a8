"""The port on Node, written from spec/ alone: right, and at home with Python on the same Redis.

Where Node is not found these tests are skipped, and the run's summary says why.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distkit import StrictInstanceAwareCounter
from oracle.conform.layers import Plan, conform
from oracle.conform.play import play
from oracle.conform.process import Port
from oracle.conform.traces import read_trace
from tests.conftest import REAL
from tests.harness.profiles import scaled
from tests.harness.proxy import Faults, FaultyProxy
from tests.harness.servers import RedisServer, server_for
from tests.ports import node

pytestmark = pytest.mark.skipif(bool(node.why_not()), reason=node.why_not())

VECTORS = Path(__file__).parents[2] / "spec" / "vectors"
SMALL = sorted(path for path in VECTORS.glob("*.jsonl") if path.stat().st_size < 100_000)
PATIENCE_S = 20


def _url(server: RedisServer | FaultyProxy) -> str:
    return f"redis://127.0.0.1:{server.port}"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[Port]:
    monkeypatch.setenv("DISTKIT_URL", _url(server_for(REAL[-1])))
    started = Port(node.PORT, PATIENCE_S)
    yield started
    started.end()


def test_it_answers_as_the_oracle_does(port: Port) -> None:
    """Every layer but the golden traces, which are played below."""
    layers = ("matrix", "random", "faults", "batches")
    found = conform(port, Plan(layers, examples=scaled(60)))
    assert not found.failures


def test_it_plays_the_golden_traces(port: Port) -> None:
    """All but the crowd, which takes its time, and is about the script."""
    for path in SMALL:
        for history in read_trace(path):
            play(history, port)


THRESHOLD_MS = 2_000
TIMES = 400


@contextmanager
def counting_on_node(server: RedisServer | FaultyProxy) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        ["node", node.FOLDER / "count.mjs", "both", "k", str(TIMES), str(THRESHOLD_MS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"DISTKIT_URL": _url(server)},
    )
    with child:
        yield child
        child.kill()


def _told(child: subprocess.Popen[str]) -> tuple[int, int]:
    assert child.stdout is not None
    total, mine = json.loads(child.stdout.readline())
    return total, mine


def _asked(child: subprocess.Popen[str]) -> tuple[int, int]:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()
    return _told(child)


def test_python_and_node_count_at_once_and_the_one_that_is_killed_is_taken_out(
    real_server: RedisServer,
) -> None:
    with real_server.client() as client, counting_on_node(real_server) as child:
        here = StrictInstanceAwareCounter(client, "both", dead_instance_threshold_ms=THRESHOLD_MS)
        assert _told(child) == (0, 0)
        mine = 0
        of_node: list[int] = []
        while not of_node or of_node[-1] < TIMES:
            total, mine = here.inc("k")
            of_node.append(total - mine)
        assert len(set(of_node)) > 2, "they did count at once"
        assert _asked(child) == (TIMES + mine, TIMES)
        child.kill()
        killed = time.monotonic()
        while here.get("k") != (mine, mine):
            assert time.monotonic() < killed + PATIENCE_S
            time.sleep(0.05)
        assert time.monotonic() - killed > 0.9 * THRESHOLD_MS / 1000, "not before the threshold"


def test_node_takes_a_python_process_out_and_takes_it_back(real_server: RedisServer) -> None:
    """A Python instance that is silent for the threshold, and was not dead (R10)."""
    with real_server.client() as client, counting_on_node(real_server) as child:
        here = StrictInstanceAwareCounter(client, "both", dead_instance_threshold_ms=THRESHOLD_MS)
        assert _told(child) == (0, 0)
        here.dec("k", 7)
        silent = time.monotonic()
        while _asked(child) != (TIMES, TIMES):
            assert time.monotonic() < silent + PATIENCE_S
            time.sleep(0.05)
        assert here.get("k") == (TIMES - 7, -7)
        assert _asked(child) == (TIMES - 7, TIMES)


def test_node_counts_once_whatever_the_network_does() -> None:
    """R11, through node-redis's own connections: requests and replies dropped, copies late."""
    faults = Faults(drop_replies=0.05, drop_requests=0.03, copies=0.1)
    server = server_for(REAL[-1])
    server.client().flushall()
    with FaultyProxy(server.port, faults, seed=4) as proxy, counting_on_node(proxy) as child:
        assert _told(child) == (0, 0)
        assert _asked(child) == (TIMES, TIMES)
        assert min(proxy.dropped_replies, proxy.dropped_requests, proxy.late_copies) > 0
