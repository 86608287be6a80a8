"""Which classes a counter in memory answers with: its own, and those of the package it stands for.

`oracle` never imports `distkit`, and yet an application's tests want distkit's errors and results.
So it is turned round: a package registers itself under the entry point group `oracle.stand_in`
(`pyproject.toml`), and the counters in memory answer in its classes. Without one they answer in
those of this file. The model knows nothing of this.

An error is of both classes, so that `except oracle.InvalidKeyError` works as well as `except
distkit.InvalidKeyError`.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from oracle import model
from oracle.model import CounterState

GROUP = "oracle.stand_in"


class InMemoryError(Exception):
    """The base of the errors here.

    Attributes:
        outcomes: after a batch, what became of each step, in order: its result or its error.
    """

    outcomes: tuple[object, ...] = ()


class InvalidKeyError(InMemoryError, ValueError):
    """R1: a prefix, key or instance id is not allowed. Nothing changed."""


class CounterOverflowError(InMemoryError, OverflowError):
    """R2: a count or a total would be outside -(2^53 - 1)..2^53 - 1. Nothing changed."""


class NotExecutedError(InMemoryError):
    """The server could not be reached; the call was not executed."""


class OutcomeUnknownError(InMemoryError):
    """The call was sent and no reply came: it was executed once, or not at all (R12)."""


class PartitionsError(InMemoryError):
    """R21: the prefix is divided into another number of partitions. Nothing changed."""


class LimitReached(InMemoryError):
    """R20: no slot of a limit was free.

    Attributes:
        key, most: the limit.
    """

    key: str
    most: int


class Types(NamedTuple):
    """The classes that counters answer with; attributes of the same names as in `distkit`."""

    CounterState: Any
    Change: Any
    InvalidKeyError: type[InMemoryError]
    CounterOverflowError: type[InMemoryError]
    NotExecutedError: type[InMemoryError]
    OutcomeUnknownError: type[InMemoryError]
    LimitReached: type[InMemoryError]
    PartitionsError: type[InMemoryError]

    def state(self, state: CounterState) -> CounterState:
        made: CounterState = self.CounterState(*state)
        return made

    def change(self, change: model.Change) -> model.Change:
        made: model.Change = self.Change(
            self.state(change.new), self.state(change.old), change.applied
        )
        return made

    def partitions_error(self, prefix: str, there: int, asked: int) -> InMemoryError:
        error = self.PartitionsError.__new__(self.PartitionsError, prefix, there, asked)
        error.__dict__.update(found=2, known=1, there=there, asked=asked, _prefix=prefix)
        error.args = (prefix, there, asked)
        return error

    def limit_reached(self, key: str, most: int) -> InMemoryError:
        error = self.LimitReached.__new__(self.LimitReached)
        error.args = (f"none of the {most} slots of {key!r} is free",)
        error.__dict__.update(key=key, most=most)
        return error


OWN = Types(
    CounterState,
    model.Change,
    InvalidKeyError,
    CounterOverflowError,
    NotExecutedError,
    OutcomeUnknownError,
    LimitReached,
    PartitionsError,
)


def types_like(package: object) -> Types:
    """The classes of a package that has them under the names of `Types`."""
    states = (getattr(package, name) for name in Types._fields[:2])
    errors = (_both(getattr(OWN, name), getattr(package, name)) for name in Types._fields[2:])
    return Types(*states, *errors)


def _both(own: type[InMemoryError], theirs: type[Exception]) -> type[InMemoryError]:
    """A class of error that is both."""
    return type(own.__name__, (own, theirs), {"__doc__": own.__doc__, "__module__": __name__})


@cache
def registered() -> Types:
    """The classes of the package that is registered, if it can be imported; or those of here."""
    for entry in entry_points(group=GROUP):
        try:
            return types_like(entry.load())
        except ImportError:  # its own dependencies are missing
            continue
    return OWN
