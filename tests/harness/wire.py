"""Converts between the oracle's messages and state and the bytes that spec/PROTOCOL.md defines.

It was written from the specification, independently of `distkit`'s code, so that the tests do not
compare production with itself.
"""

from __future__ import annotations

import itertools
from typing import Any

import redis

from oracle import model

LAYOUT = 1
FIRST_ARG = 3
"""After EVALSHA, the hash and the number of keys come the script's keys and arguments."""
WALL = 6
"""The index of the wall clock among the script's arguments."""


def spell(step: model.Step) -> str:
    """A step as a request spells it ("Steps")."""
    operation = model.OPERATIONS[step.op]
    if operation.is_read:
        return operation.letter
    return f"{_condition(step.condition)}{operation.letter}{step.count}"


def _condition(condition: model.Condition | None) -> str:
    if condition is None:
        return ""
    if condition == model.ALWAYS:
        return f"g-{model.LIMIT + 1}"
    return f"{condition.relation[0]}{condition.operand}"


def spell_all(steps: tuple[model.Step, ...]) -> str:
    """The steps on one counter. The same `inc` several times in a row is spelled once."""
    words = []
    for step, same in itertools.groupby(steps):
        times = len(list(same))
        once = step.op == "inc" and step.condition is None and times > 1
        words.append(f"{spell(step)}*{times}" if once else spell(step) * times)
    return "".join(words)


def request(message: model.Message, prefix: str, wall: int, label: str = "") -> tuple[str, ...]:
    """A request as the script's KEYS followed by its ARGV."""
    root = f"distkit:{{{prefix}}}:"
    keys = [root + "instances", root + "keys"]
    args: list[object] = [message.instance, _session(message), message.seq, message.acked]
    args += [message.threshold, message.promise, wall]
    args += [message.last, label] if isinstance(message, model.Open) else []
    for part in message.parts if isinstance(message, model.Request) else ():
        keys.append(f"{root}counter:{part.key}")
        args += [*part.memory, spell_all(part.steps)]
    return tuple(str(word) for word in [*keys, *args])


def _session(message: model.Message) -> str:
    if isinstance(message, model.Open):
        return "0"
    if isinstance(message, model.Leave):
        return f"-{message.session}"
    return f"{'+' if message.restores else ''}{message.session}"


def reply(message: model.Reply) -> list[int]:
    """A reply as the script returns it."""
    if isinstance(message, model.Opened):
        return [1, message.session]
    if isinstance(message, model.NoSession):
        return [0]
    if isinstance(message, model.Late):
        return [-1, message.seq]
    if isinstance(message, model.Left):
        return [1]
    return [1] + [n for v in message.views for n in (*limbs(v.total), v.epoch, v.count)]


def limbs(total: int) -> tuple[int, int]:
    """Split a total into high * 2^53 + low, with the same sign."""
    high, low = divmod(abs(total), 2**53)
    return (high, low) if total >= 0 else (-high, -low)


def with_wall(command: tuple[Any, ...], wall: int) -> list[Any]:
    """A script command with this wall clock: a late copy is executed at the time of its arrival."""
    words = list(command)
    words[FIRST_ARG + int(words[2]) + WALL] = wall
    return words


def numbered_by_redis(
    server: model.Server, request: model.Message, reply: list[int]
) -> model.Server:
    """The same server, about to give the session number that Redis has given: Redis takes numbers
    from its own clock, so that it never gives one twice; the oracle remembers the last one."""
    if isinstance(request, model.Open) and reply[0] == 1 and reply[1] > server.opened:
        return server._replace(opened=reply[1] - 1)
    return server


NOTHING_CLOSED = 7
"""The stamp of the last closing that `store` writes. Any number will do."""


def store(
    client: Any,
    prefix: str,
    server: model.Server,
    labels: dict[str, str] | None = None,
    *,
    lists_closings: bool = True,
) -> None:
    """Write this state of a prefix into an empty Redis. The client may be a pipeline.

    Fields that the oracle does not have get values that a real history could have produced. Each
    counter looks as if its slices had just been searched: `expires` is the earliest expiry of their
    owners. If a slice does not count, its session was closed after that search, which would
    otherwise have removed the slice. Whether the list of the last closings has it, is a choice: if
    it has not, all slices are searched.
    """
    root = f"distkit:{{{prefix}}}:"
    if server.clock is not None:
        numbers = (LAYOUT, server.clock, server.wall, server.opened, NOTHING_CLOSED)
        head = _text((*numbers, server.due or 0))
        entries = {
            name: _entry(session, (labels or {}).get(name, ""))
            for name, session in server.sessions.items()
        }
        client.hset(root + "instances", mapping={":": head, **entries})
        if lists_closings:
            client.hset(root + "instances", ":closed", _closings(server))
    for key, counter in server.counters.items():
        owners = [
            owner
            for name, mine in counter.slices.items()
            if (owner := server.sessions.get(name)) and owner.number == mine.session
        ]
        closed = NOTHING_CLOSED - (len(owners) < len(counter.slices))
        expires = min((o.heartbeat + o.threshold for o in owners), default=server.clock or 0)
        head = _text((LAYOUT, counter.epoch, *limbs(counter.total), expires, closed))
        slices = {name: _slice(mine) for name, mine in counter.slices.items()}
        client.hset(f"{root}counter:{key}", mapping={":": head, **slices})
    if server.keys:
        client.hset(root + "keys", mapping=dict(server.keys))


