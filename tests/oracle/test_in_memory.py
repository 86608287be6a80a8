"""`oracle.InMemoryCounter` has production's public API, and answers the same."""

from __future__ import annotations

import copy
import inspect
import pickle
import time
from collections.abc import Callable
from typing import Any

import fakeredis
import hypothesis.strategies as st
import pytest
from hypothesis import given

import distkit
import oracle
from distkit import Comparator, StrictInstanceAwareCounter, lt
from oracle import CounterState, InMemoryCounter, InMemoryServer, always, eq, model
from oracle.conform.strategies import counts, keys

THRESHOLD = 30_000
comparators = st.builds(Comparator, st.sampled_from(model.RELATIONS), counts)
updates = st.lists(st.tuples(keys, counts), max_size=4)
updates_if = st.lists(st.tuples(keys, comparators, counts), max_size=4)


def _call(method: model.Method) -> st.SearchStrategy[tuple[Any, ...]]:
    """A call of the method: its name and its arguments."""
    condition = [comparators] if method.is_conditional else []
    count = [counts] if method.operation.takes_count else []
    return st.tuples(st.just(method.name), keys, *condition, *count)


calls = st.one_of(
    *map(_call, model.METHODS.values()),
    st.tuples(st.sampled_from(["inc_all", "set_all", "set_all_on_instance"]), updates),
    st.tuples(st.sampled_from(["inc_all_if", "set_all_if", "set_all_on_instance_if"]), updates_if),
    st.tuples(st.just("get_all"), st.lists(keys, max_size=4)),
    st.tuples(st.sampled_from(["heartbeat", "clear_on_instance", "clear"])),
)
waits = st.sampled_from([0, 0, 0, 1, THRESHOLD - 1, THRESHOLD, -5_000])


def _public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_it_has_every_public_name() -> None:
    """But `inspect`, which shows what a Redis holds."""
    assert _public(InMemoryCounter) == _public(StrictInstanceAwareCounter) - {"inspect"}
    for name in _public(InMemoryCounter) - {"instance_id"}:
        mine, right = (
            list(inspect.signature(getattr(kind, name)).parameters)
            for kind in (InMemoryCounter, StrictInstanceAwareCounter)
        )
        assert mine == right, name


def _answer(counter: Any, name: str, args: tuple[Any, ...]) -> object:
    try:
        return getattr(counter, name)(*args)
    except OverflowError as error:
        outcomes: tuple[object, ...] = error.outcomes  # type: ignore[attr-defined]
        return "refused", ["refused" if isinstance(o, Exception) else o for o in outcomes]


@given(st.lists(st.tuples(st.integers(0, 1), waits, calls), max_size=12))
def test_it_answers_as_production_does(history: list[tuple[int, int, tuple[Any, ...]]]) -> None:
    """R2 to R16, through the public calls alone."""
    server, client = InMemoryServer(1_000_000), fakeredis.FakeRedis(server=fakeredis.FakeServer())
    pairs = [
        (
            InMemoryCounter(server, "p"),
            StrictInstanceAwareCounter(client, "p", clock_ms=lambda: server.wall_ms),
        )
        for _ in range(2)
    ]
    for who, wait, (name, *args) in history:
        server.advance(wait)
        mine, right = (_answer(counter, name, tuple(args)) for counter in pairs[who])
        assert mine == right, name


@pytest.mark.parametrize("counts_by", [(), (3,)], ids=["by default", "by 3"])
@pytest.mark.parametrize("name", model.METHODS)
def test_each_method_answers_as_production_does(name: str, counts_by: tuple[int, ...]) -> None:
    """Each at least once, with and without its count, which chance may leave out."""
    method = model.METHODS[name]
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    server = InMemoryServer()
    made: tuple[Callable[[], Any], ...] = (
        lambda: InMemoryCounter(server, "p"),
        lambda: StrictInstanceAwareCounter(client, "p"),
    )
    answers = []
    for make in made:
        other, counter = make(), make()
        other.inc("k", 10)
        counter.set_on_instance("k", 5)
        condition = (lt(100),) if method.is_conditional else ()
        try:
            answer: Any = getattr(counter, name)("k", *condition, *counts_by)
        except TypeError:  # it takes no count, or has no default for one
            answer = "TypeError"
        answers.append((answer, counter.get("k"), other.get("k")))
    assert answers[0] == answers[1]


def test_an_instance_that_leaves_takes_its_slices_along() -> None:
    """R16"""
    server = InMemoryServer()
    other = InMemoryCounter(server, "p")
    with InMemoryCounter(server, "p") as counter:
        counter.inc("k", 5)
        assert other.inc("k") == (6, 1)
    assert other.get("k") == (1, 1)
    assert counter.get("k") == (1, 0)


