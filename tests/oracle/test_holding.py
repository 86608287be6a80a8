"""R20 on the model: every short history of one holding instance, and the counters in memory."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import distkit
import oracle
from oracle import (
    LOST_REPLY,
    LOST_REQUEST,
    NOT_EXECUTED,
    AsyncInMemoryCounter,
    InMemoryCounter,
    InMemoryServer,
    model,
)
from oracle.model import holding as r20

THRESHOLD = 30_000
KEY = "k"
GOOD = ""

# --- Every short history -------------------------------------------------------------------------


class State(NamedTuple):
    """One instance that holds, and the server. The wall clock is the server's own."""

    server: model.Server
    instance: model.Instance
    holding: r20.Holding
    wall: int


def _make(state: State, steps: model.Steps, failure: str, again: bool = False) -> tuple[State, Any]:
    """A request with what is owed, and what became of its own steps."""
    owed = r20.owed_steps(state.holding, again)
    instance = model.begin(state.instance, owed + steps)
    server = state.server
    while instance.call is not None and not instance.call.done:
        instance = model.speak(instance)
        if failure in (NOT_EXECUTED, LOST_REQUEST):
            instance = model.give_up(instance, arrived=failure == LOST_REQUEST)
            continue
        assert instance.sent is not None
        server, reply = model.serve(server, instance.sent, state.wall)
        if failure == LOST_REPLY:
            instance = model.give_up(instance, arrived=True)
            continue
        instance = model.hear(instance, reply, resent=False)
    instance, outcomes = model.finish(instance)
    holding = r20.paid(state.holding, owed, outcomes[: len(owed)])
    return State(server, instance, holding, state.wall), outcomes[len(owed) :]


def _hold(state: State, failure: str) -> State:
    """Enter without a limit; if that fails, hold nothing."""
    entered = state._replace(holding=r20.hold(state.holding, KEY, 2))
    made, _ = _make(entered, (), failure)
    if failure == GOOD:
        return made
    return made._replace(holding=r20.release(made.holding, KEY, 2))


def _ask(state: State, failure: str) -> State:
    made, (outcome,) = _make(state, (r20.limit_step(KEY, 4),), failure)
    return made._replace(holding=r20.admit(made.holding, KEY, outcome))


def _release(state: State, failure: str) -> State:
    if not state.holding.held.get(KEY):
        return state
    released = state._replace(holding=r20.release(state.holding, KEY, 1))
    return _make(released, (), failure)[0]


def _somebody(state: State, *steps: model.Step) -> State:
    """Another instance makes a call and leaves."""
    number = state.instance.seq
    other = model.Instance(f"other {number}", THRESHOLD)
    server, other, _ = model.call_at_once(
        state.server, other, tuple((KEY, step) for step in steps), state.wall
    )
    server, _, _ = model.finish_at_once(server, model.begin_leaving(other), state.wall)
    return state._replace(server=server)


EVENTS: dict[str, Callable[[State], State]] = {
    **{
        f"{name} {failure}": lambda s, do=do, failure=failure: do(s, failure)  # type: ignore[misc]
        for name, do in (("hold", _hold), ("ask", _ask), ("release", _release))
        for failure in (GOOD, NOT_EXECUTED, LOST_REQUEST, LOST_REPLY)
    },
    "set": lambda s: _somebody(s, model.Step("set", 0)),
    "delete": lambda s: _somebody(s, model.Step("delete")),
    "death": lambda s: _somebody(s._replace(wall=s.wall + THRESHOLD), model.Step("get")),
    "flush": lambda s: s._replace(server=model.Server()),
}


def _quiescent(state: State) -> int:
    """The slice after two heartbeats that get through."""
    for _ in range(2):
        state, _ = _make(state, (), GOOD, again=True)
    assert not state.holding.owed
    counter = state.server.counters.get(KEY, model.Counter())
    assert counter.total == counter.own(state.instance.name), "nobody else counts"
    return counter.total


def test_r20_after_every_short_history_the_slice_is_what_is_held() -> None:
    frontier = {State(model.Server(), model.Instance("i", THRESHOLD), r20.Holding(), 1)}
    seen = set(frontier)
    for _ in range(4):
        frontier = {do(state) for state in frontier for do in EVENTS.values()} - seen
        seen |= frontier
    assert len(seen) > 1_000
    for state in seen:
        assert _quiescent(state) == state.holding.held.get(KEY, 0)
    assert {state.holding.held.get(KEY, 0) for state in seen} >= {0, 1, 2, 3, 4, 6}


