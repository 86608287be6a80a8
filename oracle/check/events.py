"""Everything that can happen in a bounded world, one class for each kind of event.

To add an event, write its class here and put it into `InstanceEvent` or `CommonEvent`. mypy then
points to every place that has to handle it: `oracle.check.transitions` (what it does),
`oracle.check.trace` (how it is told) and `tests/harness/player.py` (how it is played on
production). `oracle.check.world` says when it can happen. An event that can happen only so often
also needs a field of `Bounds` and an option of `oracle.cli.explore`.

Events are data classes, not named tuples: named tuples of different classes can be equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn, get_args

from oracle.model import Message, Steps

# --- What happens to one instance, `who`, or to one of its requests -------------------------------


@dataclass(frozen=True, slots=True)
class Joins:
    """A new instance starts, with this threshold (R5) and promise (R19), both in ms."""

    who: str
    threshold: int
    promise: int


@dataclass(frozen=True, slots=True)
class Crashes:
    """The instance is gone. Its requests may still arrive."""

    who: str


@dataclass(frozen=True, slots=True)
class Restarts:
    """A new instance starts under the id of one that has crashed (R17)."""

    who: str
    threshold: int
    promise: int


@dataclass(frozen=True, slots=True)
class Calls:
    """The instance begins a call that runs these steps."""

    who: str
    steps: Steps


@dataclass(frozen=True, slots=True)
class Looks:
    """The instance begins a heartbeat that looks at some counters, and lets go of others (R10,
    R18)."""

    who: str
    keys: tuple[str, ...]
    let_go: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Leaves:
    """The instance begins to leave (R16)."""

    who: str


@dataclass(frozen=True, slots=True)
class GivesUp:
    """The instance ends its call without a reply (R12)."""

    who: str


@dataclass(frozen=True, slots=True)
class HearsReply:
    """The request in flight arrives, and the instance hears the reply. `resent` says whether the
    instance had sent the request before without hearing a reply."""

    who: str
    message: Message
    resent: bool


@dataclass(frozen=True, slots=True)
class CopyArrives:
    """A copy of a request of the instance arrives, and the reply is lost."""

    who: str
    message: Message


InstanceEvent = (
    Joins | Crashes | Restarts | Calls | Looks | Leaves | GivesUp | HearsReply | CopyArrives
)

# --- What happens to the server, or to everybody --------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClockMoves:
    """The wall clock moves, forward or back."""

    ms: int


@dataclass(frozen=True, slots=True)
class StrangerCalls:
    """An instance that has nothing to do with the others makes the server read the clock (R3)."""


@dataclass(frozen=True, slots=True)
class EverythingIsLost:
    """Redis is emptied."""


@dataclass(frozen=True, slots=True)
class KeyIsLost:
    """One key of Redis is gone: one of `oracle.check.redis_keys`."""

    key: str


@dataclass(frozen=True, slots=True)
class SnapshotIsTaken:
    """A key of Redis is copied, or all of them (`EVERYTHING`): a rollback may come back to it."""

    key: str


@dataclass(frozen=True, slots=True)
class SnapshotIsRestored:
    """What was copied into the snapshot with this number, counted from 0, is as it was then."""

    number: int


CommonEvent = (
    ClockMoves | StrangerCalls | EverythingIsLost | KeyIsLost | SnapshotIsTaken | SnapshotIsRestored
)

Event = InstanceEvent | CommonEvent

EVENT_TYPES: tuple[type, ...] = get_args(Event)


def unhandled(event: NoReturn) -> AssertionError:
    """For the end of a match: mypy complains there unless every kind of event is handled. (This is
    what `typing.assert_never` is for, from Python 3.11 on.)"""
    return AssertionError(f"not handled: {event}")
