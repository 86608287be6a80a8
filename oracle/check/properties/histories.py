"""What must hold of a request in the light of earlier ones, of what is stored, of a call that
returns, and of an instance that hears a reply."""

from __future__ import annotations

from typing import NamedTuple

from oracle.check.linearizability import Linearizations
from oracle.check.properties.registry import declare
from oracle.model import HERE, Instance, Map, Memory, Reply, Server, View

# --- Until Redis falls back to an earlier state ---------------------------------------------------


class Executed(NamedTuple):
    """The steps of a request ran: its session and its seq. `last` is the newest request of the same
    instance id that had run before."""

    last: tuple[int, int]
    now: tuple[int, int]


@declare(Executed, "R11", "no request runs twice, or after a later one of its instance")
def _executed_once(executed: Executed) -> str:
    """A request runs at most once, and never after a later request of its instance, nor after one
    of a later life of its instance's id: the numbers of sessions only grow."""
    fine = executed.now > executed.last
    return "" if fine else f"{executed.now} runs, and {executed.last} had run before"


class Answered(NamedTuple):
    """What the request in flight is told about the counters that it writes: what the first copy was
    told (empty if none has arrived), and what this copy is told."""

    first: tuple[View, ...]
    now: tuple[View, ...]


@declare(Answered, "R11", "a retry gets the first reply again")
def _same_reply(answered: Answered) -> str:
    """The same request, sent again, is told the same about the counters that it writes."""
    fine = answered.first in ((), answered.now)
    return "" if fine else f"first {answered.first}, now {answered.now}"


class Closed(NamedTuple):
    """The instances whose sessions a request closed, although they live and have not left.
    `unfound`: whether Redis has lost writes, and nobody has found that."""

    names: tuple[str, ...]
    unfound: bool


@declare(Closed, "R10", "only lost writes close the session of a live instance")
def _no_false_loss(closed: Closed) -> str:
    """No late copy of any request is taken for proof that Redis has lost writes, and each loss is
    found once at most."""
    fine = closed.unfound or not closed.names
    return "" if fine else f"the session of {', '.join(closed.names)} is closed"


class Counted(NamedTuple):
    """The server, and how many sets and deletes have been called so far."""

    server: Server
    moves_of_epoch: int


@declare(Counted, "R6 R11", "a set or delete starts one epoch at most")
def _epochs(counted: Counted) -> str:
    """There are no more epochs than calls of `set` and `delete`."""
    held = counted.server
    epochs = sum(held.counter(key).epoch for key in {*held.counters, *held.keys})
    fine = epochs <= counted.moves_of_epoch
    return "" if fine else f"{epochs} epochs after {counted.moves_of_epoch} calls"


class Stored(NamedTuple):
    """The server, while Redis has lost nothing."""

    server: Server


@declare(Stored, "R18", "the list of counters is exact")
def _listed(stored: Stored) -> str:
    """While Redis has lost nothing, exactly the counters that are kept are listed."""
    listed = {key for key, epoch in stored.server.keys.items() if epoch == HERE}
    kept = stored.server.counters.keys()
    return "" if listed == kept else f"{sorted(listed)} are listed, and {sorted(kept)} are kept"


class Returned(NamedTuple):
    """A call has returned. These linearizations of the calls so far are left, by key."""

    linearizations: Map[str, Linearizations]


@declare(Returned, "R9 R11 R12", "replies are linearizable")
def _linearizable(returned: Returned) -> str:
    """Without deaths and lost writes, each call takes effect at one moment between its beginning
    and its end, as on a plain atomic counter (Wing and Gong). A call that was given up takes
    effect once, before its instance's next call does, or never."""
    for key, calls in returned.linearizations.items():
        if not calls.configurations:
            return f"no order of the calls on {key} explains the replies"
    return ""


# --- Whenever an instance hears a reply -----------------------------------------------------------


class Heard(NamedTuple):
    """An instance before and after it hears a reply."""

    before: Instance
    reply: Reply
    after: Instance


@declare(Heard, "R6", "the epoch that an instance remembers never decreases")
def _remembered_epoch(heard: Heard) -> str:
    """An instance never remembers an older epoch of a counter than before. It forgets only 0 in
    epoch 0."""
    for key, was in heard.before.memory.items():
        now = heard.after.memory.get(key, Memory())
        if now.epoch < was.epoch:
            return f"the epoch of {key} was remembered as {was.epoch}, and now as {now.epoch}"
    return ""