# --- The counters in memory ----------------------------------------------------------------------


@pytest.fixture
def server() -> InMemoryServer:
    return InMemoryServer()


@pytest.fixture
def counter(server: InMemoryServer) -> InMemoryCounter:
    return InMemoryCounter(server, "p")


@pytest.fixture
def other(server: InMemoryServer) -> InMemoryCounter:
    return InMemoryCounter(server, "p")


def test_results_and_errors_are_distkits_and_the_oracles(
    server: InMemoryServer, counter: InMemoryCounter
) -> None:
    state: Any = counter.inc("k")
    assert type(state) is distkit.CounterState
    change: Any = counter.inc_if("k", distkit.gt(5))
    assert type(change) is distkit.Change
    assert type(change.old) is distkit.CounterState
    calls: list[tuple[str, list[str], Callable[[], Any]]] = [
        ("InvalidKeyError", [], lambda: counter.inc("a:b")),
        ("CounterOverflowError", [], lambda: counter.inc("k", 2**53)),
        ("NotExecutedError", [NOT_EXECUTED], lambda: counter.inc("k")),
        ("OutcomeUnknownError", [LOST_REPLY], lambda: counter.inc("k")),
        ("LimitReached", [], counter.limit("k", 1).slot(blocking=False).__enter__),
    ]
    for name, failures, call in calls:
        for package in (distkit, oracle):
            server.fail_next(*failures)
            with pytest.raises(getattr(package, name)):
                call()
    assert counter.get("k") == (3, 3), "the lost replies were of an inc that ran"


def test_the_errors_of_the_oracle_alone() -> None:
    """Where no package is registered."""
    from oracle.in_memory import types

    for name in types.Types._fields[2:]:
        assert getattr(types.OWN, name) is getattr(oracle, name)
    error = types.OWN.limit_reached("k", 3)
    assert isinstance(error, oracle.LimitReached)
    assert (error.key, error.most) == ("k", 3)


def test_an_outage_lasts_until_the_server_is_told_otherwise(
    server: InMemoryServer, counter: InMemoryCounter, other: InMemoryCounter
) -> None:
    with counter.held("k"), counter.limit("k", 5).slot():
        assert other.get("k") == (2, 0)
        server.go_down()
        for call in (counter.heartbeat, counter.clear, lambda: counter.get_all(["k", "l"])):
            with pytest.raises(distkit.NotExecutedError):
                call()
        with pytest.raises(distkit.NotExecutedError):
            counter.held("k").__enter__()
    server.come_back()
    assert other.get("k") == (2, 0), "both releases are owed"
    counter.heartbeat()
    assert other.get("k") == (0, 0)


@pytest.mark.parametrize("failure", [NOT_EXECUTED, LOST_REQUEST, LOST_REPLY])
def test_whatever_a_request_came_to_the_slice_comes_to_what_is_held(
    server: InMemoryServer, counter: InMemoryCounter, other: InMemoryCounter, failure: str
) -> None:
    limit = counter.limit("k", 5)
    limit.acquire()
    server.fail_next(failure)
    with pytest.raises((distkit.NotExecutedError, distkit.OutcomeUnknownError)):
        limit.acquire()
    counter.heartbeat()
    assert other.get("k") == (1, 0)
    server.fail_next(failure)
    limit.release()
    counter.heartbeat()
    assert other.get("k") == (0, 0)


def test_what_becomes_of_those_that_ask_while_the_server_is_unreachable(
    server: InMemoryServer, counter: InMemoryCounter, other: InMemoryCounter
) -> None:
    with server.outage():
        assert counter.limit("k", 1, when_unreachable="allow").acquire()
        assert not counter.limit("k", 1, when_unreachable="refuse").acquire()
        with pytest.raises(distkit.NotExecutedError):
            counter.limit("k", 1).acquire()
        with counter.held("k", 2, when_unreachable="allow") as state:
            assert state is None
            server.come_back()
            counter.heartbeat()
            assert other.get("k") == (3, 0)
    with pytest.raises(ValueError, match="when_unreachable"):
        counter.limit("k", 1, when_unreachable="ignore")  # type: ignore[arg-type]


