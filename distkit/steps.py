"""What a call does to one counter: the operations, and the one function that says what they mean.

The script runs the same transition on the same state (`run_steps` in `lua/counter.lua`): so a reply
can be the state before the steps, and many steps can share a request.

The functions at the end turn a call's arguments into a step. They are all of the validation there
is, for the sync counter and the asyncio one alike: bad input is refused here, before anything is
sent (R1, R2).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from distkit.keys import LIMIT, checked_count, checked_name

SPAN: Final = LIMIT + 1
"""A total travels as high * SPAN + low: deaths and returns may move it out of a double's range."""

GET, INC, SET_ON_INSTANCE, SET, DELETE = "", "+", "=", "!", "~"
"""The operations, as the script spells them. A read is not spelt at all: the reply is the state."""


class CounterState(NamedTuple):
    """What a call returns.

    Attributes:
        cumulative: the sum of the live instances' slices (R7).
        instance_count: this instance's slice.
    """

    cumulative: int
    instance_count: int


GLOBAL: Final = frozenset({SET, DELETE})
"""They bump the epoch; the others change nothing but the caller's slice."""


class Step(NamedTuple):
    """One operation on one counter; `removed` asks for what was there instead of what is."""

    key: str
    op: str
    n: int = 0
    removed: bool = False


def spell(step: Step) -> str:
    """The step as the script reads it; PROTOCOL.md, "Steps"."""
    return "" if step.op == GET else f"{step.op}{step.n}"


class State(NamedTuple):
    """One counter as its caller sees it."""

    total: int
    epoch: int
    own: int


def transition(before: State, step: Step) -> tuple[State, CounterState] | None:
    """R9, and R2: the state after the step and its result; None if a number would be out of range.

    The script runs the same function on the same state, so that a reply need not carry results.
    """
    total, epoch, count = before
    if step.op == GET:
        after, result = before, CounterState(total, count)
    elif step.op == INC:
        after = State(total + step.n, epoch, count + step.n)
        result = CounterState(after.total, after.own)
    elif step.op == SET_ON_INSTANCE:
        after = State(total - count + step.n, epoch, step.n)
        result = CounterState(after.total, count if step.removed else step.n)
    elif step.op == SET:
        after = State(step.n, epoch + 1, step.n)
        result = CounterState(step.n, step.n)
    elif step.op == DELETE:
        after, result = State(0, epoch + 1, 0), CounterState(total, count)
    else:
        raise AssertionError(f"no such operation: {step.op!r}")
    fits = -LIMIT <= after.total <= LIMIT and -LIMIT <= after.own <= LIMIT
    return (after, result) if fits and -LIMIT <= result.cumulative <= LIMIT else None


def inc(key: object, count: object = 1) -> Step:
    return Step(_key(key), INC, checked_count(count))


def dec(key: object, count: object = 1) -> Step:
    return Step(_key(key), INC, -checked_count(count))


def get(key: object) -> Step:
    return Step(_key(key), GET)


def set_on_instance(key: object, count: object) -> Step:
    return Step(_key(key), SET_ON_INSTANCE, checked_count(count))


def delete_on_instance(key: object) -> Step:
    return Step(_key(key), SET_ON_INSTANCE, 0, removed=True)


def set(key: object, count: object) -> Step:
    return Step(_key(key), SET, checked_count(count))


def delete(key: object) -> Step:
    return Step(_key(key), DELETE)


def _key(key: object) -> str:
    return checked_name(key, "key")
