"""States of the server and requests to it, at random: whether or not a history leads there.

Few names, few numbers: so the sessions, seqs and epochs of a request often match those that are
stored, or miss them by one. Most of it is as it is when all is well; each part then deviates now
and then. What every history keeps is kept here too, because the script relies on it: a counter has
a slice, no slice is of a later epoch than its counter, a session's threshold does not change, and a
request is newer than those that its instance has heard answered.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from oracle import model

NAMES = ("A", "B", "C", "D")
KEYS = ("k", "другой", "a b")
NOW = 1_000_000
THRESHOLDS = (3, 5, 1000)
LABELS = ("", "web-1:77", "two words", "é 1 2")
EDGES = (model.LIMIT, model.LIMIT - 1, model.LIMIT // 2 + 1)


class Exchange(NamedTuple):
    """A request, where it meets the server, and when."""

    before: model.Server
    labels: dict[str, str]
    request: model.Message
    wall: int


class Chance:
    """Draws exchanges."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._pick = self._random.choice
        self._number = self._random.randint

    def exchanges(self, count: int) -> Iterator[Exchange]:
        for _ in range(count):
            server = self._server()
            labels = {name: self._pick(LABELS) for name in server.sessions}
            wall = (server.wall or NOW) + self._pick((0, 0, 0, 1, 2, 5, 1000, -3))
            yield Exchange(server, labels, self._request(server), wall)

    def _rarely(self, times: int = 8) -> bool:
        """Once in so many times."""
        return self._number(1, times) == 1

    def _count(self) -> int:
        if self._rarely(6):
            return self._pick(EDGES) * self._pick((1, -1))
        return self._pick((-2, -1, 0, 0, 1, 2, 3))

    def _view(self) -> model.View:
        total = self._number(-(2**60), 2**60) if self._rarely() else self._count()
        return model.View(total, self._number(0, 2), self._count())

    def _some(self, things: tuple[str, ...]) -> list[str]:
        return self._random.sample(things, self._number(0, len(things)))

    # --- The server ------------------------------------------------------------------------------

    def _server(self) -> model.Server:
        if self._rarely(12):  # `instances` is lost
            counters, keys = self._counters(model.Map())
            return model.Server(counters=counters, keys=keys)
        clock = NOW + self._number(0, 3)
        sessions = model.Map({name: self._session(clock) for name in self._some(NAMES)})
        counters, keys = self._counters(sessions)
        wall, opened = NOW + self._number(-2, 2), self._number(3, 5)
        due = self._pick((None, None, clock - 1, clock, clock + 2, clock + 400))
        return model.Server(clock, wall, due, opened, sessions, counters, keys)

    def _session(self, clock: int) -> model.Session:
        heartbeat = clock - self._pick((0, 0, 1, 2, 3, 4, 6))
        threshold = self._pick(THRESHOLDS)
        numbers = (self._number(1, 3), self._number(1, 4))
        return model.Session(heartbeat, threshold, *numbers, fresh=self._rarely(3))

    def _counters(
        self, sessions: model.Map[str, model.Session]
    ) -> tuple[model.Map[str, model.Counter], model.Map[str, int]]:
        counters, keys = {}, {}
        for key in KEYS:
            epoch = self._number(0, 2)
            slices = {
                name: self._slice(epoch, sessions.get(name)) for name in self._owners(sessions)
            }
            if slices:
                counters[key] = model.Counter(epoch, model.Map(slices))
            if self._rarely():
                keys[key] = self._number(0, 2)
            elif (slices or epoch) and not self._rarely():
                keys[key] = model.HERE if slices else epoch
        return model.Map(counters), model.Map(keys)

    def _owners(self, sessions: model.Map[str, model.Session]) -> list[str]:
        return self._some(NAMES if self._rarely(3) else tuple(sessions))

    def _slice(self, epoch: int, owner: model.Session | None) -> model.Slice:
        made_in = self._number(0, epoch) if self._rarely(4) else epoch
        if owner is None or self._rarely():
            return model.Slice(
                self._count(), made_in, self._number(0, 4), self._number(1, 3), self._view()
            )
        seq = owner.seq if self._rarely(3) else self._number(0, owner.seq)
        return model.Slice(self._count(), made_in, seq, owner.number, self._view())

    # --- The request -----------------------------------------------------------------------------

    def _request(self, server: model.Server) -> model.Message:
        """Of an instance that may have a session; retries and late copies are among them."""
        name = self._pick([*server.sessions] * 5 + [*NAMES])
        held = server.sessions.get(name)
        seq = max(1, held.seq + self._pick((1, 1, 1, 1, 0, 0, -1, 2))) if held else 2
        acked = max(0, seq - self._pick((1, 1, 1, 2, 3)))
        number = self._number(1, 3) if held is None or self._rarely() else held.number
        promise = self._pick((0, 0, 2, 400))
        kind = self._pick(["open", "leave", "restore", "restore"] + ["ask"] * 12)
        if kind == "open":
            retried = held is not None and held.fresh and held.seq == seq
            threshold = held.threshold if held and retried else self._pick(THRESHOLDS)
            return model.Open(name, seq, acked, threshold, self._number(0, 3), promise)
        threshold = held.threshold if held else self._pick(THRESHOLDS)
        if kind == "leave":
            return model.Leave(name, number, seq, acked, threshold, promise)
        restores = kind == "restore"
        keys = [self._pick(KEYS)] if self._rarely(2) else self._some(KEYS)
        parts = tuple(
            model.Part(key, self._memory(server, name, key), () if restores else self._steps())
            for key in keys
        )
        return model.Request(name, number, seq, acked, threshold, parts, promise, restores)

    def _memory(self, server: model.Server, name: str, key: str) -> model.Memory:
        """Mostly what the instance would remember if all were well."""
        counter = server.counter(key)
        mine = counter.slices.get(name)
        right = model.Memory(counter.epoch, counter.own(name), mine.seq if mine else 1)
        if self._rarely(5):
            right = right._replace(epoch=self._number(0, 2))
        if self._rarely(5):
            right = right._replace(count=self._count())
        if self._rarely(3):
            right = right._replace(seq=self._number(0, 4))
        return right

    def _steps(self) -> tuple[model.Step, ...]:
        kind = self._number(1, 8)
        if kind == 1:
            return ()
        if kind == 2:
            return (model.Step(model.LOOK),)
        if kind == 3:
            return (model.Step(model.DROP),)
        if kind <= 5:
            return (model.Step("inc", self._count()),) * self._pick((1, 1, 1, 2, 3))
        return tuple(self._step() for _ in range(self._number(1, 3)))

    def _step(self) -> model.Step:
        op = self._pick(("inc", "set_on_instance", "set", "delete", "delete_on_instance"))
        if op.startswith("delete"):
            return model.Step(op)
        if self._rarely(2):
            return model.Step(op, self._count())
        condition = model.Condition(self._pick(model.RELATIONS), self._count())
        return model.Step(op, self._count(), condition)