def test_a_holder_is_worth_its_count_in_the_next_epoch(
    counter: InMemoryCounter, other: InMemoryCounter
) -> None:
    with counter.held("k", 3):
        other.delete("k")
        assert other.get("k") == (0, 0)
        counter.heartbeat()
        assert other.get("k") == (3, 0)
    assert other.get("k") == (0, 0)


def test_who_leaves_holds_nothing_any_more(
    counter: InMemoryCounter, other: InMemoryCounter
) -> None:
    held = counter.held("k", 3)
    held.__enter__()
    counter.__exit__(None, None, None)
    assert other.get("k") == (0, 0)
    with counter.held("k"):
        held.__exit__(None, None, None)
        assert other.get("k") == (1, 0), "what is released is of the life before"


def test_what_nobody_refers_to_is_released(
    counter: InMemoryCounter, other: InMemoryCounter
) -> None:
    counter.held("k").__enter__()
    gc.collect()
    counter.heartbeat()
    assert other.get("k") == (0, 0)


def test_threads_wait_in_order_for_whoever_frees_a_slot(
    server: InMemoryServer, counter: InMemoryCounter, other: InMemoryCounter
) -> None:
    limit, mine = counter.limit("k", 1), other.limit("k", 1)
    assert mine.acquire()
    order: list[int] = []

    def work(number: int) -> None:
        with limit.slot(timeout=20):
            order.append(number)

    threads = []
    for number in range(5):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        time.sleep(0.01)
    assert not order
    assert limit.acquire(timeout=0.05) is False
    mine.release()
    for thread in threads:
        thread.join(20)
    assert order == [0, 1, 2, 3, 4]
    assert limit.available() == 1
    with pytest.raises(RuntimeError, match="had not been acquired"):
        limit.release()


def test_a_dead_holders_slot_is_free_when_the_clock_says_so(
    server: InMemoryServer, counter: InMemoryCounter, other: InMemoryCounter
) -> None:
    assert counter.limit("k", 1).acquire()
    threading.Timer(0.05, server.advance, [THRESHOLD]).start()
    assert other.limit("k", 1).acquire(timeout=20)


def test_tasks_wait_in_order_and_the_cancelled_leave_nothing_behind(
    server: InMemoryServer, other: InMemoryCounter
) -> None:
    async def main() -> None:
        async with AsyncInMemoryCounter(server, "p") as counter:
            limit, order = counter.limit("k", 2), list[int]()

            @limit
            async def work(number: int) -> None:
                order.append(number)
                await asyncio.sleep(0.001)

            tasks = [asyncio.ensure_future(work(number)) for number in range(50)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for number in range(0, 50, 5):
                tasks[number].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert order[-40:] == [n for n in range(50) if n % 5]
            assert other.get("k") == (0, 0)
            async with counter.held("k") as state, limit.slot():
                assert state == (1, 1)
                assert await limit.available() == 0
                assert await limit.acquire(timeout=0.01) is False
            assert await limit.acquire()
            limit.release()
            assert await limit.available() == 2

    asyncio.run(main())


def test_decorating_what_would_hold_nothing_is_refused(
    server: InMemoryServer, counter: InMemoryCounter
) -> None:
    async def coroutine() -> None: ...

    with pytest.raises(TypeError):
        counter.held("k")(coroutine)
    with pytest.raises(TypeError):
        AsyncInMemoryCounter(server, "p").held("k")(lambda: None)  # type: ignore[arg-type,return-value]


def test_both_stand_ins_satisfy_the_protocols(server: InMemoryServer) -> None:
    def use(counter: distkit.Counter) -> int:
        with counter.held("k") as state, counter.limit("l", 1).slot(blocking=False):
            return state.cumulative

    async def use_tasks(counter: distkit.AsyncCounter) -> int:
        async with counter.held("k") as state, counter.limit("l", 1).slot(blocking=False):
            return state.cumulative

    assert use(InMemoryCounter(server, "p")) == 1
    assert asyncio.run(use_tasks(AsyncInMemoryCounter(server, "p"))) == 1


def test_clearing_takes_time_in_proportion_to_the_keys(counter: InMemoryCounter) -> None:
    """It took the square of it: each step looked through the steps of its call."""

    def seconds(keys: int) -> float:
        counter.inc_all([(f"{keys} {n}", 1) for n in range(keys)])
        started = time.perf_counter()
        counter.clear_on_instance()
        taken = time.perf_counter() - started
        counter.clear()
        return taken

    assert seconds(3_000) < 60 * seconds(300)
