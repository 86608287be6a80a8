"""The ports on Node and in Rust, written from spec/: right, and at home with Python on one Redis.

Where Node or cargo is not found their tests are skipped, and the run's summary says why.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

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
from tests.ports import node, rust_session


class Fast(NamedTuple):
    """A port: why it cannot run here, how it is built, its glue, and a program that counts."""

    why_not: str
    build: Callable[[], None]
    glue: tuple[str, ...]
    counts: tuple[str, ...]


PORTS = {
    "node": Fast(node.why_not(), lambda: None, node.PORT, ("node", str(node.FOLDER / "count.mjs"))),
    "rust": Fast(rust_session.why_not(), rust_session.build, rust_session.PORT, rust_session.COUNT),
}


@pytest.fixture(
    params=[
        pytest.param(
            fast, marks=pytest.mark.skipif(bool(fast.why_not), reason=fast.why_not), id=name
        )
        for name, fast in PORTS.items()
    ]
)
def fast(request: pytest.FixtureRequest) -> Fast:
    found: Fast = request.param
    found.build()
    return found


# The first build takes minutes.
pytestmark = pytest.mark.timeout(rust_session.BUILD_S)

VECTORS = Path(__file__).parents[2] / "spec" / "vectors"
SMALL = sorted(path for path in VECTORS.glob("*.jsonl") if path.stat().st_size < 100_000)
PATIENCE_S = 20


def _url(server: RedisServer | FaultyProxy) -> str:
    return f"redis://127.0.0.1:{server.port}"


@pytest.fixture
def port(fast: Fast, monkeypatch: pytest.MonkeyPatch) -> Iterator[Port]:
    monkeypatch.setenv("DISTKIT_URL", _url(server_for(REAL[-1])))
    started = Port(fast.glue, PATIENCE_S)
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
def counting(fast: Fast, server: RedisServer | FaultyProxy) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [*fast.counts, "both", "k", str(TIMES), str(THRESHOLD_MS)],
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


def test_python_and_the_port_count_at_once_and_the_one_that_is_killed_is_taken_out(
    fast: Fast, real_server: RedisServer
) -> None:
    with real_server.client() as client, counting(fast, real_server) as child:
        here = StrictInstanceAwareCounter(client, "both", dead_instance_threshold_ms=THRESHOLD_MS)
        assert _told(child) == (0, 0)
        mine = 0
        of_port: list[int] = []
        while not of_port or of_port[-1] < TIMES:
            total, mine = here.inc("k")
            of_port.append(total - mine)
        assert len(set(of_port)) > 2, "they did count at once"
        assert _asked(child) == (TIMES + mine, TIMES)
        child.kill()
        killed = time.monotonic()
        while here.get("k") != (mine, mine):
            assert time.monotonic() < killed + PATIENCE_S
            time.sleep(0.05)
        assert time.monotonic() - killed > 0.9 * THRESHOLD_MS / 1000, "not before the threshold"


def test_the_port_takes_a_python_process_out_and_takes_it_back(
    fast: Fast, real_server: RedisServer
) -> None:
    """A Python instance that is silent for the threshold, and was not dead (R10)."""
    with real_server.client() as client, counting(fast, real_server) as child:
        here = StrictInstanceAwareCounter(client, "both", dead_instance_threshold_ms=THRESHOLD_MS)
        assert _told(child) == (0, 0)
        here.dec("k", 7)
        silent = time.monotonic()
        while _asked(child) != (TIMES, TIMES):
            assert time.monotonic() < silent + PATIENCE_S
            time.sleep(0.05)
        assert here.get("k") == (TIMES - 7, -7)
        assert _asked(child) == (TIMES - 7, TIMES)


def test_the_port_counts_once_whatever_the_network_does(fast: Fast) -> None:
    """R11, through its client's own connections: requests and replies dropped, copies late."""
    faults = Faults(drop_replies=0.05, drop_requests=0.03, copies=0.1)
    server = server_for(REAL[-1])
    server.client().flushall()
    with FaultyProxy(server.port, faults, seed=4) as proxy, counting(fast, proxy) as child:
        assert _told(child) == (0, 0)
        assert _asked(child) == (TIMES, TIMES)
        assert min(proxy.dropped_replies, proxy.dropped_requests, proxy.late_copies) > 0


def test_the_port_refuses_a_layout_that_it_does_not_know(
    fast: Fast, real_server: RedisServer
) -> None:
    """As that of a prefix that is divided (R21). Nothing is written."""
    with real_server.client() as client:
        client.hset("distkit:{both}:instances", ":", "2 3")
        done = subprocess.run(
            [*fast.counts, "both", "k", "1", str(THRESHOLD_MS)],
            capture_output=True,
            text=True,
            env=os.environ | {"DISTKIT_URL": _url(real_server)},
            timeout=PATIENCE_S,
        )
        assert done.returncode != 0
        assert "layout 2" in done.stderr
        assert client.hgetall("distkit:{both}:instances") == {b":": b"2 3"}
        assert client.dbsize() == 1
