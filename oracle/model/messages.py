"""The requests an instance sends and the replies it gets.

`spec/PROTOCOL.md` defines the same messages as bytes. In every request, `seq` is the number of the
request among those of its instance, `acked` the last seq whose reply the instance has received
(R10), and `threshold` the instance's dead-instance threshold in ms (R5). `promise` says within how
many ms the instance will be heard again if it lives; 0 is no promise (R19).
"""

from __future__ import annotations

from typing import NamedTuple

from oracle.model.operations import Step, View


class Memory(NamedTuple):
    """What an instance remembers of its own slice, as of its request `seq` (R10)."""

    epoch: int = 0
    count: int = 0  # type: ignore[assignment]
    seq: int = 0

    @property
    def is_nothing(self) -> bool:
        """Whether an instance that remembers nothing would find the same: 0 in epoch 0 (R18)."""
        return not self.epoch and not self.count


class Part(NamedTuple):
    """The part of a request that concerns one counter: what the sender remembers of its slice, and
    the steps to run."""

    key: str
    memory: Memory
    steps: tuple[Step, ...] = ()


class Open(NamedTuple):
    """Asks for a session.

    An open runs no steps, so a late copy of it counts nothing. `last` is the number of the
    instance's previous session, or 0.
    """

    instance: str
    seq: int
    acked: int
    threshold: int
    last: int = 0
    promise: int = 0


class Leave(NamedTuple):
    """Closes the sender's own session (R16), and takes its promise back (R19).

    `leaves` only makes the tuple longer than that of an `Open`: named tuples of equal fields are
    equal, and these two meet in sets.
    """

    instance: str
    session: int
    seq: int
    acked: int
    threshold: int
    promise: int = 0
    leaves: bool = True


class Request(NamedTuple):
    """A heartbeat (R4) that may also carry steps for any number of counters.

    `restores` says that it restores slices and runs no steps (R10). An instance sends other
    requests only after all its slices are restored.
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
    """The instance now has this session."""

    session: int


class Left(NamedTuple):
    """The sender's session is closed."""


class NoSession(NamedTuple):
    """Nothing was executed. The instance must open a session, restore its slices and send again."""


class Late(NamedTuple):
    """Nothing was executed: the server has already seen request `seq` from this instance."""

    seq: int


class Done(NamedTuple):
    """The request was executed.

    `views` holds what the caller saw of each counter just before its steps ran. The caller computes
    the steps' results from it.
    """

    views: tuple[View, ...]


Reply = Opened | Left | NoSession | Late | Done
