"""The wire, as spec/PROTOCOL.md describes it, for tests: from the oracle's messages and state to
what stands in Redis, and back. Written from the specification, not from `distkit`'s code."""

from __future__ import annotations

from typing import Any

import redis

from oracle import model

FIRST_ARG = 3
"""EVALSHA, hash, number of keys: the script's keys and arguments follow."""
WALL = 5
"""Which of the script's arguments is the wall clock."""


def spell(step: model.Step) -> str:
    condition = f"{step.condition.relation[0]}{step.condition.operand}" if step.condition else ""
    letter = model.OPERATIONS[step.op].letter
    return f"{condition}{letter}{step.count}" if letter else ""


def request(message: model.Message, prefix: str, wall: int) -> tuple[str, ...]:
    """The script's KEYS and ARGV, in one row."""
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
    """The script's answer."""
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
    """A total as high * 2^53 + low, both of one sign."""
    high, low = divmod(abs(total), 2**53)
    return (high, low) if total >= 0 else (-high, -low)


def with_wall(command: tuple[Any, ...], wall: int) -> list[Any]:
    """A script command as it would be executed at this time: the server reads the clock itself."""
    words = list(command)
    words[FIRST_ARG + int(words[2]) + WALL] = wall
    return words


NOTHING_CLOSED = 7
"""How many sessions have been closed, where `store` has to say so: any number would do."""


def store(client: Any, prefix: str, server: model.Server) -> None:
    """Make Redis hold this of a prefix, and nothing else of it. Works on a pipeline, too.

    What only Redis keeps is chosen as a real history would have it: a counter is as of the last
    look at its slices, when the oldest heartbeat was that of their owners now. If some owner has no
    session, it was closed since, for a look would have removed the slice.
    """
    root = f"distkit:{{{prefix}}}:"
    if server.clock is not None:
        head = f"{server.clock} {server.wall} {server.opened} {NOTHING_CLOSED}"
        entries = {name: " ".join(map(str, entry)) for name, entry in server.sessions.items()}
        client.hset(root + "instances", mapping={":": head, **entries})
    for key, counter in server.counters.items():
        if counter == model.Counter():
            continue  # the script writes no counter of which there is nothing to say
        owners = [server.sessions.get(name) for name in counter.slices]
        beats = [owner.heartbeat for owner in owners if owner]
        closed = NOTHING_CLOSED - (None in owners)
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
    """What Redis holds of one prefix: as the oracle would hold it, and what only Redis has."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        root = f"distkit:{{{prefix}}}:"
        names = sorted(text(name) for name in client.keys(root.replace("{", "\\{") + "*"))
        pipeline = client.pipeline(transaction=False)
        for name in names:
            (pipeline.smembers if name == root + "keys" else pipeline.hgetall)(name)
        self._read(root, dict(zip(names, pipeline.execute(), strict=True)))

    @classmethod
    def of(cls, prefix: str, everything: dict[str, Any]) -> Stored:
        """From what was read already, by the names of the Redis keys."""
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
    return word.decode() if isinstance(word, bytes) else str(word)