def _closings(server: model.Server) -> str:
    """The last closings, if all whose slices do not count were closed after the last searches."""
    closed = {
        name
        for counter in server.counters.values()
        for name, mine in counter.slices.items()
        if name not in server.sessions or server.sessions[name].number != mine.session
    }
    pairs = (f"::{name}:{NOTHING_CLOSED}" for name in sorted(closed))
    return f":{NOTHING_CLOSED - bool(closed)}{''.join(pairs)}"


def _entry(session: model.Session, label: str) -> str:
    expires = session.heartbeat + session.threshold
    numbers = (expires, session.threshold, session.number, int(session.fresh), session.seq)
    return f"{_text(numbers)} {label}"


def _slice(mine: model.Slice) -> str:
    before = mine.before
    record = (*limbs(before.total), before.epoch, before.count)
    return _text((mine.count, mine.epoch, mine.seq, mine.session, *record))


def _text(numbers: tuple[int, ...]) -> str:
    return " ".join(map(str, numbers))


class Stored:
    """What Redis holds for one prefix: the oracle's state, and the fields that only Redis has.

    Attributes:
        server: the state as the oracle would hold it.
        labels: of each instance that has a session.
        closed: the stamp of the last closing.
        totals, expires, closed_of: of each counter, the rest of its head: the total; the bound of
            the expiries; the stamp at the last search.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        root = f"distkit:{{{prefix}}}:"
        names = sorted(text(name) for name in client.keys(root.replace("{", "\\{") + "*"))
        pipeline = client.pipeline(transaction=False)
        for name in names:
            pipeline.hgetall(name)
        self._read(root, dict(zip(names, pipeline.execute(), strict=True)))

    @classmethod
    def of(cls, prefix: str, everything: dict[str, Any]) -> Stored:
        """Parse values that have already been read, by the names of their Redis keys."""
        stored = cls.__new__(cls)
        stored._read(f"distkit:{{{prefix}}}:", everything)
        return stored

    def _read(self, root: str, everything: dict[str, Any]) -> None:
        hashes = {
            name.removeprefix(root): {text(k): text(v) for k, v in fields.items()}
            for name, fields in everything.items()
            if fields
        }
        keys = {key: int(epoch) for key, epoch in hashes.pop("keys", {}).items()}
        self.server = model.Server()
        self.closed = 0
        self.labels: dict[str, str] = {}
        self._read_instances(hashes.pop("instances", {}))
        counters: dict[str, model.Counter] = {}
        self.totals: dict[str, int] = {}
        self.expires: dict[str, int] = {}
        self.closed_of: dict[str, int] = {}
        for name, fields in hashes.items():
            key = name.removeprefix("counter:")
            counters[key] = self._counter(key, fields)
        self.server = self.server._replace(counters=model.Map(counters), keys=model.Map(keys))

    def _read_instances(self, fields: dict[str, str]) -> None:
        if not fields:
            return
        layout, clock, wall, opened, closed, due = _numbers(fields.pop(":"))
        assert layout == LAYOUT
        fields.pop(":closed", None)  # only Redis keeps it
        sessions = {}
        for name, field in fields.items():
            *numbers, self.labels[name] = field.split(" ", 5)
            expires, threshold, number, fresh, seq = map(int, numbers)
            entry = (expires - threshold, threshold, number, seq, bool(fresh))
            sessions[name] = model.Session(*entry)
        self.closed = closed
        self.server = model.Server(clock, wall, due or None, opened, model.Map(sessions))

    def _counter(self, key: str, fields: dict[str, str]) -> model.Counter:
        layout, epoch, high, low, self.expires[key], self.closed_of[key] = _numbers(fields.pop(":"))
        assert layout == LAYOUT
        self.totals[key] = high * 2**53 + low
        slices = {}
        for name, field in fields.items():
            count, made_in, seq, session, old_high, old_low, *view = _numbers(field)
            before = model.View(old_high * 2**53 + old_low, *view)
            slices[name] = model.Slice(count, made_in, seq, session, before)
        return model.Counter(epoch, model.Map(slices))

    def check_what_only_redis_keeps(self) -> None:
        """Totals are sums (R7), and a counter that seems to need no search has only slices that
        count (R8, R17)."""
        for key, counter in self.server.counters.items():
            assert self.totals[key] == counter.total, f"R7: the total of {key!r}"
            if self.closed_of[key] != self.closed:
                continue
            for name, mine in counter.slices.items():
                owner = self.server.sessions.get(name)
                assert owner, f"R8: {name}, who has a slice of {key!r}, has no session"
                assert owner.number == mine.session, f"R17: the slice of {name} of {key!r}"
                assert self.expires[key] <= owner.heartbeat + owner.threshold, f"R8: {key!r}"


def _numbers(field: str) -> list[int]:
    return [int(word) for word in field.split(" ")]


def text(word: Any) -> str:
    """A word of a command or reply as text."""
    return word.decode() if isinstance(word, bytes) else str(word)
