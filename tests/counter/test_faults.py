"""The fault matrix: what a call says when its way to Redis fails, and how long that takes.

For every fault, synchronous and asyncio counter, and kind of deployment: the class of the outcome;
that the book of acknowledged and unknown calls contains the final count (R11, R12); and that the
call takes no longer than redis-py's own INCRBY on the same client with the same fault.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.sentinel
from redis.backoff import ConstantBackoff
from redis.exceptions import (
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)

import distkit.asyncio
from distkit import (
    MisuseError,
    NotExecutedError,
    OutcomeUnknownError,
    StrictInstanceAwareCounter,
)
from distkit.testing import driver_of
from tests.conftest import REAL
from tests.harness.deployments import Cluster, slot_of
from tests.harness.gate import Fault, Gate
from tests.harness.proxy import HOST
from tests.harness.servers import RedisServer

TIMEOUT_S = 0.5
"""The client's; well below the counter's own deadline, so that both wait for the same."""
RETRIES = 2
SLOWER = 1.2
NOISE_S = 0.15
"""How much longer than raw redis-py a call may take: in proportion, and for a busy machine."""
BACKOFF_S = 0.02
CLUSTER_BACKOFF_S = 0.2
"""The client of a cluster counts its retries, but does not wait before them; a counter that waited
would be seen."""
PREFIXES = ("r", "s", "v", "b", "f", "k")
"""Their slots belong to the first of two masters. Clients ask it first which node serves what."""
SLOW = (redis.exceptions.RedisError, redis.exceptions.RedisClusterException, asyncio.TimeoutError)
"""What a call without a fault may raise if the machine is too slow."""

DEPLOYMENTS = ("standalone", "sentinel", "cluster")


class Row(NamedTuple):
    """A fault, and what a call comes to that meets it: an error, or None for an exact result."""

    fault: Fault | None
    outcome: type[Exception] | None
    sentinel: type[Exception] | None = None
    cluster: type[Exception] | None = None

    def right(self, deployment: str) -> type[Exception] | None:
        other = {"sentinel": self.sentinel, "cluster": self.cluster}.get(deployment)
        return other or self.outcome


def answers(text: str, times: int = 0) -> Fault:
    return Fault(executes=False, then="answer", text=text, times=times)


READONLY = "READONLY You can't write against a read only replica."
OOM = "OOM command not allowed when used memory > 'maxmemory'."
LOADING = "LOADING Redis is loading the dataset in memory"
NOPERM = "NOPERM this user has no permissions to run the 'evalsha' command"
TRYAGAIN = "TRYAGAIN Multiple keys request during rehashing of slot"

MATRIX: dict[str, Row] = {
    "refused": Row(None, NotExecutedError),
    "black-holed at once": Row(Fault(False, "silence", everything=True), OutcomeUnknownError),
    "black-holed in flight": Row(Fault(True, "silence"), OutcomeUnknownError),
    "black-holed in flight, once": Row(Fault(True, "silence", times=1), None),
    "reset in flight": Row(Fault(True, "reset"), OutcomeUnknownError),
    "reset in flight, once": Row(Fault(True, "reset", times=1), None),
    "stalled for 3 s, once": Row(Fault(True, "delay", seconds=3, times=1), None),
    "READONLY": Row(answers(READONLY), ReadOnlyError, sentinel=NotExecutedError),
    "READONLY, once": Row(answers(READONLY, times=1), ReadOnlyError),
    "OOM": Row(answers(OOM), OutOfMemoryError),
    "LOADING": Row(answers(LOADING), NotExecutedError),
    "LOADING, once": Row(answers(LOADING, times=1), None),
    "NOPERM": Row(answers(NOPERM), NoPermissionError),
    "TRYAGAIN, once": Row(answers(TRYAGAIN, times=1), TryAgainError),
    "TRYAGAIN": Row(answers(TRYAGAIN), TryAgainError, cluster=NotExecutedError),
}
RECOVERS = {("READONLY, once", "sentinel"), ("TRYAGAIN, once", "cluster")}
"""Where the client looks for the right server, or waits for it, one such answer is not the end."""


WAITS = {(name, "cluster") for name in ("LOADING", "LOADING, once", "TRYAGAIN", "TRYAGAIN, once")}
"""The node is there and says that it cannot serve now: the counter waits for it by the retry
policy. redis-py's client of a cluster gives up sooner, without a wait that it could be told of."""

