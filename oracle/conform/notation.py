"""Histories written short: one event after the other, separated by `;` or a new line.

    A inc k 5; B get k [reply lost]; wait 30000; A batch (inc k 1, get j); A dies; empty

An operation names its instance, its fields in the order of the line protocol, and its faults in
brackets:

    [reply lost]         the first reply of the call's first request is lost
    [lost 2 3]           ... of its second and third request
    [gives up]           every reply of the call is lost
    [gives up from 2]    ... from its second request on
    [refused 1]          Redis answers its first request with an error
    [copied 2]           the network keeps a copy of its second request, for `late copy`

Events are `wait MS`, `A dies`, `A dies and comes again`, `empty`, `lose KEY`, `snapshot`,
`roll back` and `late copy`. `max` is 2^53 - 1. `k1..k250` as a key stands for one call on each of
these keys, and so does `k001..k250`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TypeGuard

from oracle.conform.lines import (
    ALWAYS,
    BATCH,
    COMPOUND,
    COPY,
    GIVE_UP,
    GIVE_UP_FROM,
    LOSE_REPLIES,
    LOSE_REPLY,
    OPERATIONS,
    REFUSE,
    TOGETHER,
    Line,
    parts,
)
from oracle.conform.traces import History
from oracle.model import LIMIT

THRESHOLD_MS = 30_000
START_MS = 1_000_000

NAMES = {
    "{empty}": "",
    "{long}": "x" * 255,
    "{too_long}": "x" * 256,
    "{too_long_in_utf8}": "ж" * 128,
}
"""Keys that would be hard to read, or to write, in a line."""

_EVENT_WORDS = {
    "empty": "empty",
    "snapshot": "snapshot",
    "roll_back": "roll back",
    "late_copy": "late copy",
}

_EVENTS: dict[str, Line] = {words: {"op": op} for op, words in _EVENT_WORDS.items()}


def history(text: str, comment: str = "", rules: str = "") -> History:
    """The history that is written like this."""
    wall_ms = START_MS
    lines: list[Line] = []
    for event in re.split(r"[;\n]", text):
        event = " ".join(event.split())
        if event.startswith("wait "):
            wall_ms += int(event.removeprefix("wait "))
        elif event:
            lines += _lines(event, wall_ms)
    return History(THRESHOLD_MS, tuple(lines), comment, rules)


def rows(lines: Sequence[Line]) -> list[range]:
    """The places of the lines in each row: a call that is repeated, or made on many keys that are
    numbered, is one row."""
    found: list[range] = []
    for place, line in enumerate(lines):
        row = lines[found[-1].start : place] if found else ()
        if row and (all(line == other for other in row) or _goes_on(row, line)):
            found[-1] = range(found[-1].start, place + 1)
        else:
            found.append(range(place, place + 1))
    return found


def _goes_on(row: Sequence[Line], line: Line) -> bool:
    """Whether a line is like those of the row, on the next key."""
    before = row[-1]
    if {**before, "key": ""} != {**line, "key": ""} or "key" not in line:
        return False
    if len(row) > 1 and row[0] == before:
        return False
    names = [re.fullmatch(r"(\D+)(\d+)", key) for key in (before["key"], line["key"])]
    one, other = names
    return bool(one and other and one[1] == other[1] and int(one[2]) + 1 == int(other[2]))


def row_text(lines: Sequence[Line]) -> str:
    """The lines of one row, as they are written here."""
    first, last = lines[0], lines[-1]
    if first == last:
        return text(first) + (f", {len(lines)} times" if len(lines) > 1 else "")
    return text({**first, "key": f"{first['key']}..{last['key']}"})


def text(line: Line) -> str:
    """A line as it is written here, without its instance and its time."""
    op = line["op"]
    if op not in OPERATIONS:
        words = {"die": "dies and comes again" if line.get("again") else "dies", **_EVENT_WORDS}
        return words.get(op) or f"lose {_word(line['key'])}"
    faults = "".join(f" [{words}]" for words in _fault_words(line))
    return _call_text(line) + faults


def _call_text(call: Line) -> str:
    op = call["op"]
    if op in COMPOUND:
        return f"{op} ({', '.join(map(_call_text, parts(call)))})"
    given = (_word(call[name]) for name in OPERATIONS[op].fields if name in call)
    return " ".join([op, *given])


def _word(value: object) -> str:
    """A value as it stands where that is clear, else as JSON has it; a long one is cut."""
    word = {LIMIT: "max", -LIMIT: "-max"}.get(value, str(value)) if _is_int(value) else str(value)
    if len(word) > 40:
        return f"{word[:20]}... ({len(word)} characters)"
    return word if word and not re.search(r"[\s;,()\[\]]", word) else f'"{word}"'


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int)


def _fault_words(line: Line) -> Iterator[str]:
    if line.get(LOSE_REPLY):
        yield "reply lost"
    if line.get(GIVE_UP):
        yield "gives up"
    if LOSE_REPLIES in line:
        yield " ".join(["lost", *map(str, line[LOSE_REPLIES])])
    for field, words in ((GIVE_UP_FROM, "gives up from"), (REFUSE, "refused"), (COPY, "copied")):
        if field in line:
            yield f"{words} {line[field]}"


def _lines(event: str, wall_ms: int) -> Iterator[Line]:
    if event in _EVENTS:
        time = {"wall_ms": wall_ms} if event == "late copy" else {}
        yield _EVENTS[event] | time
        return
    first, _, rest = event.partition(" ")
    if first == "lose":
        yield {"op": "lose_key", "key": rest}
    elif rest in ("dies", "dies and comes again"):
        again = {"again": True} if rest.endswith("again") else {}
        yield {"op": "die", "instance": first, **again}
    else:
        for call, faults in _calls(rest):
            op = call.pop("op")
            yield {"op": op, "instance": first, **call, **faults, "wall_ms": wall_ms}


def _calls(text: str) -> Iterator[tuple[Line, Line]]:
    """Each call that is written here, with its faults."""
    faults: Line = {}
    for fault in re.findall(r"\[([^\]]*)\]", text):
        faults |= _fault(fault)
    text = re.sub(r"\[[^\]]*\]", "", text).strip()
    compound = re.fullmatch(rf"({BATCH}|{TOGETHER}) \((.*)\)", text)
    if compound:
        op, calls = compound[1], compound[2].split(",")
        yield {"op": op, COMPOUND[op]: [c for call in calls for c in _each(call)]}, faults
    else:
        for call in _each(text):
            yield call, faults


def _fault(words: str) -> Line:
    match words.split():
        case ["reply", "lost"]:
            return {LOSE_REPLY: True}
        case ["gives", "up"]:
            return {GIVE_UP: True}
        case ["gives", "up", "from", number]:
            return {GIVE_UP_FROM: int(number)}
        case ["lost", *numbers]:
            return {LOSE_REPLIES: [int(number) for number in numbers]}
        case ["refused", number]:
            return {REFUSE: int(number)}
        case ["copied", number]:
            return {COPY: int(number)}
    raise ValueError(f"[{words}] is no fault")


def _each(text: str) -> Iterator[Line]:
    """One call, or with a range of keys one for each of them."""
    op, *words = text.split()
    fields = [name for name in OPERATIONS[op].fields if name != "value" or ALWAYS not in words]
    given = dict(zip(fields, words, strict=True))
    for key in _keys(given["key"]) if "key" in given else [""]:
        line: Line = {"op": op}
        if "key" in given:
            line["key"] = key
        if "comparator" in given:
            line["comparator"] = given["comparator"]
        for number in ("value", "count"):
            if number in given:
                line[number] = int(given[number].replace("max", str(LIMIT)))
        yield line


def _keys(word: str) -> list[str]:
    found = re.fullmatch(r"(\D+)(\d+)\.\.\1(\d+)", word)
    if not found:
        return [NAMES.get(word, word)]
    width = len(found[2]) if found[2].startswith("0") else 0
    numbers = range(int(found[2]), int(found[3]) + 1)
    return [f"{found[1]}{number:0{width}}" for number in numbers]
