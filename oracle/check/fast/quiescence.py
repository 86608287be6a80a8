"""What is checked when no call is under way and no copy arrives any more: once for each case.

No time passes any more in such a world, and few of its numbers matter. A `Column` holds what
matters of one instance, `epochs` what matters of the server that belongs to no instance. Worlds
with the same columns and epochs behave the same from here on, so they are inspected once. The test
`test_what_matters_when_quiescent_decides_what_holds` in `tests/oracle/test_reductions.py` compares
this with the inspection of whole worlds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from oracle.check.fast.parts import PLACE, SERVER, SLOT, Parts, Worlds
from oracle.check.fast.tables import Attribute, Interner, Table
from oracle.check.state import NAMES, Bounds, Protocol, Slot
from oracle.check.world import inspect_quiescent
from oracle.model import Counter, Instance, Map, Server, Session, Slice, View

Epochs = tuple[tuple[str, int], ...]


class Column(NamedTuple):
    """What matters of one instance in a quiescent world.

    Attributes:
        dead: whether it is dead.
        session: the rank of its session, or None if it has none.
        seq: the rank of the last request of that session.
        slices: its slices, in the order of their keys.
        instance: what it knows itself; None if it has crashed or not joined.
        indeterminate: the keys on which it gave up a call that may have run.
    """

    dead: bool
    session: int | None
    seq: int
    slices: tuple[tuple[str, Slice], ...]
    instance: Instance | None
    indeterminate: frozenset[str]


def column(server: Server, name: str, slot: Slot, threshold: int) -> Column:
    """What matters of one instance, for a server in relative time.

    No time passes any more: an instance is dead or it is not, and it does not matter since when.
    The seqs of an instance are compared only with one another, and so are the numbers of its
    sessions; the next one of either is greater than all. So their ranks are enough. Of an instance
    that has crashed, nobody asks for seqs.
    """
    session = server.sessions.get(name)
    dead = session is None or max(0, -server.wall) - session.heartbeat >= threshold
    slices = [(k, c.slices[name]) for k, c in server.counters.items() if name in c.slices]
    slices.sort()
    instance = slot.instance
    if instance is None:
        kept = tuple((key, Slice(s.count, s.epoch, 0, View())) for key, s in slices)
        return Column(dead, None if session is None else 1, 0, kept, None, frozenset())
    memory = instance.memory
    seq = _ranks(
        {
            *(instance.seq, instance.acked, instance.fence, session.seq if session else 0),
            *(mine.seq for _, mine in slices),
            *(remembered.seq for remembered in memory.values()),
        }
    )
    number = _ranks({instance.session, instance.last, session.number if session else 0})
    ranked = instance._replace(
        session=number[instance.session],
        last=number[instance.last],
        seq=seq[instance.seq],
        acked=seq[instance.acked],
        fence=seq[instance.fence],
        memory=Map({key: m._replace(seq=seq[m.seq]) for key, m in sorted(memory.items())}),
    )
    return Column(
        dead,
        number[session.number] if session else None,
        seq[session.seq] if session else 0,
        tuple((key, s._replace(seq=seq[s.seq], before=View())) for key, s in slices),
        ranked,
        slot.indeterminate,
    )


def _ranks(numbers: set[int]) -> dict[int, int]:
    """The rank of each number. 0 means "none" everywhere, so it keeps the rank 0."""
    return {number: rank for rank, number in enumerate(sorted(numbers | {0}))}


GREATEST_SESSION = 3
"""The greatest rank of a session: an instance has one, had one, and has an entry of one."""


def epochs(server: Server) -> Epochs:
    """What matters of the server that belongs to no instance."""
    return tuple(sorted((key, counter.epoch) for key, counter in server.counters.items()))


def restored(
    epochs: Epochs, columns: Sequence[Column], threshold: int
) -> tuple[Server, tuple[Slot, ...]]:
    """A server and slots of which exactly this matters."""
    sessions = {
        name: Session(-threshold if one.dead else 0, one.session, one.seq)
        for name, one in zip(NAMES, columns, strict=False)
        if one.session is not None
    }
    slices = {
        (key, name): mine
        for name, one in zip(NAMES, columns, strict=False)
        for key, mine in one.slices
    }
    counters = {
        key: Counter(epoch, Map({name: s for (k, name), s in slices.items() if k == key}))
        for key, epoch in epochs
    }
    server = Server(0, 0, GREATEST_SESSION, Map(sessions), Map(counters))
    return server, tuple(
        Slot(instance=one.instance, indeterminate=one.indeterminate) for one in columns
    )


class QuiescenceCheck:
    """Inspects quiescent worlds, each case once."""

    def __init__(self, parts: Parts, bounds: Bounds, protocol: Protocol) -> None:
        self._parts, self._threshold, self._protocol = parts, bounds.threshold, protocol
        self._columns: Interner[Column] = Interner("quiescent instances", 62)
        self._epochs: Interner[Epochs] = Interner("epochs of quiescent servers", 62)
        self._is_quiescent = Attribute(parts.slots, lambda slot: slot.is_quiescent)
        self._epochs_of = Attribute(parts.servers, lambda held: self._epochs.number(epochs(held)))
        self._column = Table((SERVER, SLOT, PLACE), self._compute_column)
        self._inspected: set[tuple[int, ...]] = set()

    def inspect(self, worlds: Worlds) -> None:
        """Check what must hold of those worlds that are quiescent. Raises Violation."""
        quiet = [self._is_quiescent.of(slots) for slots in worlds.slots]
        (places,) = np.logical_and.reduce(quiet).nonzero()
        worlds = worlds.at(places)
        columns = [
            self._column.of(worlds.servers, s, place) for place, s in enumerate(worlds.slots)
        ]
        columns = list(np.sort(np.stack(columns), axis=0))
        cases = np.stack([self._epochs_of.of(worlds.servers), *columns], axis=1)
        for case in set(map(tuple, cases.tolist())) - self._inspected:
            self._inspect(case)
            self._inspected.add(case)

    def _inspect(self, case: tuple[int, ...]) -> None:
        columns = [self._columns.values[column] for column in case[1:]]
        server, slots = restored(self._epochs.values[case[0]], columns, self._threshold)
        inspect_quiescent(server, 0, slots, self._protocol)

    def _compute_column(self, server: int, slot: int, place: int) -> int:
        held, one = self._parts.servers.values[server], self._parts.slots.values[slot]
        return self._columns.number(column(held, NAMES[place], one, self._threshold))
