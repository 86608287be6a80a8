"""The wire, as spec/PROTOCOL.md describes it, for tests: from the oracle's messages and state to
what stands in Redis, and back. Written from the specification, not from `distkit`'s code."""

from __future__ import annotations

from typing import Any

import redis

from oracle import model

OPS = {"inc": "+", "set_on_instance": "=", "delete_on_instance": "=", "set": "!", "delete": "~"}
FIRST_ARG = 3
"""EVALSHA, hash, number of keys: the script's keys and arguments follow."""
WALL = 5
"""Which of the script's arguments is the wall clock."""


def spell(step: model.Step) -> str:
    guard = f"{step.guard.test[0]}{step.guard.operand}" if step.guard else ""
    return "" if step.kind == "get" else f"{guard}{OPS[step.kind]}{step.n}"


def request(message: model.Message, prefix: str, wall: int) -> tuple[str, ...]:
    """The script's KEYS and ARGV, in one row."""
    root = f"distkit:{{{prefix}}}:"
    keys = [root + "instances", root + "keys"]
    session = 0 if isinstance(message, model.Open) else message.session
    if isinstance(message, model.Leave):
        session = -session
    args: list[object] = [message.instance, session, message.seq, message.acked]
    args += [message.threshold, wall]
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
    return [1] + [n for v in message.views for n in (*limbs(v.total), v.epoch, v.own)]


def limbs(total: int) -> tuple[int, int]:
    """A total as high * 2^53 + low, both of one sign."""
    high, low = divmod(abs(total), 2**53)
    return (high, low) if total >= 0 else (-high, -low)


def with_wall(command: tuple[Any, ...], wall: int) -> list[Any]:
    """A script command as it would be executed at this time: the server reads the clock itself."""
    words = list(command)
    words[FIRST_ARG + int(words[2]) + WALL] = wall
    return words


class Stored:
    """What Redis holds of one prefix: as the oracle would hold it, and what only Redis has."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        root = f"distkit:{{{prefix}}}:"
        names = sorted(text(name) for name in client.keys(root.replace("{", "\\{") + "*"))
        pipeline = client.pipeline(transaction=False)
        for name in names:
            (pipeline.smembers if name == root + "keys" else pipeline.hgetall)(name)
        everything = dict(zip(names, pipeline.execute(), strict=True))
        self.keys = {text(key) for key in everything.pop(root + "keys", set())}
        hashes = {
            name.removeprefix(root): {text(k): text(v) for k, v in fields.items()}
            for name, fields in everything.items()
        }
        self._read_instances(hashes.pop("instances", {}))
        self.counters: dict[str, model.Counter] = {}
        self.totals: dict[str, int] = {}
        self.oldest: dict[str, int] = {}
        for name, fields in hashes.items():
            self._read_counter(name.removeprefix("counter:"), fields)

    def _read_instances(self, fields: dict[str, str]) -> None:
        head = _numbers(fields.pop(":", "0 0 0 0"))
        self.clock, self.wall, self.opened, self.closed = head
        self.sessions = {name: model.Session(*_numbers(field)) for name, field in fields.items()}

    def _read_counter(self, key: str, fields: dict[str, str]) -> None:
        epoch, high, low, self.oldest[key], _ = _numbers(fields.pop(":"))
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
