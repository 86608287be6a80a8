"""The line protocol of spec/PORTS.md: its operations, events, faults, features and messages.

A message and its answer are one JSON object each, on one line. Unknown fields are ignored, so that
a later runner can say more to an older port, and the other way round. What must be in a message is
said by the schema (oracle/conform/schema.py).

`OPERATIONS`, `EVENTS` and `FAULTS` are the one place that lists what can happen in a history.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from oracle.conform import schema
from oracle.model import METHODS, Change, CounterState, Method

PROTOCOL = 1

Line = dict[str, Any]
"""A message or an answer, as JSON has it."""

CONDITION = ("comparator", "value")
"""R15: these two fields are one argument, the condition. The comparator `always` has no value."""


class Operation(NamedTuple):
    """A call of an instance.

    Attributes:
        fields: what its message carries besides the instance.
        definition: what the schema calls its message.
        answer: what the schema calls its answer.
    """

    fields: tuple[str, ...]
    definition: str
    answer: str = "pair"


def _operation(method: Method) -> Operation:
    """How a method on one key is asked for."""
    takes = method.operation
    fields = ("key", *(CONDITION if method.is_conditional else ()),
              *(["count"] if takes.takes_count else []))  # fmt: skip
    if not takes.takes_count:
        definition = "call_on_key"
    else:
        definition = "call_if" if method.is_conditional else "call"
        definition += "_with_count" if takes.default_count is None else "_with_default_count"
    return Operation(fields, definition, "change" if method.is_conditional else "pair")


SINGLE = {name: _operation(method) for name, method in METHODS.items()}
"""Operations on one key: a step each, alone or in a batch."""

_ALONE = Operation((), "call_on_instance", "nothing")

BATCH, TOGETHER = "batch", "together"

OPERATIONS = {
    **SINGLE,
    "heartbeat": _ALONE,
    "clear_on_instance": _ALONE,
    "clear": _ALONE,
    "leave": _ALONE,
    BATCH: Operation(("steps",), BATCH, "answers"),
    TOGETHER: Operation(("calls",), TOGETHER, "answers"),
}
COMPOUND = {BATCH: "steps", TOGETHER: "calls"}
"""Operations that are made of several single ones, and the field that has them."""

LOSE_REPLY, GIVE_UP, EMPTY = "lose_reply", "give_up", "empty"
LOSE_REPLIES, GIVE_UP_FROM, REFUSE, COPY = "lose_replies", "give_up_from", "refuse", "copy"

EVENTS = {
    "die": "",
    EMPTY: EMPTY,
    "lose_key": "lose_key",
    "snapshot": "rollback",
    "roll_back": "rollback",
    "late_copy": "late_copy",
}
"""What else happens in a history, and the fault that a port must be able to play for it."""

CALL_FAULTS = {
    LOSE_REPLY: LOSE_REPLY,
    GIVE_UP: GIVE_UP,
    LOSE_REPLIES: LOSE_REPLIES,
    GIVE_UP_FROM: GIVE_UP_FROM,
    REFUSE: REFUSE,
    COPY: "late_copy",
}
"""What can befall one call: the fields of its message, and the fault that each needs."""

REUSE = "reuse"
FAULTS = tuple(dict.fromkeys([*CALL_FAULTS.values(), *filter(None, EVENTS.values()), REUSE]))
"""Every fault that a port may be able to play. `reuse`: a name comes again after its death."""

APPLIED, ALWAYS = "applied", "always"
FEATURES = (APPLIED, ALWAYS)
"""What a port may do besides its operations and faults: say whether a condition held, and take the
comparator that always holds. Ports that are older than these do not have them."""

ERRORS = {
    "invalid_key": "R1",
    "overflow": "R2",
    "unknown": "R12",
    "not_executed": "R12",
    "refused": "R12",
}
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
        """The same port, as if it did not have these operations."""
        return self._replace(operations=self.operations.difference(operations))

    def lacks(self, line: Line) -> str:
        """What the port would need for this message and does not have; or nothing."""
        for op in (line["op"], *(part["op"] for part in parts(line))):
            if op in OPERATIONS and op not in self.operations:
                return f"the operation {op}"
        comparators = [part.get("comparator") for part in (line, *parts(line))]
        if ALWAYS in comparators and ALWAYS not in self.features:
            return f"the comparator {ALWAYS}"
        needed = [EVENTS.get(line["op"], ""), REUSE if line.get("again") else ""]
        needed += [fault for field, fault in CALL_FAULTS.items() if field in line]
        lacking = [fault for fault in needed if fault and fault not in self.faults]
        return f"the fault {lacking[0]}" if lacking else ""


def parts(line: Line) -> Sequence[Line]:
    """The single operations that a compound one is made of; nothing if it is none."""
    field = COMPOUND.get(line["op"])
    return line[field] if field else ()


# --- JSON ----------------------------------------------------------------------------------------


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


def check_message(line: Line) -> None:
    """Check a line of a history: an operation or an event.

    Raises:
        Malformed: it is neither, or it lacks something.
    """
    op = line.get("op")
    if op not in OPERATIONS and op not in EVENTS:
        known = ", ".join(["reset", *OPERATIONS, *EVENTS])
        raise Malformed(f'"op" must be one of {known}, not {op!r}')
    operation = OPERATIONS.get(op)
    problem = schema.problem(operation.definition if operation else op, line)
    if not problem and operation and "wall_ms" not in line:
        problem = 'needs "wall_ms"'
    for part in parts(line) if not problem else ():
        problem = problem or schema.problem(
            SINGLE[part["op"]].definition, {**part, "instance": "-"}
        )
    if problem:
        raise Malformed(f"{op} {problem}" if problem.startswith("needs") else problem)
    if "answer" in line:
        checked_answer(line, line["answer"])


# --- What a port answers -------------------------------------------------------------------------


def capabilities(answer: Line) -> Capabilities:
    """A port's answer to `hello`. Operations, faults and features that are unknown are not used.

    Raises:
        Malformed: it is none.
    """
    problem = schema.problem("hello_answer", answer)
    if problem:
        raise Malformed(f"hello {problem}" if problem.startswith("needs") else f"hello: {problem}")
    operations = frozenset(answer["operations"]) & OPERATIONS.keys()
    if not operations:
        raise Malformed(f'hello needs "operations", some of {", ".join(OPERATIONS)}')
    return Capabilities(
        answer["port"],
        answer["clock"] == "virtual",
        answer["instances"] == "many",
        operations,
        frozenset(answer.get("faults", [])) & frozenset(FAULTS),
        frozenset(answer.get("features", [])) & frozenset(FEATURES),
    )


def checked_answer(line: Line, answer: Line, features: Iterable[str] = ()) -> Line:
    """An answer without its unknown fields: a pair, a change, a named error, ...

    Args:
        line: the message that it answers.
        answer: what was said.
        features: those that the port has named: with `applied`, a change must have this field.

    Raises:
        Malformed: it is none of these.
    """
    operation = OPERATIONS.get(line["op"])
    definition = operation.answer if operation else "nothing"
    if "error" in answer:
        definition = "error"
    elif definition == "change" and APPLIED in features:
        definition = "change_applied"
    problem = schema.problem(definition, answer)
    if problem:
        raise Malformed(problem)
    if definition == "answers":
        return {"answers": list(_checked_answers(parts(line), answer["answers"], features))}
    return _known(answer, definition)


def _checked_answers(
    asked: Sequence[Line], answers: Sequence[Line], features: Iterable[str]
) -> Iterator[Line]:
    if len(asked) != len(answers):
        raise Malformed(f'"answers" must be {len(asked)} answers, not {len(answers)}')
    for part, answer in zip(asked, answers, strict=True):
        yield checked_answer(part, answer, features)


def _known(answer: Line, definition: str) -> Line:
    properties: Mapping[str, Any] = schema.definitions()[definition].get("properties", {})
    return {
        name: _known(answer[name], "pair") if isinstance(answer[name], dict) else answer[name]
        for name in properties
        if name in answer
    }


def result_line(result: object) -> Line:
    """What an operation on a key returned, as an answer."""
    if isinstance(result, Change):
        new, old = map(result_line, result)
        return {"new": new, "old": old, APPLIED: result.applied}
    assert isinstance(result, CounterState)
    return result._asdict()


def same(line: Line, said: Line, right: Line) -> bool:
    """Whether two answers to this line are the same.

    A message is for people. Where nothing is said about whether a condition held, nothing is
    compared. Calls that were made together may have run in any order.
    """
    if "answers" in said and "answers" in right:
        pairs = zip(parts(line), said["answers"], right["answers"], strict=True)
        return all(same(*answers) for answers in pairs) or (
            line["op"] == TOGETHER
            and _in_some_order(line["calls"], said["answers"], right["answers"])
        )
    if APPLIED not in said:
        right = {name: value for name, value in right.items() if name != APPLIED}
    return {name: value for name, value in said.items() if name != "message"} == right


def _in_some_order(calls: Sequence[Line], said: Sequence[Line], right: Sequence[Line]) -> bool:
    """Whether these answers are those of the calls in some order. `right` are those in theirs."""
    keys = dict.fromkeys(call["key"] for call in calls)
    return all(
        _explained(
            [
                (call, answer)
                for call, answer in zip(calls, said, strict=True)
                if call["key"] == key
            ],
            _before(
                *next(pair for pair in zip(calls, right, strict=True) if pair[0]["key"] == key)
            ),
        )
        for key in keys
    )


def _before(call: Line, answer: Line) -> tuple[int, int]:
    """Total and count before a call that was answered with what was so after it."""
    return answer["cumulative"] - _amount(call), answer["instance_count"] - _amount(call)


def _amount(call: Line) -> int:
    """What a call adds to the slice."""
    count: int = call.get("count", 1)
    return {"get": 0, "inc": count, "dec": -count}[call["op"]]


def _explained(left: Sequence[tuple[Line, Line]], state: tuple[int, int]) -> bool:
    if not left:
        return True
    for at, (call, answer) in enumerate(left):
        after = state[0] + _amount(call), state[1] + _amount(call)
        given = answer.get("cumulative"), answer.get("instance_count")
        if given == after and _explained([*left[:at], *left[at + 1 :]], after):
            return True
    return False
