"""The messages between an instance and the server: requests and replies (spec/PROTOCOL.md)."""

from __future__ import annotations

from typing import NamedTuple

from oracle.model.operations import Step, View


class Memory(NamedTuple):
    """What the owner knows of its slice, as of its own request `seq` (R10)."""

    epoch: int = 0
    count: int = 0  # type: ignore[assignment]
    seq: int = 0

    @property
    def is_nothing(self) -> bool:
        """0 in epoch 0 is what an instance that remembers nothing would find (R18)."""
        return not self.epoch and not self.count


class Part(NamedTuple):
    """The share of a request that is about one counter."""

    key: str
    memory: Memory
    steps: tuple[Step, ...] = ()


class Open(NamedTuple):
    """Asks for a session. It runs no steps, so that a late copy of it does no harm. `last` is the
    session that the instance had before, 0 if none."""

    instance: str
    seq: int
    acked: int
    threshold: int
    last: int = 0
    promise: int = 0


class Leave(NamedTuple):
    """Closes the instance's own session (R16)."""

    instance: str
    session: int
    seq: int
    acked: int
    threshold: int
    promise: int = 0


class Request(NamedTuple):
    """A heartbeat (R4), with what is to be done on each counter.

    Attributes:
        acked: the last request whose reply the instance has heard.
        threshold: for how many ms it may be silent (R5).
        promise: within how many ms it will be heard again if it lives (R19); 0: no promise.
        restores: whether it puts slices back (R10). Only a session in which all are back serves
            other requests.
    """

    instance: str
    session: int
    seq: int
    acked: int
    threshold: int
    parts: tuple[Part, ...] = ()
    promise: int = 0
    restores: bool = False


Message = Open | Request | Leave


class Opened(NamedTuple):
    session: int


class Left(NamedTuple):
    """The session is closed."""


class NoSession(NamedTuple):
    """Nothing was executed: the instance opens a session, puts its slices back, sends again."""


class Late(NamedTuple):
    """Nothing was executed: this instance has already made request `seq`."""

    seq: int


class Done(NamedTuple):
    """The state before: what the caller saw of each counter just before its steps ran."""

    views: tuple[View, ...]


Reply = Opened | Left | NoSession | Late | Done
