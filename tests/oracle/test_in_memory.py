"""`oracle.InMemoryCounter` has production's public API, and answers the same."""

from __future__ import annotations

import inspect
from typing import Any

import fakeredis
import hypothesis.strategies as st
import pytest
from hypothesis import given

import distkit
import oracle
from distkit import Comparator, StrictInstanceAwareCounter
from oracle import InMemoryCounter, InMemoryServer, model
from oracle.conform.strategies import counts, keys

THRESHOLD = 30_000
comparators = st.builds(Comparator, st.sampled_from(model.RELATIONS), counts)
updates = st.lists(st.tuples(keys, counts), max_size=4)
updates_if = st.lists(st.tuples(keys, comparators, counts), max_size=4)
calls = st.one_of(
    st.tuples(st.sampled_from(["inc", "dec", "set", "set_on_instance"]), keys, counts),
    st.tuples(st.sampled_from(["get", "delete", "delete_on_instance"]), keys),
    st.tuples(
        st.sampled_from(["inc_if", "set_if", "set_on_instance_if"]), keys, comparators, counts
    ),
    st.tuples(st.sampled_from(["inc_all", "set_all", "set_all_on_instance"]), updates),
    st.tuples(st.sampled_from(["inc_all_if", "set_all_if", "set_all_on_instance_if"]), updates_if),
    st.tuples(st.just("get_all"), st.lists(keys, max_size=4)),
    st.tuples(st.sampled_from(["heartbeat", "clear_on_instance", "clear"])),
)
waits = st.sampled_from([0, 0, 0, 1, THRESHOLD - 1, THRESHOLD, -5_000])


def _public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_it_has_every_public_name() -> None:
    assert _public(InMemoryCounter) == _public(StrictInstanceAwareCounter)
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


def test_who_leaves_takes_its_slices_along() -> None:
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
    with pytest.raises(TypeError, match="made by eq, ne, lt or gt"):
        counter.inc_if("k", 5)
