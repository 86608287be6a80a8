"""The line protocol of spec/PORTS.md: its messages, what may be in them, and its operations.

A message and its answer are one JSON object each, on one line. Unknown fields are ignored, so that
a later runner can say more to an older port, and the other way round. A history is a `reset` and
what follows it; a trace is a file of histories, with the answers in it.

`OPERATIONS` is the one place that lists what an instance can be asked to do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from oracle.model import Change, CounterState

PROTOCOL = 1

Line = dict[str, Any]
"""A message or an answer, as JSON has it."""


Shape = dict[str, Any]
"""What an answer looks like: its fields, each of them `int`, `bool` or a shape of its own."""

PAIR: Shape = {"cumulative": int, "instance_count": int}
CHANGE: Shape = {"new": PAIR, "old": PAIR, "applied": bool}
NOTHING: Shape = {}

CONDITION = ("comparator", "value")
"""R15: these two fields are one argument, the condition. The comparator `always` has no value."""


class Operation(NamedTuple):
    """What a message about one instance carries besides the instance, which of these fields it may
    leave out, and the shape of its answer."""

    fields: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    answer: Shape = PAIR


OPERATIONS = {
    "get": Operation(("key",)),
    "inc": Operation(("key", "count"), optional=("count",)),
    "dec": Operation(("key", "count"), optional=("count",)),
    "set": Operation(("key", "count")),
    "set_on_instance": Operation(("key", "count")),
    "delete": Operation(("key",)),
    "delete_on_instance": Operation(("key",)),
    "inc_if": Operation(("key", *CONDITION, "count"), optional=("count",), answer=CHANGE),
    "set_if": Operation(("key", *CONDITION, "count"), answer=CHANGE),
    "set_on_instance_if": Operation(("key", *CONDITION, "count"), answer=CHANGE),
    "heartbeat": Operation(answer=NOTHING),
    "clear_on_instance": Operation(answer=NOTHING),
    "clear": Operation(answer=NOTHING),
    "leave": Operation(answer=NOTHING),
}

EVENTS: dict[str, tuple[str, ...]] = {"die": ("instance",), "empty": ()}
"""What else happens in a history, and the fields that say to whom."""

LOSE_REPLY, GIVE_UP, EMPTY = "lose_reply", "give_up", "empty"
CALL_FAULTS = (LOSE_REPLY, GIVE_UP)
"""What can befall one call: fields of its message."""
FAULTS = (*CALL_FAULTS, EMPTY)

APPLIED, ALWAYS = "applied", "always"
FEATURES = (APPLIED, ALWAYS)
"""What a port may do besides its operations and faults: say whether a condition held, and take the
comparator that always holds. Ports that are older than these do not have them."""

ERRORS = {"invalid_key": "R1", "overflow": "R2", "unknown": "R12", "not_executed": "R12"}
"""The errors that have a name, and the rule behind each. A port may name others: they differ."""


class Malformed(ValueError):
    """A line that is not what spec/PORTS.md says; the message says why."""


class Capabilities(NamedTuple):
    """What a port answers to `hello`."""

    port: str
    virtual_clock: bool
    many_instances: bool
    operations: frozenset[str]
    faults: frozenset[str]
    features: frozenset[str] = frozenset()

    def except_for(self, operations: Iterable[str]) -> Capabilities:
        """The same port, as if it had not these operations."""
        return self._replace(operations=self.operations.difference(operations))

    def lacks(self, line: Line) -> str:
        """What the port would need and has not, for this message; or nothing."""
        op = line["op"]
        if op in OPERATIONS and op not in self.operations:
            return f"the operation {op}"
        if op == EMPTY and EMPTY not in self.faults:
            return f"the fault {EMPTY}"
        if line.get("comparator") == ALWAYS and ALWAYS not in self.features:
            return f"the comparator {ALWAYS}"
        for fault in CALL_FAULTS:
            if line.get(fault) and fault not in self.faults:
                return f"the fault {fault}"
        return ""


class History(NamedTuple):
    """What happens under one prefix, from nothing. `wall_ms` in a line is when; it never is absent
    from an operation."""

    threshold_ms: int
    lines: tuple[Line, ...]
    comment: str = ""


def encode(line: Line) -> str:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def decode(text: str) -> Line:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise Malformed(f"this is not JSON ({error}): {_short(text)}") from None
    if not isinstance(line, dict):
        raise Malformed(f"this is no JSON object: {_short(text)}")
    return line


def _short(text: str) -> str:
    text = text.rstrip("\n")
    return repr(text if len(text) <= 200 else text[:200] + "...")


# --- What the runner says ------------------------------------------------------------------------


def hello() -> Line:
    return {"op": "hello", "protocol": PROTOCOL}


def reset(prefix: str, threshold_ms: int) -> Line:
    return {"op": "reset", "prefix": prefix, "threshold_ms": threshold_ms}


# --- What a port answers -------------------------------------------------------------------------


def capabilities(answer: Line) -> Capabilities:
    """A port's answer to `hello`. Operations and faults that are not known here are not used."""
    if answer.get("protocol") != PROTOCOL:
        raise Malformed(f'hello needs "protocol": {PROTOCOL}, not {answer.get("protocol")!r}')
    _one_of(answer, "clock", ("virtual", "real"))
    _one_of(answer, "instances", ("many", "one"))
    if not isinstance(answer.get("port"), str):
        raise Malformed('hello needs "port": the name of the port, a string')
    operations = frozenset(_strings(answer, "operations")) & OPERATIONS.keys()
    if not operations:
        raise Malformed(f'hello needs "operations", some of {", ".join(OPERATIONS)}')
    return Capabilities(
        answer["port"],
        answer["clock"] == "virtual",
        answer["instances"] == "many",
        operations,
        frozenset(_strings(answer, "faults")) & frozenset(FAULTS),
        frozenset(_strings(answer, "features")) & frozenset(FEATURES),
    )


