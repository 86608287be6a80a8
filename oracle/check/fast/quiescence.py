"""What is checked when no call is under way and no copy arrives any more: once for each case.

No time passes any more in such a world, and few of its numbers matter. A `Column` holds what
matters of one instance, `Rest` what matters of the server that belongs to no instance. Worlds with
the same columns and rest behave the same from here on, so they are inspected once. The test
`test_what_matters_when_quiescent_decides_what_holds` in `tests/oracle/test_reductions.py` compares
this with the inspection of whole worlds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from oracle.check.fast.parts import PLACE, SERVER, SLOT, Parts, Worlds
from oracle.check.fast.tables import Attribute, Interner, Table
from oracle.check.state import NAMES, Protocol, Slot
from oracle.check.world import inspect_quiescent
from oracle.model import Counter, Instance, Map, Server, Session, Slice, View, tick


class Rest(NamedTuple):
    """What matters of the server that belongs to no instance: the epoch of each counter that is
    there, and the list of counters."""

    epochs: tuple[tuple[str, int], ...]
    keys: tuple[tuple[str, int], ...]


class Column(NamedTuple):
    """What matters of one instance in a quiescent world.

    Attributes:
        dead: whether it is dead.
        session: its session, or None if it has none.
        slices: its slices, in the order of their keys.
        instance: what it knows itself; None if it has crashed or not joined.
        indeterminate: the keys on which it gave up a call that may have run.
    """

    dead: bool
    session: Session | None
    slices: tuple[tuple[str, Slice], ...]
    instance: Instance | None
    indeterminate: frozenset[str]


def column(server: Server, name: str, slot: Slot) -> Column:
    """What matters of one instance, for a server in relative time.

    No time passes any more: an instance is dead or it is not, and it does not matter since when.
    The numbers of an instance's sessions are compared only with one another, and so are its seqs;
    the next one of either is greater than all. So their ranks are enough. (If its id was used
    before, the server may know greater seqs than the instance, which moves towards them: then the
    seqs themselves count.) Of an instance that has crashed, nobody asks for seqs, and a slice
    belongs to its session or does not.
    """
    session = server.sessions.get(name)
    now = tick(server, 0).clock
    dead = session is None or now is None or now - session.heartbeat >= session.threshold
    held = [(key, c.slices[name]) for key, c in server.counters.items() if name in c.slices]
    slices, instance = (
        [(key, mine._replace(before=View())) for key, mine in sorted(held)],
        slot.instance,
    )
    if instance is None:
        number = {mine.session: 0 for _, mine in slices}
        number |= {session.number: 1} if session else {}
        seq = dict.fromkeys([mine.seq for _, mine in slices] + [session.seq if session else 0], 0)
    else:
        memory = instance.memory
        known = [instance.seq, instance.acked, instance.fence, *(m.seq for m in memory.values())]
        seq = _ranks({*known, *([session.seq] if session else []), *(s.seq for _, s in slices)})
        if max(seq) > instance.seq:
            seq = {each: each for each in seq}
        number = _ranks(
            {
                instance.session,
                instance.last,
                *([session.number] if session else []),
                *(mine.session for _, mine in slices),
            }
        )
        instance = _ranked(instance, number, seq)
    return Column(
        dead,
        session
        and Session(0, session.threshold, number[session.number], seq[session.seq], session.fresh),
        tuple(
            (key, mine._replace(seq=seq[mine.seq], session=number[mine.session]))
            for key, mine in slices
        ),
        instance,
        slot.indeterminate if instance is not None else frozenset(),
    )


def _ranked(instance: Instance, number: dict[int, int], seq: dict[int, int]) -> Instance:
    memory = {key: m._replace(seq=seq[m.seq]) for key, m in sorted(instance.memory.items())}
    return instance._replace(
        session=number[instance.session],
        last=number[instance.last],
        seq=seq[instance.seq],
        acked=seq[instance.acked],
        fence=seq[instance.fence],
        memory=Map(memory),
    )


def _ranks(numbers: set[int]) -> dict[int, int]:
    """The rank of each number. 0 means "none" everywhere, so it keeps the rank 0."""
    return {number: rank for rank, number in enumerate(sorted(numbers | {0}))}


def rest(server: Server) -> Rest:
    """What matters of the server that belongs to no instance."""
    epochs = sorted((key, counter.epoch) for key, counter in server.counters.items())
    return Rest(tuple(epochs), tuple(sorted(server.keys.items())))


def restored(rest: Rest, columns: Sequence[Column]) -> tuple[Server, tuple[Slot, ...]]:
    """A server and slots of which exactly this matters."""
    named = list(zip(NAMES, columns, strict=False))
    sessions = {
        name: one.session._replace(heartbeat=-one.session.threshold if one.dead else 0)
        for name, one in named
        if one.session is not None
    }
    slices = {(key, name): mine for name, one in named for key, mine in one.slices}
    counters = {
        key: Counter(epoch, Map({name: s for (k, name), s in slices.items() if k == key}))
        for key, epoch in rest.epochs
    }
    ranks = [0, *(s.number for s in sessions.values()), *(s.session for s in slices.values())]
    ranks += [one.instance.last for one in columns if one.instance is not None]
    server = Server(0, 0, None, max(ranks), Map(sessions), Map(counters), Map(dict(rest.keys)))
    return server, tuple(
        Slot(instance=one.instance, indeterminate=one.indeterminate) for one in columns
    )


class QuiescenceCheck:
    """Inspects quiescent worlds, each case once."""

    def __init__(self, parts: Parts, protocol: Protocol) -> None:
        self.parts, self.protocol = parts, protocol
        self.columns: Interner[Column] = Interner("quiescent instances", 62)
        self.rests: Interner[Rest] = Interner("rests of quiescent servers", 62)
        self.is_quiescent = Attribute(parts.slots, lambda slot: slot.is_quiescent)
        self.rest_of = Attribute(parts.servers, lambda held: self.rests.number(rest(held)))
        self.column = Table((SERVER, SLOT, PLACE), self._column)
        self.inspected: set[tuple[int, ...]] = set()

    def inspect(self, worlds: Worlds) -> None:
        """Check what must hold of those worlds that are quiescent. Raises Violation."""
        quiet = [self.is_quiescent.of(slots) for slots in worlds.slots]
        (places,) = np.logical_and.reduce(quiet).nonzero()
        worlds = worlds.at(places)
        columns = [self.column.of(worlds.servers, s, place) for place, s in enumerate(worlds.slots)]
        columns = list(np.sort(np.stack(columns), axis=0))
        cases = np.stack([self.rest_of.of(worlds.servers), *columns], axis=1)
        for case in set(map(tuple, cases.tolist())) - self.inspected:
            self._inspect(case)
            self.inspected.add(case)

    def _inspect(self, case: tuple[int, ...]) -> None:
        columns = [self.columns.values[column] for column in case[1:]]
        server, slots = restored(self.rests.values[case[0]], columns)
        inspect_quiescent(server, 0, slots, self.protocol)

    def _column(self, server: int, slot: int, place: int) -> int:
        held, one = self.parts.servers.values[server], self.parts.slots.values[slot]
        return self.columns.number(column(held, NAMES[place], one))