def test_its_comparators_and_distkits_are_the_same() -> None:
    counter = InMemoryCounter(InMemoryServer(), "p")
    for name in model.RELATIONS:
        mine, right = (getattr(package, name)(3) for package in (oracle, distkit))
        assert counter.inc_if("k", mine, 0) == counter.inc_if("k", right, 0)


BAD_CALLS: dict[str, Any] = {
    "a key that is no str": lambda c: c.inc(5),
    "a key with a colon": lambda c: c.get("a:b"),
    "an empty key": lambda c: c.delete(""),
    "a key and a count that are bad": lambda c: c.set("a:b", 2**53),
    "a count that is no int": lambda c: c.inc("k", 1.0),
    "a count that is a bool": lambda c: c.set("k", True),
    "a count out of range": lambda c: c.dec("k", 2**53),
    "no comparator": lambda c: c.inc_if("k", 5),
    "a comparator that is a plain tuple": lambda c: c.set_if("k", ("lt", 5), 1),
    "a comparator with its key bad as well": lambda c: c.set_if("a:b", None, 1),
    "a str for keys": lambda c: c.get_all("abc"),
    "bytes for keys": lambda c: c.get_all(b"abc"),
    "a number for keys": lambda c: c.get_all(5),
    "a bad key in a batch": lambda c: c.inc_all([("k", 1), ("a:b", 1)]),
    "an update that is no pair": lambda c: c.inc_all([("k", 1), ("k",)]),
    "an update that is a str": lambda c: c.inc_all(["k1"]),
    "a dict for updates": lambda c: c.set_all({"k": 1}),
    "an update that lacks its comparator": lambda c: c.inc_all_if([("k", 1)]),
    "a bad comparator in a batch": lambda c: c.set_all_if([("k", lt(1), 1), ("k", "lt", 1)]),
}


@pytest.mark.parametrize("bad", BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_it_refuses_what_production_refuses_and_nothing_changes(bad: Any) -> None:
    server = InMemoryServer()
    mine = InMemoryCounter(server, "p")
    right = StrictInstanceAwareCounter(fakeredis.FakeRedis(server=fakeredis.FakeServer()), "p")
    with pytest.raises(Exception) as expected:  # noqa: PT011 - whichever production raises
        bad(right)
    bases = (TypeError, OverflowError, ValueError)
    (base,) = (kind for kind in bases if isinstance(expected.value, kind))
    with pytest.raises(base):
        bad(mine)
    assert server.state("p") == model.Server()


@pytest.mark.parametrize("operand", [1.5, True, None, 2**53, -(2**53)], ids=repr)
@pytest.mark.parametrize("relation", model.RELATIONS)
def test_an_operand_is_a_count(relation: str, operand: Any) -> None:
    error = OverflowError if type(operand) is int else TypeError
    with pytest.raises(error):
        getattr(oracle, relation)(operand)


def test_a_change_says_whether_the_condition_held() -> None:
    """R15: two calls of which one moves the epoch have equal states."""
    counter = InMemoryCounter(InMemoryServer(), "p")
    counter.set("k", 5)
    ran, did_not = counter.set_if("k", eq(5), 5), counter.set_if("k", eq(6), 5)
    assert (ran.applied, did_not.applied) == (True, False)
    assert ran != did_not
    assert tuple(ran) == tuple(did_not)
    new, old = ran
    assert new == old == (5, 5)


def test_a_change_is_a_pair_with_applied() -> None:
    one, other = (
        oracle.Change(CounterState(1, 1), CounterState(0, 0), applied) for applied in (True, False)
    )
    assert one == ((1, 1), (0, 0))
    assert one != other
    assert len({one, other, copy.copy(one)}) == 2
    for change in (one, other):
        again = pickle.loads(pickle.dumps(change))
        assert again == change
        assert again.applied == change.applied
        assert eval(repr(change), {"Change": oracle.Change, "CounterState": CounterState}) == change
    assert [one.new, one.old] == list(one)
    with pytest.raises(AttributeError):
        one.applied = False  # type: ignore[misc]


def test_always_runs_the_step_and_returns_a_change() -> None:
    counter = InMemoryCounter(InMemoryServer(), "p")
    assert counter.inc_if("k", always(), 5) == oracle.Change(
        CounterState(5, 5), CounterState(0, 0), True
    )
    changes = counter.inc_all_if([("k", eq(0), 1), ("k", always(), 1)])
    assert [change.applied for change in changes] == [False, True]
    assert counter.get("k") == (6, 6)


def test_many_keys_are_cleared_in_little_time() -> None:
    """It takes 0.25 s. With one copy of a map for each key it took 28 s."""
    counter = InMemoryCounter(InMemoryServer(), "p")
    counter.inc_all([(str(n), 1) for n in range(9_000)])
    began = time.process_time()
    counter.clear_on_instance()
    assert time.process_time() - began < 5
    assert counter.get("8999") == (0, 0)