ASYNCIO_WAITS = WAITS | (
    {("black-holed at once", "cluster")} if redis.__version__.startswith("6.") else set()
)
"""After a failure the asyncio client of redis-py 6 asks the first node for its commands, outside of
its retry policy: if it is the one that is silent, the call ends before its retries."""


class Site:
    """A deployment behind a gate, and clients of it."""

    def __init__(self, deployment: str, server: RedisServer, gate: Gate) -> None:
        self.deployment, self.server, self.gate = deployment, server, gate

    def client(self) -> Any:
        return self._client(redis, redis.sentinel.Sentinel, redis.retry.Retry)

    def async_client(self) -> Any:
        retry = redis.asyncio.retry.Retry
        return self._client(redis.asyncio, redis.asyncio.sentinel.Sentinel, retry)

    def _client(self, package: Any, sentinel: Any, retry: Any) -> Any:
        backoff = CLUSTER_BACKOFF_S if self.deployment == "cluster" else BACKOFF_S
        options: dict[str, Any] = {
            "socket_timeout": TIMEOUT_S,
            "retry": retry(ConstantBackoff(backoff), RETRIES),
        }
        if self.deployment == "cluster":
            return package.RedisCluster(
                host=HOST, port=self.gate.port, address_remap=self._remap, **options
            )
        if self.deployment == "sentinel":
            return _knowing(sentinel, (HOST, self.gate.port)).master_for("main", **options)
        return package.Redis(host=HOST, port=self.gate.port, **options)

    def _remap(self, address: tuple[str, int]) -> tuple[str, int]:
        """The gate's address for the server's."""
        host, port = address
        return host, self.gate.port if port == self.server.port else port


def _knowing(sentinel: Any, master: tuple[str, int]) -> Any:
    """A Sentinel that is asked by nobody else and knows the master."""

    class Knowing(sentinel):  # type: ignore[misc]
        def discover_master(self, service_name: str) -> Any:
            if sentinel is redis.sentinel.Sentinel:
                return master

            async def found() -> tuple[str, int]:
                return master

            return found()

    return Knowing([])


@pytest.fixture(scope="module")
def two_masters() -> Iterator[Cluster]:
    """A cluster of two masters. Releases of redis-py before 7 forget a node that failed, and could
    not follow their own retry policy if they knew no other."""
    cluster = Cluster(REAL[-1], masters=2, replicas=0)
    yield cluster
    cluster.stop()


@pytest.fixture(params=DEPLOYMENTS)
def site(request: pytest.FixtureRequest, newest_server: RedisServer) -> Iterator[Site]:
    server = newest_server
    if request.param == "cluster":
        server = request.getfixturevalue("two_masters").owner_of(slot_of(PREFIXES[0]))
    server.client().flushall()
    with Gate(server.port) as gate:
        yield Site(request.param, server, gate)


class Book:
    """What the callers were told: the final count has to agree with it."""

    def __init__(self) -> None:
        self.acknowledged = self.unknown = 0

    def note(self, outcome: object) -> None:
        if isinstance(outcome, OutcomeUnknownError) or (
            isinstance(outcome, BaseException) and not isinstance(outcome, Exception)
        ):
            self.unknown += 1
        elif not isinstance(outcome, Exception):
            self.acknowledged += 1

    def check(self, final: int) -> None:
        assert self.acknowledged <= final <= self.acknowledged + self.unknown, vars(self)


def name_of(prefix: str) -> str:
    """A Redis key of raw redis-py's, in the slot of the prefix."""
    return f"{{{prefix}}}raw"


def _break(site: Site, row: Row) -> None:
    if row.fault is None:
        site.gate.refuse()
    else:
        site.gate.meet(row.fault)


def _mend(site: Site, row: Row) -> None:
    if row.fault is None:
        site.gate.admit()
    else:
        site.gate.lift()


def _right(name: str, deployment: str) -> type[Exception] | None:
    return None if (name, deployment) in RECOVERS else MATRIX[name].right(deployment)


def _timed(call: Callable[[], object]) -> tuple[float, object]:
    began = time.perf_counter()
    try:
        outcome = call()
    except Exception as error:
        outcome = error
    return time.perf_counter() - began, outcome


