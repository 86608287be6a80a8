"""The state of a bounded world: what exists in it, and what can still happen.

A world has three parts. The `Server` is the model's. A `Slot` is one instance with the requests
that it has sent. The `Context` is what can still happen, and what has to be remembered of the past
to judge what happens next. A slot does not know its instance's name, so renaming instances only
permutes slots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from oracle import model
from oracle.check.call_kinds import KINDS, CallKind
from oracle.check.linearizability import Linearizations
from oracle.check.redis_keys import Snapshot
from oracle.model import Instance, Map, Message, Reply, Server, View

NAMES = "ABCDEFGH"
"""The names of instances, in the order of their slots."""

KEYS = ("k", "j", "i")

HERE = ""
"""The name that an instance has in its own slot."""


HEAD_START = 20
"""Where an id is used again, the first instance that has it starts after this seq, and the next one
after 0. (The seqs of instances with one id are far apart: whoever takes an id that may have been
used before starts at random.)"""


class Protocol(NamedTuple):
    """The functions of the machine. `oracle.check.broken` has defective ones."""

    serve: model.Serve = model.serve
    speak: Callable[[Instance], Instance] = model.speak
    hear: Callable[[Instance, Reply, bool], Instance] = model.hear
    look: Callable[[Instance, tuple[str, ...], tuple[str, ...]], Instance] = model.begin_looking


RIGHT = Protocol()


class Bounds(NamedTuple):
    """How much there is in a world, and how often each thing can happen.

    Attributes:
        instances: how many there are from the start.
        keys: how many counters.
        operations: how many calls the instances make in all.
        kinds: the kinds of call to choose from.
        first: the kinds of the first calls, in this order.
        thresholds: after how many ms of silence each instance is dead, in the order of their slots,
            those that join last. The last threshold is that of all further instances.
        promises: within how many ms each instance promises to be heard again (R19), in the same
            way; 0 is no promise. Each is less than the threshold.
        ticks: how often the clock moves, each time by 1, a threshold - 1, a threshold or -1 ms.
        crashes: how many instances crash.
        joins: how many instances join later.
        reuses: how many instances start under the id of one that has crashed.
        give_ups: how many calls are given up without a reply.
        losses: how often Redis loses everything.
        key_losses: how often Redis loses one key.
        rollbacks: how often Redis falls back to an earlier state.
        key_rollbacks: how often one key of Redis falls back to an earlier state.
        linear: whether replies are checked to be linearizable, as long as no instance is presumed
            dead and nothing is lost.
    """

    instances: int = 2
    keys: int = 1
    operations: int = 2
    kinds: tuple[CallKind, ...] = KINDS
    first: tuple[CallKind, ...] = ()
    thresholds: tuple[int, ...] = (2,)
    promises: tuple[int, ...] = (0,)
    ticks: int = 0
    crashes: int = 0
    joins: int = 0
    reuses: int = 0
    give_ups: int = 0
    losses: int = 0
    key_losses: int = 0
    rollbacks: int = 0
    key_rollbacks: int = 0
    linear: bool = False

    @property
    def fault(self) -> str:
        """Why there is no such world; empty if there is one."""
        everybody = range(self.instances + self.joins)
        late = [p for p in everybody if _at(self.promises, p) >= _at(self.thresholds, p)]
        if len(everybody) > len(NAMES):
            return f"at most {len(NAMES)} instances in all, those that join included"
        if late:
            return "a promise has to be less than the instance's threshold"
        if self.reuses > self.crashes:
            return "an id is used again only after its instance has crashed: crashes are too few"
        if self.linear and any(kind.apart for kind in (*self.first, *self.kinds)):
            return "whether replies are linearizable is checked for calls on one counter only"
        return ""

    @property
    def may_roll_back(self) -> bool:
        """Whether anything can fall back to an earlier state."""
        return self.rollbacks > 0 or self.key_rollbacks > 0

    @property
    def may_lose(self) -> bool:
        """Whether Redis can lose any writes."""
        return self.losses > 0 or self.key_losses > 0 or self.may_roll_back


ONE_KEY, MORE = 1, 2
"""How much has fallen back to an earlier state: see `Context.rolled_back`."""


class Context(NamedTuple):
    """What can still happen, and what is remembered of the past.

    Attributes:
        left: the bounds, as far as they are not used up.
        snapshots: what a rollback can fall back to.
        lossy: whether Redis has lost writes.
        rolled_back: `ONE_KEY` if the list of counters or one counter has fallen back to an earlier
            state, and that is all; `MORE` if everything has, or the sessions, or if one key has and
            something else was lost; otherwise 0.
        unfound: how many of the losses nobody has found yet (R10).
        moves_of_epoch: how many sets and deletes were called so far.
        linearizations: those of each key, or None once linearizability is not checked (any more).
    """

    left: Bounds
    snapshots: tuple[Snapshot, ...] = ()
    lossy: bool = False
    rolled_back: int = 0
    unfound: int = 0
    moves_of_epoch: int = 0
    linearizations: Map[str, Linearizations] | None = None


class Slot(NamedTuple):
    """One instance and its share of the network.

    Attributes:
        instance: None before the instance joins, and after it has crashed.
        life: the instance as it is when it starts.
        joins_later: whether the instance has not joined yet.
        network: the requests of the instance that may still arrive.
        resent: whether a copy of the request in flight may have arrived without the instance's
            knowing.
        first_record: what the first copy of the request in flight was answered about the counters
            that it writes.
        indeterminate: the keys on which the instance gave up a call that may have run.
        last_run: the session and the seq of the last request of the instance that changed anything.
    """

    instance: Instance | None = None
    life: Instance = Instance(HERE, 1)
    joins_later: bool = False
    network: frozenset[Message] = frozenset()
    resent: bool = False
    first_record: tuple[View, ...] = ()
    indeterminate: frozenset[str] = frozenset()
    last_run: tuple[int, int] = (0, 0)

    @property
    def is_quiescent(self) -> bool:
        return self.instance is None or self.instance.call is None


class World(NamedTuple):
    """One state of a bounded world. `wall` is the wall clock in ms."""

    wall: int
    server: Server
    context: Context
    slots: tuple[Slot, ...]


def start(bounds: Bounds) -> World:
    """The first state: no request has been sent."""
    orders = {key: Linearizations() for key in KEYS[: bounds.keys]}
    context = Context(bounds, linearizations=Map(orders) if bounds.linear else None)
    slots, first = [], HEAD_START if bounds.reuses else 0
    for place in range(bounds.instances + bounds.joins):
        threshold, promise = _at(bounds.thresholds, place), _at(bounds.promises, place)
        life = Instance(HERE, threshold, promise=promise)
        head_start = life._replace(seq=first)
        if place < bounds.instances:
            slots.append(Slot(head_start, life))
        else:
            slots.append(Slot(life=head_start, joins_later=True))
    return World(0, Server(), context, tuple(slots))


def _at(values: tuple[int, ...], place: int) -> int:
    """The value at this place. The last value stands for all that follow."""
    return values[min(place, len(values) - 1)]
