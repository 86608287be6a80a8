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
from oracle.model import Instance, Map, Message, Reply, Server, View

NAMES = "ABCDEFGH"
"""The names of instances, in the order of their slots."""

KEYS = ("k", "j", "i")

HERE = ""
"""The name that an instance has in its own slot."""


class Protocol(NamedTuple):
    """The three functions of the machine. `oracle.check.broken` has defective ones."""

    serve: model.Serve = model.serve
    speak: Callable[[Instance], Instance] = model.speak
    hear: Callable[[Instance, Reply, bool], Instance] = model.hear


RIGHT = Protocol()


class Bounds(NamedTuple):
    """How much there is in a world, and how often each thing can happen.

    Attributes:
        instances: how many there are from the start.
        keys: how many counters.
        operations: how many calls the instances make in all.
        kinds: the kinds of call to choose from.
        first: the kinds of the first calls, in this order.
        threshold: after how many ms of silence an instance is dead.
        ticks: how often the clock moves, each time by 1, threshold - 1, threshold or -1 ms.
        crashes: how many instances crash.
        joins: how many instances join later.
        give_ups: how many calls are given up without a reply.
        losses: how often Redis loses everything.
        rollbacks: how often Redis falls back to an earlier state.
        linear: whether replies are checked to be linearizable, as long as no instance is presumed
            dead and nothing is lost.
    """

    instances: int = 2
    keys: int = 1
    operations: int = 2
    kinds: tuple[CallKind, ...] = KINDS
    first: tuple[CallKind, ...] = ()
    threshold: int = 2
    ticks: int = 0
    crashes: int = 0
    joins: int = 0
    give_ups: int = 0
    losses: int = 0
    rollbacks: int = 0
    linear: bool = False


class Context(NamedTuple):
    """What can still happen, and what is remembered of the past.

    Attributes:
        left: the bounds, as far as they are not used up.
        snapshots: the states of the server that a rollback can fall back to.
        lossy: whether Redis has lost writes.
        moves_of_epoch: how many sets and deletes were called so far.
        linearizations: those of each key, or None once linearizability is not checked (any more).
    """

    left: Bounds
    snapshots: tuple[Server, ...] = ()
    lossy: bool = False
    moves_of_epoch: int = 0
    linearizations: Map[str, Linearizations] | None = None


class Slot(NamedTuple):
    """One instance and its share of the network.

    Attributes:
        instance: None before the instance joins, and after it has crashed.
        joins_later: whether the instance has not joined yet.
        network: the requests of the instance that may still arrive.
        resent: whether a copy of the request in flight may have arrived without the instance's
            knowing.
        first_record: what the first copy of the request in flight was answered about the counters
            that it writes.
        indeterminate: the keys on which the instance gave up a call that may have run.
        last_run: the seq of the last request of the instance that changed anything.
    """

    instance: Instance | None = None
    joins_later: bool = False
    network: frozenset[Message] = frozenset()
    resent: bool = False
    first_record: tuple[View, ...] = ()
    indeterminate: frozenset[str] = frozenset()
    last_run: int = 0

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
    present = Slot(Instance(HERE, bounds.threshold))
    slots = (present,) * bounds.instances + (Slot(joins_later=True),) * bounds.joins
    return World(0, Server(), context, slots)
