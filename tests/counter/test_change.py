"""A result that says whether the condition held (R15), and the condition that always holds."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import redis

from distkit import (
    Change,
    CounterOverflowError,
    CounterState,
    StrictInstanceAwareCounter,
    always,
    eq,
    lt,
)
from distkit.core import operations

ONE, TWO = CounterState(1, 1), CounterState(2, 2)


def test_equal_states_do_not_hide_whether_the_condition_held(client: redis.Redis) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    counter.set("k", 5)
    held, failed = counter.set_if("k", eq(5), 5), counter.set_if("k", eq(6), 5)
    assert (held.applied, failed.applied) == (True, False)
    assert tuple(held) == tuple(failed) == ((5, 5), (5, 5))
    assert held != failed


def test_a_change_is_still_a_pair(client: redis.Redis) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    change = counter.inc_if("k", lt(5), 3)
    new, old = change
    assert (new, old) == (change.new, change.old) == ((3, 3), (0, 0))
    assert change == ((3, 3), (0, 0)), "as before `applied` existed"
    assert len(change) == 2


def test_applied_is_part_of_a_change() -> None:
    yes, no = Change(TWO, ONE, True), Change(TWO, ONE, False)
    assert yes == Change(TWO, ONE, True)
    assert yes != no
    assert yes != Change(ONE, ONE, True)
    assert hash(yes) == hash((TWO, ONE)), "they are equal"
    assert yes != [TWO, ONE]
    assert repr(no) == (
        "Change(new=CounterState(cumulative=2, instance_count=2), "
        "old=CounterState(cumulative=1, instance_count=1), applied=False)"
    )
    for made in (copy.copy(no), copy.deepcopy(no), pickle.loads(pickle.dumps(no))):
        assert made == no
        assert made != yes
        assert type(made) is Change
    match no:
        case Change(new=new, applied=False):
            assert new == TWO
        case _:
            pytest.fail("it is matched by its attributes")


@pytest.mark.parametrize("name", ["applied", "new", "other"])
def test_a_change_is_immutable(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Change(TWO, ONE, True), name, None)


def test_a_batch_can_mix_steps_with_and_without_a_condition(client: redis.Redis) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    changes = counter.inc_all_if([("k", always(), 5), ("k", lt(5), 1), ("k", always(), 1)])
    assert changes == [
        Change(CounterState(5, 5), CounterState(0, 0), True),
        Change(CounterState(5, 5), CounterState(5, 5), False),
        Change(CounterState(6, 6), CounterState(5, 5), True),
    ]
    assert counter.set_all_if([("k", always(), 2)])[0].applied
    assert counter.set_on_instance_if("k", always(), 9) == ((9, 9), (2, 2))


@pytest.mark.parametrize("op", [operations.inc_if, operations.set_if])
def test_always_refuses_what_any_condition_refuses(op: Any) -> None:
    """R2, R15: the state before is part of the result, so it has to be in range too."""
    step = op("k", always(), -200)
    assert operations.transition((2**53 - 1, 0, 0), step) is not None
    assert operations.transition((2**53, 3, 100), step) is None
    assert operations.transition((1, 0, -(2**53 - 1)), operations.inc_if("k", always(), -1)) is None


def test_the_script_knows_always_as_a_condition_that_every_count_meets(
    client: redis.Redis,
) -> None:
    """On the smallest total and slice, too."""
    least = -(2**53 - 1)
    assert operations.spell(operations.inc_if("k", always(), 5)) == "g-9007199254740992+5"
    counter = StrictInstanceAwareCounter(client, "p")
    assert counter.set_if("k", always(), least) == ((least, least), (0, 0))
    assert counter.inc_if("k", always(), 1) == ((least + 1, least + 1), (least, least))
    assert counter.get("k") == (least + 1, least + 1), "the script ran it, too"
    assert repr(always()) == "always()"


def test_always_on_a_total_out_of_range_changes_nothing(client: redis.Redis) -> None:
    """R2: a return pushed the total out of range. The script refuses, like the caller."""
    now = 0
    counters = [StrictInstanceAwareCounter(client, "p", clock_ms=lambda: now) for _ in range(2)]
    one, other = counters
    one.set_on_instance("k", 2**53 - 1)
    now = 30_000
    other.set_on_instance("k", 9)
    one.heartbeat()
    with pytest.raises(CounterOverflowError):
        other.inc_if("k", always(), -9)
    assert other.set_on_instance("k", 0) == (2**53 - 1, 0)


def test_what_is_no_tuple_is_not_equal_to_a_change() -> None:
    change = Change(ONE, TWO, True)
    for other in (5, None, "", [ONE, TWO]):
        assert (change == other) is False
        assert (change != other) is True