def _one_of(answer: Line, field: str, allowed: Sequence[str]) -> None:
    if answer.get(field) not in allowed:
        raise Malformed(f'hello needs "{field}": {" or ".join(allowed)}, not {answer.get(field)!r}')


def _strings(answer: Line, field: str) -> list[str]:
    found = answer.get(field, [])
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise Malformed(f'"{field}" must be a list of strings, not {found!r}')
    return found


def checked_answer(line: Line, answer: Line, features: Iterable[str] = ()) -> Line:
    """An answer without its unknown fields: a pair, a change, a named error, or nothing.

    Args:
        line: the message that it answers.
        answer: what was said.
        features: those that the port has named: with `applied`, a change must have this field.

    Raises:
        Malformed: it is none of these.
    """
    if "error" in answer:
        if not isinstance(answer["error"], str):
            raise Malformed(f'"error" must be a name, not {answer["error"]!r}')
        return {name: answer[name] for name in ("error", "message") if name in answer}
    operation = OPERATIONS.get(line["op"])
    shape = operation.answer if operation else NOTHING
    if APPLIED in shape and APPLIED not in answer and APPLIED not in features:
        shape = {name: inner for name, inner in shape.items() if name != APPLIED}
    return _shaped(answer, shape)


def _shaped(answer: Line, shape: Shape) -> Line:
    return {name: _field(answer, name, inner) for name, inner in shape.items()}


def _field(answer: Line, name: str, inner: Any) -> Any:
    if inner is int:
        return _integer(answer, name)
    if inner is bool:
        return _boolean(answer, name)
    return _shaped(_object(answer, name), inner)


def result_line(result: object) -> Line:
    """What an operation on a key returned, as an answer."""
    if isinstance(result, Change):
        new, old = map(result_line, result)
        return {"new": new, "old": old, APPLIED: result.applied}
    assert isinstance(result, CounterState)
    return result._asdict()


def same(said: Line, right: Line) -> bool:
    """Whether two answers are the same. A message is for people; and where nothing is said about
    whether a condition held, nothing is compared."""
    if APPLIED not in said:
        right = {name: value for name, value in right.items() if name != APPLIED}
    return {name: value for name, value in said.items() if name != "message"} == right


def _object(line: Line, field: str) -> Line:
    inner = line.get(field)
    if not isinstance(inner, dict):
        raise Malformed(f'"{field}" must be an object, not {inner!r}')
    return inner


def _integer(line: Line, field: str) -> int:
    number = line.get(field)
    if isinstance(number, bool) or not isinstance(number, int):
        raise Malformed(f'"{field}" must be an integer, not {number!r}')
    return number


def _boolean(line: Line, field: str) -> bool:
    value = line.get(field)
    if not isinstance(value, bool):
        raise Malformed(f'"{field}" must be true or false, not {value!r}')
    return value


# --- Traces --------------------------------------------------------------------------------------


def write_trace(path: Path, histories: Iterable[tuple[History, Iterable[Line]]]) -> None:
    """Histories, each with its lines as they are to stand there, to a file."""
    text = []
    for history, written in histories:
        head = {"op": "reset", "threshold_ms": history.threshold_ms}
        head |= {"comment": history.comment} if history.comment else {}
        text += [encode(line) for line in (head, *written)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in text), encoding="utf-8")


def read_trace(path: Path) -> list[History]:
    """The histories of a file. Fields that are not known are kept as they are.

    Raises:
        Malformed: a line is no message, or the first one is no `reset`.
    """
    histories: list[History] = []
    for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not text.strip():
            continue
        try:
            _read_line(decode(text), histories)
        except Malformed as error:
            raise Malformed(f"{path.name}, line {number}: {error}") from None
    if not histories:
        raise Malformed(f"{path.name}: there is no history in it")
    return histories


def _read_line(line: Line, histories: list[History]) -> None:
    op = line.get("op")
    if op == "hello":
        return
    if op == "reset":
        threshold = _integer(line, "threshold_ms")
        if threshold < 1:
            raise Malformed(f'"threshold_ms" must be positive, not {threshold}')
        histories.append(History(threshold, (), str(line.get("comment", ""))))
        return
    if not histories:
        raise Malformed('a trace starts with a "reset"')
    _check_message(line)
    histories[-1] = histories[-1]._replace(lines=(*histories[-1].lines, line))


def _check_message(line: Line) -> None:
    op = line.get("op")
    if op in EVENTS:
        needed: tuple[str, ...] = EVENTS[op]
    elif op in OPERATIONS:
        operation = OPERATIONS[op]
        needed = ("instance", "wall_ms", *operation.fields)
        optional = (*operation.optional, *(["value"] if line.get("comparator") == ALWAYS else []))
        needed = tuple(field for field in needed if field not in optional)
    else:
        known = ", ".join(["reset", *OPERATIONS, *EVENTS])
        raise Malformed(f'"op" must be one of {known}, not {op!r}')
    for field in needed:
        if field not in line:
            raise Malformed(f'{op} needs "{field}"')
    for field in ("wall_ms", "count"):
        if field in line:
            _integer(line, field)
    for field in ("instance", "key"):
        if not isinstance(line.get(field, ""), str):
            raise Malformed(f'"{field}" must be a string, not {line[field]!r}')
    if "answer" in line:
        checked_answer(line, line["answer"])
