"""Fixtures for all tests: a fake Redis, and a real one of each version that was found.

Without a real server the run fails, because every guarantee is about real servers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
import redis

from tests.harness import profiles
from tests.harness.servers import Binary, RedisServer, find_binaries, server_for
from tests.harness.side_by_side import AsyncBackend, Backend, Place, fake_place, real_place

pytest_plugins = ["pytester"]

FAKE = "fakeredis"
REAL = find_binaries().binaries


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_profile] = profiles.load()
    if not REAL:
        reasons = "; ".join(find_binaries().left_out)
        raise pytest.UsageError(f"no real redis-server was found to test on ({reasons})")


_profile = pytest.StashKey[str]()


def pytest_report_header(config: pytest.Config) -> list[str]:
    servers = [f"{b.name} ({'.'.join(map(str, b.version))})" for b in REAL]
    return [
        f"real servers: {', '.join(servers)}",
        f"left out: {'; '.join(find_binaries().left_out) or 'none'}",
        f"hypothesis profile: {config.stash[_profile]}",
    ]


def _name(param: Any) -> str:
    return param.name if isinstance(param, Binary) else str(param)


@pytest.fixture(params=REAL, ids=_name)
def real_server(request: pytest.FixtureRequest) -> RedisServer:
    """Each real server, emptied."""
    server = server_for(request.param)
    server.client().flushall()
    return server


@pytest.fixture
def newest_server() -> RedisServer:
    """The newest real server, emptied. For tests that need only one."""
    server = server_for(REAL[-1])
    server.client().flushall()
    return server


@pytest.fixture(params=[FAKE, *REAL], ids=_name)
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """A client of each empty Redis, fake and real."""
    if request.param == FAKE:
        yield fakeredis.FakeRedis(server=fakeredis.FakeServer())
        return
    with server_for(request.param).client() as real:
        real.flushall()
        yield real


@pytest.fixture(params=[FAKE, *REAL], ids=_name)
def place(request: pytest.FixtureRequest) -> Place:
    """Each Redis, fake and real, to run production and oracle side by side on."""
    return fake_place() if request.param == FAKE else real_place(server_for(request.param))


@pytest.fixture
def backend(place: Place) -> Iterator[Backend]:
    """The synchronous counter on each Redis."""
    backend = Backend(place)
    yield backend
    backend.close()


@pytest.fixture(params=[FAKE, REAL[-1]] if REAL else [FAKE], ids=_name)
def async_backend(request: pytest.FixtureRequest) -> Iterator[AsyncBackend]:
    """The asyncio counter, on a fake Redis and on the newest real one.

    The versions of Redis differ only in how they run the script, which the synchronous counter
    tests on all of them.
    """
    fake = request.param == FAKE
    backend = AsyncBackend(fake_place() if fake else real_place(server_for(request.param)))
    yield backend
    backend.close()


@pytest.fixture(params=REAL, ids=_name)
def cluster(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A cluster of one node that owns every slot."""
    server = RedisServer(request.param, "--cluster-enabled", "yes", tcp=True)
    node: Any = server.client()
    node.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
    while b"cluster_state:ok" not in node.execute_command("CLUSTER", "INFO", NEVER_DECODE=True):
        threading.Event().wait(0.02)
    yield server
    server.stop()