def _judge(name: str, site: Site, outcome: object) -> None:
    right = _right(name, site.deployment)
    if right is None:
        assert outcome == (2, 2), f"{name}: {outcome!r}"
    else:
        assert type(outcome) is right, f"{name}: {outcome!r}, not {right.__name__}"


Times = tuple[float, float]
"""How long raw redis-py took, and how long the counter."""


def _compare(waits: bool, scenario: Callable[[str], Times]) -> None:
    """The counter takes no longer than raw redis-py. On a busy machine a round may be slow, or a
    call without a fault may time out: then another round is made, under another prefix.

    Args:
        waits: whether the counter follows the retry policy where redis-py gives up at once.
        scenario: one round.
    """
    times: list[object] = []
    for prefix in PREFIXES:
        try:
            raw_s, ours_s = scenario(prefix)
        except SLOW as error:
            times.append(error)
            continue
        if waits or ours_s <= raw_s * SLOWER + NOISE_S:
            return
        times.append((raw_s, ours_s))
    pytest.fail(f"in no round as fast as raw redis-py (raw and ours, in s): {times}")


@pytest.mark.parametrize("name", MATRIX)
def test_a_call_says_what_is_known_and_takes_no_longer_than_raw(site: Site, name: str) -> None:
    row = MATRIX[name]

    def scenario(prefix: str) -> Times:
        book, raw, client = Book(), site.client(), site.client()
        counter = StrictInstanceAwareCounter(client, prefix)
        raw.incrby(name_of(prefix))
        book.note(counter.inc("k"))
        _break(site, row)
        raw_s, _ = _timed(lambda: raw.incrby(name_of(prefix)))
        assert row.fault is None or site.gate.met
        _mend(site, row)
        _timed(lambda: raw.get(name_of(prefix)))
        _break(site, row)
        ours_s, outcome = _timed(lambda: counter.inc("k"))
        _mend(site, row)
        book.note(outcome)
        _judge(name, site, outcome)
        book.note(counter.inc("k"))
        book.check(counter.get("k").cumulative)
        raw.close()
        client.close()
        return raw_s, ours_s

    _compare((name, site.deployment) in WAITS, scenario)


@pytest.mark.parametrize("name", MATRIX)
def test_an_asyncio_call_does_so_too(site: Site, name: str) -> None:
    row = MATRIX[name]

    async def timed(call: Any) -> tuple[float, object]:
        began = time.perf_counter()
        try:
            outcome: object = await call
        except Exception as error:
            outcome = error
        return time.perf_counter() - began, outcome

    async def scenario(prefix: str) -> Times:
        book, raw, client = Book(), site.async_client(), site.async_client()
        counter = distkit.asyncio.StrictInstanceAwareCounter(client, prefix)
        # Without it, the first command goes to a node of a cluster at random, and the redirection
        # leads around the gate.
        await raw.initialize()
        await raw.incrby(name_of(prefix))
        book.note(await counter.inc("k"))
        _break(site, row)
        raw_s, _ = await timed(raw.incrby(name_of(prefix)))
        assert row.fault is None or site.gate.met
        _mend(site, row)
        await timed(raw.get(name_of(prefix)))
        _break(site, row)
        ours_s, outcome = await timed(counter.inc("k"))
        _mend(site, row)
        book.note(outcome)
        _judge(name, site, outcome)
        book.note(await counter.inc("k"))
        book.check((await counter.get("k")).cumulative)
        await raw.aclose()
        await client.aclose()
        return raw_s, ours_s

    waits = (name, site.deployment) in ASYNCIO_WAITS
    _compare(waits, lambda prefix: asyncio.run(asyncio.wait_for(scenario(prefix), 60)))


# --- Faults on our own side ----------------------------------------------------------------------


