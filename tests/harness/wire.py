"""Converts between the oracle's messages and state and the bytes that spec/PROTOCOL.md defines.

It was written from the specification, independently of `distkit`'s code, so that the tests do not
compare production with itself.
"""

from __future__ import annotations

from typing import Any

import redis

from oracle import model

FIRST_ARG = 3
"""After EVALSHA, the hash and the number of keys come the script's keys and arguments."""
WALL = 5
"""The index of the wall clock among the script's arguments."""


def spell(step: model.Step) -> str:
    """A step as a request spells it ("Steps")."""
    condition = f"{step.condition.relation[0]}{step.condition.operand}" if step.condition else ""
    letter = model.OPERATIONS[step.op].letter
    return f"{condition}{letter}{step.count}" if letter else ""


def request(message: model.Message, prefix: str, wall: int) -> tuple[str, ...]:
    """A request as the script's KEYS followed by its ARGV."""
    root = f"distkit:{{{prefix}}}:"
    keys = [root + "instances", root + "keys"]
    session = 0 if isinstance(message, model.Open) else message.session
    if isinstance(message, model.Leave):
        session = -session
    args: list[object] = [message.instance, session, message.seq, message.acked]
    args += [message.threshold, wall]
    args += [message.last] if isinstance(message, model.Open) else []
    for part in message.parts if isinstance(message, model.Request) else ():
        keys.append(f"{root}counter:{part.key}")
        args += [*part.memory, "".join(map(spell, part.steps))]
    return tuple(str(word) for word in [*keys, *args])


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


NOTHING_CLOSED = 7
"""The number of closed sessions that `store` writes. Any number will do."""


def store(client: Any, prefix: str, server: model.Server) -> None:
    """Write this state of a prefix into an empty Redis. The client may be a pipeline.

    Fields that the oracle does not have get values that a real history could have produced. Each
    counter looks as if its slices had just been searched for dead ones: `oldest` is the oldest
    heartbeat of their instances. If an instance has no session, its session was closed after that
    search, which would otherwise have removed its slice.
    """
    root = f"distkit:{{{prefix}}}:"
    if server.clock is not None:
        head = f"{server.clock} {server.wall} {server.opened} {NOTHING_CLOSED}"
        entries = {name: " ".join(map(str, entry)) for name, entry in server.sessions.items()}
        client.hset(root + "instances", mapping={":": head, **entries})
    for key, counter in server.counters.items():
        if counter == model.Counter():
            continue  # the script does not write a counter that is empty
        sessions = [server.sessions.get(name) for name in counter.slices]
        beats = [session.heartbeat for session in sessions if session]
        closed = NOTHING_CLOSED - (None in sessions)
        high, low = limbs(counter.total)
        head = f"{counter.epoch} {high} {low} {min(beats, default=server.clock)} {closed}"
        slices = {name: _slice(mine) for name, mine in counter.slices.items()}
        client.hset(f"{root}counter:{key}", mapping={":": head, **slices})
        client.sadd(root + "keys", key)


def _slice(mine: model.Slice) -> str:
    before = mine.before
    record = (*limbs(before.total), before.epoch, before.count)
    return " ".join(map(str, (mine.count, mine.epoch, mine.seq, *record)))


class Stored:
    """What Redis holds for one prefix: the oracle's state, and the fields that only Redis has."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        root = f"distkit:{{{prefix}}}:"
        names = sorted(text(name) for name in client.keys(root.replace("{", "\\{") + "*"))
        pipeline = client.pipeline(transaction=False)
        for name in names:
            (pipeline.smembers if name == root + "keys" else pipeline.hgetall)(name)
        self._read(root, dict(zip(names, pipeline.execute(), strict=True)))

    @classmethod
    def of(cls, prefix: str, everything: dict[str, Any]) -> Stored:
        """Parse values that have already been read, by the names of their Redis keys."""
        stored = cls.__new__(cls)
        stored._read(f"distkit:{{{prefix}}}:", everything)
        return stored

    def _read(self, root: str, everything: dict[str, Any]) -> None:
        self.keys = {text(key) for key in everything.pop(root + "keys", set())}
        hashes = {
            name.removeprefix(root): {text(k): text(v) for k, v in fields.items()}
            for name, fields in everything.items()
            if fields
        }
        self._read_instances(hashes.pop("instances", {}))
        self.counters: dict[str, model.Counter] = {}
        self.totals: dict[str, int] = {}
        self.oldest: dict[str, int] = {}
        self.closed_of: dict[str, int] = {}
        for name, fields in hashes.items():
            self._read_counter(name.removeprefix("counter:"), fields)

    def _read_instances(self, fields: dict[str, str]) -> None:
        head = _numbers(fields.pop(":", "0 0 0 0"))
        self.clock, self.wall, self.opened, self.closed = head
        self.sessions = {name: model.Session(*_numbers(field)) for name, field in fields.items()}

    def _read_counter(self, key: str, fields: dict[str, str]) -> None:
        epoch, high, low, self.oldest[key], self.closed_of[key] = _numbers(fields.pop(":"))
        slices = {}
        for name, field in fields.items():
            count, made_in, seq, old_high, old_low, *view = _numbers(field)
            before = model.View(old_high * 2**53 + old_low, *view)
            slices[name] = model.Slice(count, made_in, seq, before)
        self.counters[key] = model.Counter(epoch, model.Map(slices))
        self.totals[key] = high * 2**53 + low


def _numbers(field: str) -> list[int]:
    return [int(word) for word in field.split(" ")]


def text(word: Any) -> str:
    """A word of a command or reply as text."""
    return word.decode() if isinstance(word, bytes) else str(word)
