"""Fixtures for the tests of applications: counters without Redis, with a clock that a test moves.

pytest loads this by itself where the distribution is installed. A fixture of the same name in a
`conftest.py` takes the place of one of these.

    def test_a_crashed_server_frees_its_slots(counter_server, make_counter):
        crashed, mine = make_counter(), make_counter()
        crashed.limit("jobs", 1).acquire()
        counter_server.advance(30_000)
        assert mine.limit("jobs", 1).acquire(blocking=False)

To test what an application does during an outage: `with counter_server.outage():`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

# pytest loads this module in every run, also in those that do not use it.
if TYPE_CHECKING:
    from oracle import AsyncInMemoryCounter, InMemoryCounter, InMemoryServer


@pytest.fixture
def counter_server() -> InMemoryServer:
    """What stands in for Redis in this test. `advance(ms)` moves its clock; `outage()`, `go_down()`
    and `fail_next(...)` cut it off; `flush()` loses everything."""
    from oracle import InMemoryServer

    return InMemoryServer()


@pytest.fixture
def make_counter(counter_server: InMemoryServer) -> Callable[..., InMemoryCounter]:
    """Makes a counter for threads on `counter_server`: another instance with each call.

    Its arguments are those of `distkit.StrictInstanceAwareCounter`, without the client; the prefix
    is "test" unless given.
    """
    from oracle import InMemoryCounter

    def make(prefix: str = "test", **options: Any) -> InMemoryCounter:
        return InMemoryCounter(counter_server, prefix, **options)

    return make


@pytest.fixture
def make_async_counter(counter_server: InMemoryServer) -> Callable[..., AsyncInMemoryCounter]:
    """Makes a counter for asyncio on `counter_server`; otherwise like `make_counter`."""
    from oracle import AsyncInMemoryCounter

    def make(prefix: str = "test", **options: Any) -> AsyncInMemoryCounter:
        return AsyncInMemoryCounter(counter_server, prefix, **options)

    return make


@pytest.fixture
def counter(make_counter: Callable[..., InMemoryCounter]) -> InMemoryCounter:
    """A counter for threads on `counter_server`."""
    return make_counter()


@pytest.fixture
def async_counter(make_async_counter: Callable[..., AsyncInMemoryCounter]) -> AsyncInMemoryCounter:
    """A counter for asyncio on `counter_server`."""
    return make_async_counter()