def test_an_interrupted_call_is_in_the_book(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    client, book = site.client(), Book()
    counter = StrictInstanceAwareCounter(client, PREFIXES[0])
    book.note(counter.inc("k"))

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(redis.Connection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            counter.inc("k")
    book.note(caught.value)
    book.note(counter.inc("k"))
    book.check(counter.get("k").cumulative)
    client.close()


def test_a_reentered_call_is_refused_at_once_and_changes_nothing(site: Site) -> None:
    """A signal handler or a `__del__` runs between any two lines of the thread's own call."""
    client = site.client()
    counter = StrictInstanceAwareCounter(client, PREFIXES[0])
    counter.inc("k")
    driver, outcomes = driver_of(counter), list[tuple[float, object]]()
    send = driver.send

    def handler(request: Any) -> Any:
        calls = (lambda: counter.inc("k", 100), counter.heartbeat, counter.clear)
        outcomes.extend(map(_timed, calls))
        return send(request)

    driver.send = handler
    assert counter.inc("k") == (2, 2)
    driver.send = send
    assert [type(outcome) for _, outcome in outcomes] == [MisuseError] * 3
    assert max(seconds for seconds, _ in outcomes) < TIMEOUT_S
    assert "inside a call" in str(outcomes[0][1])
    assert counter.get("k") == (2, 2)
    client.close()


def test_a_thread_that_waits_is_inside_its_call_too(newest_server: RedisServer) -> None:
    """It may be the next to lead, and then its handler's call would wait for itself."""
    counter = StrictInstanceAwareCounter(newest_server.client(), "p")
    counter.inc("k")
    driver, sending, go = driver_of(counter), threading.Event(), threading.Event()
    send, outcomes = driver.send, []

    def slow(request: Any) -> Any:
        sending.set()
        assert go.wait(20)
        return send(request)

    driver.send = slow
    leader = threading.Thread(target=counter.inc, args=("k",))
    leader.start()
    assert sending.wait(20)

    with pytest.MonkeyPatch.context() as patch:
        wait = distkit.threads._Thread.wait

        def handler(caller: Any) -> bool:
            outcomes.append(_timed(lambda: counter.inc("k", 100))[1])
            go.set()
            return wait(caller)

        patch.setattr(distkit.threads._Thread, "wait", handler)
        assert counter.inc("k") == (3, 3)
    leader.join(20)
    assert [type(outcome) for outcome in outcomes] == [MisuseError]


def test_a_cancelled_call_is_in_the_book(site: Site) -> None:
    book = Book()

    async def main() -> None:
        client = site.async_client()
        counter = distkit.asyncio.StrictInstanceAwareCounter(client, PREFIXES[0])
        book.note(await counter.inc("k"))
        site.gate.meet(Fault(True, "silence"))
        call = asyncio.ensure_future(counter.inc("k"))
        while not site.gate.met:
            await asyncio.sleep(0.005)
        call.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await call
        book.note(caught.value)
        site.gate.lift()
        book.note(await counter.inc("k"))
        book.check((await counter.get("k")).cumulative)
        await client.aclose()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_loop_that_is_closed_under_a_call_leaves_no_lie(site: Site) -> None:
    """The call is in the book as unknown, and a counter without its loop works in the next one."""
    book = Book()
    client = site.async_client()
    counter = distkit.asyncio.StrictInstanceAwareCounter(client, PREFIXES[0])
    first = asyncio.new_event_loop()
    first.run_until_complete(counter.inc("k"))
    book.note(None)
    site.gate.meet(Fault(True, "silence"))
    call = first.create_task(counter.inc("k"))

    async def until_sent() -> None:
        while not site.gate.met:
            await asyncio.sleep(0.005)

    first.run_until_complete(until_sent())
    first.close()
    book.unknown += 1
    site.gate.lift()

    async def go_on() -> None:
        book.note(await counter.inc("k"))
        book.check((await counter.get("k")).cumulative)

    asyncio.run(asyncio.wait_for(go_on(), 60))
    assert not call.done()
    call.get_coro().close()


def test_a_second_loop_that_runs_at_the_same_time_is_refused(site: Site) -> None:
    client = site.async_client()
    counter = distkit.asyncio.StrictInstanceAwareCounter(client, PREFIXES[0])
    first = asyncio.new_event_loop()
    thread = threading.Thread(target=first.run_forever)
    thread.start()
    try:
        assert asyncio.run_coroutine_threadsafe(counter.inc("k"), first).result(20) == (1, 1)
        with pytest.raises(MisuseError, match="another event loop"):
            asyncio.run(counter.inc("k", 100))
        assert asyncio.run_coroutine_threadsafe(counter.inc("k"), first).result(20) == (2, 2)
        asyncio.run_coroutine_threadsafe(client.aclose(), first).result(20)
    finally:
        first.call_soon_threadsafe(first.stop)
        thread.join(20)
        first.run_until_complete(first.shutdown_asyncgens())
        first.close()
