"""What an instance holds, and what it owes Redis (R20).

The holders of a process are the truth; the slice is set to what they hold. This is the whole of it:
a number for each key, and the keys whose slice may differ from that number. What is owed goes with
every request, before the steps of the call.
"""

from __future__ import annotations

from typing import NamedTuple

from oracle.model.calls import Steps
from oracle.model.instance import Outcome
from oracle.model.maps import Map
from oracle.model.operations import Change, Condition, CounterState, Step


class Holding(NamedTuple):
    """What the holders of one instance hold.

    Attributes:
        held: how much is held of each key; keys of which nothing is held are left out.
        owed: the keys whose slice may be something else.
    """

    held: Map[str, int] = Map()
    owed: frozenset[str] = frozenset()


def hold(holding: Holding, key: str, count: int) -> Holding:
    """A holder enters without a limit. Its request is what is owed from now on."""
    return _changed(holding, key, count)._replace(owed=holding.owed | {key})


def release(holding: Holding, key: str, count: int) -> Holding:
    """A holder leaves. That cannot fail: it is owed."""
    return _changed(holding, key, -count)._replace(owed=holding.owed | {key})


def admit(holding: Holding, key: str, outcome: Outcome) -> Holding:
    """What the step of `limit_step` came to: its slice has counted the holder, or has not; or it is
    unknown, and then it does not hold."""
    if isinstance(outcome, Change):
        return _changed(holding, key, 1) if outcome.applied else holding
    return holding._replace(owed=holding.owed | {key})


def _changed(holding: Holding, key: str, by: int) -> Holding:
    count = holding.held.get(key, 0) + by
    assert count >= 0, "nobody releases what is not held"
    held = holding.held.put(key, count) if count else holding.held.without(key)
    return holding._replace(held=held)


def owed_steps(holding: Holding, again: bool = False) -> Steps:
    """What a request has to carry before anything else.

    Args:
        holding: who holds what.
        again: whether it is time to set the slices of all keys that are held: this is how a slice
            comes back after its epoch ended.
    """
    keys = holding.owed | frozenset(holding.held) if again else holding.owed
    return tuple((key, Step("set_on_instance", holding.held.get(key, 0))) for key in sorted(keys))


def paid(holding: Holding, steps: Steps, outcomes: tuple[Outcome, ...]) -> Holding:
    """What is still owed after the steps of `owed_steps` came to these outcomes."""
    settled = {
        key
        for (key, _), outcome in zip(steps, outcomes, strict=True)
        if isinstance(outcome, CounterState)
    }
    failed = {key for key, _ in steps} - settled
    return holding._replace(owed=holding.owed - settled | failed)


def limit_step(key: str, most: int) -> tuple[str, Step]:
    """What asks for one of `most` slots."""
    return key, Step("inc", 1, Condition("lt", most))
