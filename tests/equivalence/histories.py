"""Named histories: what happens, line by line, and what each call must return.

Each line is one event. A capital letter is an instance, which joins when it is first named.

    A inc k 10 -> 10 10               a call and its result (cumulative, instance_count)
    A inc k max -> CounterOverflowError
    A inc k 1 [reply lost] -> 1 1     a call; its transmissions meet these fates, in order
    A inc k 1; inc j 2 -> 1 1; 2 2    several steps in one request
    A inc k 1 if lt 5 -> 2 2 from 1 1 a call with a condition, and its result (new, old)
    A heartbeat                       it also looks after the counters that A remembers
    A looks j k                       a look at counters that A need not remember: the sweep
    A joins 500                       with a threshold of its own, in ms
    A promises 12000                  from now on A says that it is heard again within so many ms
    A lives again                     A crashes, and a new life of its id joins
    A clears all                      clear
    A clears itself                   clear_on_instance
    A leaves                          the end of its `with` block; fates may follow
    A dies                            A crashes; nobody is told
    wait 30000                        the server's wall clock moves (back, if negative)
    empty, forget scripts             somebody runs FLUSHALL, or SCRIPT FLUSH
    copy, restore 0                   a replica copies Redis; the first copy takes over
    lose k, restore k 0               one Redis key is lost, or as in the first copy: a counter,
                                      `instances` or `keys`
    redis k: 5 in 1, gone, epoch 1    what Redis holds of a counter: total and epoch; nothing; its
                                      epoch alone
    A remembers j k                   and nothing else
    late copy                         the oldest copy that is still under way arrives
    down, up                          the server becomes unreachable, or reachable again

The threshold is 30,000 ms, and `max` is 2^53 - 1. A history runs on production and on the oracle,
side by side (`tests.harness.side_by_side`), and the two are compared after every event. The results
in the table are a third, independent opinion.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from distkit.redis.script import COUNTER, Script
from oracle import model
from tests.harness.side_by_side import Backend, Fate, SideBySide

THRESHOLD = 30_000
FATES = {
    "delivered": Fate.DELIVERED,
    "request lost": Fate.REQUEST_LOST,
    "reply lost": Fate.REPLY_LOST,
    "twice": Fate.TWICE,
    "delayed": Fate.DELAYED,
    "copied": Fate.COPIED,
    "copied, reply lost": Fate.COPIED_REPLY_LOST,
    "emptied": Fate.EMPTIED,
    "reaped": Fate.REAPED,
    "hurt": Fate.HURT,
}


class Scenario(NamedTuple):
    name: str
    rules: str
    history: str


def play(scenario: Scenario, backend: Backend, script: Script = COUNTER) -> SideBySide:
    """Run the history. Raises AssertionError at the first line whose result differs."""
    world = SideBySide(backend, THRESHOLD, script)
    for line in filter(None, map(str.strip, scenario.history.splitlines())):
        try:
            _play_line(world, line)
        except AssertionError as error:
            raise AssertionError(f"{scenario.name}: {line}: {error}") from error
    return world


def _play_line(world: SideBySide, line: str) -> None:
    words = line.split()
    events = {
        "wait": lambda: world.advance(int(words[1])),
        "empty": world.flush,
        "forget": world.flush_scripts,
        "copy": world.snapshot,
        "lose": lambda: world.lose(words[1]),
        "late": lambda: world.deliver_copy(0),
        "down": world.server_down,
        "up": world.server_up,
    }
    if words[0] in events:
        events[words[0]]()
    elif words[0] == "restore" and len(words) == 2:
        world.roll_back(int(words[1]))
    elif words[0] == "restore":
        world.restore(words[1], int(words[2]))
    elif words[0] == "redis":
        assert _held(world, words[1].rstrip(":")) == " ".join(words[2:])
    elif words[1] == "joins":
        world.join(words[0], int(words[2]))
    else:
        if words[0] not in world.instances:
            world.join(words[0])
        _play_instance(world, words[0], words[1:], line)


def _play_instance(world: SideBySide, name: str, words: list[str], line: str) -> None:
    events: dict[str, Callable[[], object]] = {
        "dies": lambda: world.die(name),
        "lives": lambda: world.live_again(name),
        "promises": lambda: world.promise(name, int(words[1])),
        "looks": lambda: world.look(name, words[1:]),
    }
    act = events.get(words[0])
    if act is not None:
        act()
    elif words == ["clears", "all"]:
        world.clear(name)
    elif words[0] == "clears":
        world.clear_on_instance(name)
    elif words[0] == "leaves":
        assert world.leave(name, _fates(line.partition("[")[2].rstrip("]"))) == ""
    elif words[0] == "heartbeat":
        assert world.heartbeat(name, _fates(line.partition("[")[2].rstrip("]"))) == ""
    elif words[0] == "remembers":
        assert sorted(world.instances[name].instance.memory) == words[1:]
    else:
        _play_call(world, line)


def _held(world: SideBySide, key: str) -> str:
    """What Redis holds of a counter, as a history says it."""
    held = world.stored().server
    if key in held.counters:
        counter = held.counters[key]
        return f"{counter.total} in {counter.epoch}"
    epoch = held.keys.get(key, model.HERE)
    return "gone" if epoch == model.HERE else f"epoch {epoch}"


def _play_call(world: SideBySide, line: str) -> None:
    match = re.fullmatch(r"(\S+) ([^\[]*?)(?: \[(.*)\])? -> (.*)", line)
    assert match, "not a line of a history"
    name, calls, fates, right = match.groups("")
    fates_met = _fates(fates)
    todo = [_parsed(call) for call in calls.split(";")]
    if len(todo) == 1:
        kind, key, count, condition = todo[0]
        mine = [world.call(name, key, kind, count, fates_met, condition)]
    else:
        steps = [(key, _step(kind, count, condition)) for kind, key, count, condition in todo]
        mine = world.call_many(name, steps, fates_met)
    assert mine == [_expected(text) for text in right.split(";")], f"answered {mine}"


def _fates(text: str) -> list[Fate]:
    return [FATES[fate.strip()] for fate in text.split(";")] if text else []


def _parsed(call: str) -> tuple[str, str, int, model.Condition | None]:
    """Parse `inc k 1 if lt 5` into the operation, the key, the count and the condition."""
    plain, _, condition = call.partition(" if ")
    kind, key, *count = plain.split()
    test, operand = condition.split() if condition else ("", "0")
    return kind, key, _count(count), model.Condition(test, _number(operand)) if test else None


def _step(kind: str, n: int, condition: model.Condition | None) -> model.Step:
    return model.method(kind, condition).step(n, condition)


def _count(words: list[str]) -> int:
    return _number(words[0]) if words else 0


def _number(word: str) -> int:
    return int(word.replace("max", str(model.LIMIT)))


def _expected(text: str) -> object:
    new, changed, old = text.partition(" from ")
    if changed:
        return (_expected(new), _expected(old))
    words = text.split()
    return words[0] if len(words) == 1 else tuple(map(_number, words))
