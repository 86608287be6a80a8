"""Whole calls: what one call of the public API takes, from its first request to its last.

A call of an instance (`begin`) is at most one request's worth of steps. `clear`,
`clear_on_instance`, leaving and a long batch take several, one after the other. The user of this
module says how each of them is made, over which network and against which server: it passes a
function from the instance whose call has begun to what came of it. R1 is here too: which names may
be used at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from oracle.model.housekeeping import Rounds, plan
from oracle.model.instance import (
    NOT_EXECUTED,
    UNKNOWN,
    Instance,
    Outcome,
    begin,
    begin_leaving,
    begin_looking,
)
from oracle.model.operations import Step
from oracle.model.state import HERE, Server

MOST_COUNTERS = 100
MOST_STEPS = 512
"""The most counters, and the most steps, of one request that runs steps."""

Steps = tuple[tuple[str, Step], ...]
"""Steps on keys, in order."""


class Made(NamedTuple):
    """A call that is over.

    Attributes:
        instance: the instance after it.
        outcomes: what became of each step, in order.
        failure: `UNKNOWN` or `NOT_EXECUTED` if it was given up; otherwise empty.
    """

    instance: Instance
    outcomes: tuple[Outcome, ...] = ()
    failure: str = ""

    @property
    def error(self) -> str:
        """What the call fails with: the first step that failed, or what ended one without steps."""
        failed = (outcome for outcome in self.outcomes if isinstance(outcome, str))
        return next(failed, self.failure)


Make = Callable[[Instance], Made]
"""Makes the call that has begun."""


def make_steps(instance: Instance, steps: Steps, make: Make) -> Made:
    """Run steps, in as many requests as they need; no steps at all are a heartbeat.

    After a request that got no reply, or whose steps are unknown (R12), the rest is not sent: those
    steps are not executed. A step that is refused (R2) does not stop the others.
    """
    outcomes: tuple[Outcome, ...] = ()
    failure = ""
    for piece in _pieces(steps):
        instance, ran, failure = make(begin(instance, piece))
        outcomes += ran
        if failure or UNKNOWN in ran:
            break
    not_sent = (NOT_EXECUTED,) * (len(steps) - len(outcomes))
    return Made(instance, outcomes + not_sent, failure)


def _pieces(steps: Steps) -> Iterator[Steps]:
    """The steps in pieces of one request each; at least one piece."""
    first, keys = 0, set[str]()
    for place, (key, _) in enumerate(steps):
        keys.add(key)
        if place - first == MOST_STEPS or len(keys) > MOST_COUNTERS:
            yield steps[first:place]
            first, keys = place, {key}
    yield steps[first:]


def clear_on_instance_steps(instance: Instance) -> Steps:
    """R9: `set_on_instance(0)` on every counter that the instance remembers, in order of the keys'
    code points."""
    return tuple((key, Step("set_on_instance", 0)) for key in sorted(instance.memory))


def clear_steps(instance: Instance, existing: Iterable[str]) -> Steps:
    """R9: `set(0)` on every counter that exists or that the instance remembers, in that order."""
    return tuple((key, Step("set", 0)) for key in sorted({*existing, *instance.memory}))


def make_heartbeat(instance: Instance, rounds: Rounds, make: Make) -> tuple[Made, Rounds]:
    """R4: say that the instance is alive, and look after its counters (R10, R18).

    Returns:
        What came of it, and where the housekeeping is then.
    """
    looks, let_go, rounds = plan(rounds, instance)
    made = make(begin_looking(instance, looks, let_go))
    return made, rounds.after(made.instance)


def make_leave(instance: Instance, make: Make) -> Made:
    """R16: drop the slices, then close the session, whatever became of the slices. Without a
    session nothing is sent."""
    return make(begin_leaving(instance))


def existing_counters(server: Server) -> set[str]:
    """The counters that exist, as `keys` knows them (R9, R18)."""
    return {key for key, epoch in server.keys.items() if epoch == HERE}


def name_error(name: object, forbidden: str = ":") -> str:
    """R1: why this cannot be a key or an instance id, or a prefix if `:{}` are forbidden; empty if
    it can be one."""
    if not isinstance(name, str):
        return f"must be a str, not {type(name).__name__}"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return f"cannot be written in UTF-8: {name!r}"
    if not 1 <= size <= 255:
        return f"must have 1 to 255 bytes in UTF-8, not {size}"
    found = next((char for char in forbidden if char in name), "")
    return f"must not contain {found!r}: {name!r}" if found else ""
