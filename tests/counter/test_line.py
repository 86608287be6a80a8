"""Group commit: which callers share a request, and threads that take turns in leading."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

import fakeredis
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from distkit import CounterState, DistkitError, StrictInstanceAwareCounter
from distkit.core import operations as steps
from distkit.core.batching import MOST_KEYS, MOST_STEPS, Queue, bounded
from distkit.core.instance import Call, Instance, Kind, Outcome, Reply, Request
from distkit.core.operations import Step
from distkit.keys import Keyspace
from distkit.testing import driver_of
from tests.harness.servers import RedisServer


class Caller:
    def __init__(self, todo: Sequence[Step], kind: Kind = Kind.STEPS) -> None:
        self.entry = (todo, self, kind)
        self.got: Any = None
        self.left = False

    def cancelled(self) -> bool:
        return self.left

    def done(self) -> bool:
        return self.left or self.got is not None


class Desk:
    def deal(self, callers: Sequence[Caller], outcomes: list[Outcome]) -> None:
        for caller, outcome in zip(callers, outcomes, strict=True):
            caller.got = [outcome]

    def finish(self, caller: Caller, _: Sequence[Step], outcomes: list[Outcome]) -> None:
        caller.got = outcomes


def _line(*callers: Caller) -> Queue:
    line = Queue()
    line.waiting += [caller.entry for caller in callers]
    return line


def _taken(line: Queue) -> int:
    """Take the next group and give each step its place as outcome. Returns its number of steps."""
    call = line.take()
    if call is None:
        return 0
    outcomes: list[Any] = list(range(len(call.outcomes)))
    call.outcomes = outcomes
    line.hand_out(Desk())
    return len(outcomes)


def test_who_came_first_goes_first_and_gets_its_own() -> None:
    callers = [Caller([steps.inc("k")] * n) for n in (1, 0, 3, 2)]
    assert _taken(_line(*callers)) == 6
    assert [caller.got for caller in callers] == [[0], [], [1, 2, 3], [4, 5]]


def test_a_group_ends_before_the_caller_that_would_not_fit() -> None:
    many_keys = [Caller([steps.inc(f"k{n}")]) for n in range(MOST_KEYS + 7)]
    line = _line(*many_keys)
    assert [_taken(line), _taken(line), _taken(line)] == [MOST_KEYS, 7, 0]
    line = _line(*(Caller([steps.inc("k")] * 200) for _ in range(4)))
    assert [_taken(line), _taken(line), _taken(line)] == [400, 400, 0]


def test_who_leaves_leaves_alone() -> None:
    """R16"""
    line = _line(Caller([steps.inc("k")]), Caller((), Kind.LEAVE), Caller([steps.inc("k")]))
    assert [_taken(line), _taken(line), _taken(line)] == [1, 0, 1]


def test_who_has_gone_is_not_taken() -> None:
    callers = [Caller([steps.inc("k")]) for _ in range(3)]
    callers[1].left = True
    assert _taken(_line(*callers)) == 2
    assert callers[1].got is None


def test_a_group_that_was_taken_is_taken_again_until_it_has_its_outcomes() -> None:
    """The next leader completes it."""
    line = _line(Caller([steps.inc("k")]))
    call = line.take()
    line.waiting.append(Caller([steps.inc("k")]).entry)
    assert line.take() is call


def test_a_long_batch_is_cut_into_pieces_that_fit() -> None:
    todo = [steps.inc(f"k{n // 4}") for n in range(1_000)]
    pieces = list(bounded(todo))
    assert [step for piece in pieces for step in piece] == todo
    assert [len(piece) for piece in pieces] == [400, 400, 200]
    assert list(map(len, bounded([steps.inc("k")] * (MOST_STEPS + 1)))) == [MOST_STEPS, 1]
    assert list(bounded([])) == [[]]


@pytest.mark.parametrize(
    "error", [redis.ResponseError("OOM command not allowed"), redis.exceptions.NoPermissionError()]
)
def test_a_refusal_is_each_callers_own(error: Exception) -> None:
    """Each caller raises an error of its own, because raising adds to its traceback."""
    session = Instance(Keyspace("p"), "A", 30_000)
    session.begin(Call([steps.inc("k"), steps.inc("k")]))
    session.speak()
    session.refuse(error)
    one, other = session.call.outcomes
    assert one is not other
    for outcome in (one, other):
        assert (type(outcome), str(outcome)) == (type(error), str(error))


# --- Threads -------------------------------------------------------------------------------------


def _work(counter: StrictInstanceAwareCounter, calls: int, seen: list[CounterState]) -> None:
    before = 0
    for _ in range(calls):
        state = counter.inc("k")
        assert state.cumulative > before, "a thread's calls keep their order"
        before = state.cumulative
        seen.append(state)


def test_16_threads_share_a_counter(client: redis.Redis) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    seen: list[CounterState] = []
    threads = [threading.Thread(target=_work, args=(counter, 50, seen)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [(n, n) for n in range(1, 801)], "every call got its own exact result"


def test_threads_that_are_switched_all_the_time_get_their_own_too(client: redis.Redis) -> None:
    """Another thread may run between any two lines of distkit, even between a leader's last reply
    and the moment when it hands over."""
    counter = StrictInstanceAwareCounter(client, "p")
    seen: list[CounterState] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=_work, args=(counter, 100, seen)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert sorted(seen) == [(n, n) for n in range(1, 801)]


class Hurdle:
    """Holds back the next request, or its reply, until all callers wait. Then it interrupts the
    sender between send and reply, as a Ctrl-C does, unless `interrupt` is False."""

    def __init__(self, counter: StrictInstanceAwareCounter, *, after: bool) -> None:
        self._counter, self._real, self._after = counter, driver_of(counter).send, after
        self.in_flight, self.go = threading.Event(), threading.Event()
        self.interrupt = True
        driver_of(counter).send = self.send

    def send(self, request: Request) -> Reply:
        if self._after:
            self._real(request)
        driver_of(self._counter).send = self._real
        self.in_flight.set()
        assert self.go.wait(20)
        if self.interrupt:
            raise KeyboardInterrupt
        return self._real(request)


@pytest.mark.parametrize("after", [False, True], ids=["before it was sent", "before its reply"])
def test_an_interrupted_leader_neither_loses_nor_repeats_anybodys_step(
    client: redis.Redis, after: bool
) -> None:
    """The next leader sends the same request again, so it is not counted twice either."""
    counter = StrictInstanceAwareCounter(client, "p")
    counter.heartbeat()
    hurdle = Hurdle(counter, after=after)
    seen: list[Any] = []

    def lead() -> None:
        with pytest.raises(KeyboardInterrupt):
            counter.inc("k", 1_000)
        seen.append("interrupted")

    leader = threading.Thread(target=lead)
    leader.start()
    assert hurdle.in_flight.wait(20)
    others = [threading.Thread(target=lambda: seen.append(counter.inc("k"))) for _ in range(3)]
    for other in others:
        other.start()
    while len(driver_of(counter).queue) < 3:
        threading.Event().wait(0.001)
    hurdle.go.set()
    for thread in (leader, *others):
        thread.join(20)
    assert sorted(seen, key=str) == [(1_001, 1_001), (1_002, 1_002), (1_003, 1_003), "interrupted"]
    assert counter.get("k") == (1_003, 1_003)


def test_after_an_interrupt_with_nobody_in_line_the_next_call_finishes_what_was_begun(
    real_server: RedisServer,
) -> None:
    counter = StrictInstanceAwareCounter(real_server.client(), "p")
    counter.inc("k")
    hurdle = Hurdle(counter, after=True)
    hurdle.go.set()
    with pytest.raises(KeyboardInterrupt):
        counter.set("k", 50)
    assert counter.inc("k") == (51, 51)


def test_a_thread_that_is_interrupted_in_line_is_not_counted(client: redis.Redis) -> None:
    """A call that was not sent yet is never sent."""
    counter = StrictInstanceAwareCounter(client, "p")
    counter.heartbeat()
    hurdle = Hurdle(counter, after=False)
    hurdle.interrupt = False
    leader = threading.Thread(target=counter.inc, args=("k", 1))
    leader.start()
    assert hurdle.in_flight.wait(20)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distkit.threads._Thread.wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            counter.inc("k", 100)
    hurdle.go.set()
    leader.join(20)
    assert counter.inc("k", 10) == (11, 11)


class _Uncopyable(Exception):
    """Its arguments are not those of its constructor, so that it cannot be rebuilt from them."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def test_an_error_that_cannot_be_copied_is_raised_as_it_is() -> None:
    """It is no result, whoever it comes from: here a test's clock."""

    def broken_clock() -> int:
        raise _Uncopyable(7, "no time")

    counter = StrictInstanceAwareCounter(fakeredis.FakeRedis(), "p", clock_ms=broken_clock)
    with pytest.raises(_Uncopyable, match="no time"):
        counter.inc("k")
    with pytest.raises(_Uncopyable, match="no time"):
        counter.inc_all([("k", 1), ("j", 2)])


def test_after_a_call_nobody_leads() -> None:
    """However it ends. Whoever comes next leads at once, and need not find out that the last leader
    is gone."""
    server = fakeredis.FakeServer()
    client = fakeredis.FakeRedis(server=server, retry=Retry(NoBackoff(), 0))
    counter = StrictInstanceAwareCounter(client, "p")
    driver = driver_of(counter)
    assert not driver.is_led
    counter.inc("k")
    assert not driver.is_led
    server.connected = False
    with pytest.raises(DistkitError):
        counter.inc("k")
    assert not driver.is_led
