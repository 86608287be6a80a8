"""What is right: the oracle's answer to each line of a history, and the rule that says so.

The answers are those of `InMemoryCounter`, with one thing added: a reply can be lost, after which
the same request is sent again (R11, R12). A rule is a hint, worked out from what happened in the
history: on a shrunk one, which holds nothing that it does not need, it is nearly always the one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from oracle import model
from oracle.conform.lines import (
    CONDITION,
    EMPTY,
    ERRORS,
    GIVE_UP,
    LOSE_REPLY,
    OPERATIONS,
    History,
    Line,
    Operation,
    result_line,
)
from oracle.in_memory.counter import (
    CounterOverflowError,
    InMemoryCounter,
    InMemoryServer,
    InvalidKeyError,
)
from oracle.model import LIMIT

PREFIX = "judged"


class _NoReply(Exception):
    """R12: the call ended without a reply. Named by the protocol's error."""


_NAMES = {model.UNKNOWN: "unknown", model.NOT_EXECUTED: "not_executed"}


class _Instance(InMemoryCounter):
    """A counter whose client loses a reply when told to, and sends the request again; or it loses
    every reply, and gives up."""

    lose_reply = False
    give_up = False
    _failure = ""

    def leave(self) -> None:
        """R16: the end of its `with`."""
        self.__exit__(None, None, None)

    def _converse(
        self, state: model.Server, instance: model.Instance
    ) -> tuple[model.Server, model.Instance, tuple[model.Outcome, ...]]:
        while instance.call is not None and not instance.call.done:
            instance = model.speak(instance)
            assert instance.sent is not None
            resent, self.lose_reply = self.lose_reply, False
            if resent:
                state, _ = model.serve(state, instance.sent, self._server.wall_ms)
            state, reply = model.serve(state, instance.sent, self._server.wall_ms)
            if self.give_up:
                instance = model.give_up(instance, arrived=True)
            else:
                instance = model.hear(instance, reply, resent)
        assert instance.call is not None
        self._failure = instance.call.failure
        instance, outcomes = model.finish(instance)
        return state, instance, outcomes

    def _run(self, steps: tuple[tuple[str, model.Step], ...]) -> tuple[model.Outcome, ...]:
        outcomes = super()._run(steps)
        if self._failure or model.UNKNOWN in outcomes:
            raise _NoReply(_NAMES[self._failure or model.UNKNOWN])
        return outcomes


class Judge:
    """The oracle in the place of a port: `answer` takes the lines of one history, in order."""

    def __init__(self, threshold_ms: int) -> None:
        self._server = InMemoryServer()
        self._threshold_ms = threshold_ms
        self._instances: dict[str, _Instance] = {}

    def answer(self, line: Line) -> Line:
        if line["op"] == "die":
            self._instances.pop(line["instance"], None)
            return {}
        if line["op"] == EMPTY:
            self._server.flush()
            return {}
        return self._call(line)

    def _call(self, line: Line) -> Line:
        operation = OPERATIONS[line["op"]]
        instance = self._instance(line["instance"])
        self._server.wall_ms = line["wall_ms"]
        instance.lose_reply, instance.give_up = bool(line.get(LOSE_REPLY)), bool(line.get(GIVE_UP))
        try:
            result = getattr(instance, line["op"])(*_arguments(line, operation))
        except InvalidKeyError:
            return {"error": "invalid_key"}
        except CounterOverflowError:
            return {"error": "overflow"}
        except _NoReply as error:
            return {"error": str(error)}
        return result_line(result, operation.answer)

    def _instance(self, name: str) -> _Instance:
        if name not in self._instances:
            self._instances[name] = _Instance(
                self._server,
                PREFIX,
                dead_instance_threshold_ms=self._threshold_ms,
                instance_id=name,
            )
        return self._instances[name]


def _arguments(line: Line, operation: Operation) -> list[Any]:
    given = {field: line[field] for field in operation.fields if field in line}
    comparator, value = CONDITION
    if comparator in given:
        given[comparator] = model.Condition(given[comparator], given.pop(value))
    return list(given.values())


def judge(history: History) -> list[Line]:
    """The right answer to each line."""
    oracle = Judge(history.threshold_ms)
    return [oracle.answer(line) for line in history.lines]


# --- Which rule says so --------------------------------------------------------------------------


class _Case(NamedTuple):
    """A line that was answered wrongly, and what came before it."""

    before: Sequence[Line]
    line: Line
    right: Line
    said: Line
    threshold: int

    @property
    def so_far(self) -> list[Line]:
        return [*self.before, self.line]

    @property
    def walls(self) -> list[int]:
        return [line["wall_ms"] for line in self.so_far if "wall_ms" in line]

    def silences(self, name: str) -> list[int]:
        """How long this instance was silent, each time, up to now."""
        beats = [
            line["wall_ms"]
            for line in self.so_far
            if line.get("instance") == name and "wall_ms" in line
        ]
        ends = [*beats[1:], self.walls[-1]]
        return [end - beat for beat, end in zip(beats, ends, strict=True)]

    @property
    def caller(self) -> str:
        return str(self.line.get("instance", ""))

    @property
    def others(self) -> set[str]:
        return {line["instance"] for line in self.so_far if "wall_ms" in line} - {self.caller}

    @property
    def others_silences(self) -> list[int]:
        return [silence for name in self.others for silence in self.silences(name)]


def _errors(case: _Case) -> set[str]:
    return {str(answer.get("error", "")) for answer in (case.right, case.said)}


def _somebody_returned(case: _Case) -> bool:
    """Silent for the threshold, called dead by another's call, and then heard again."""
    heard: dict[str, int] = {}
    dead: set[str] = set()
    for line in case.so_far:
        if "wall_ms" not in line:
            continue
        if line["instance"] in dead:
            return True
        heard[line["instance"]] = line["wall_ms"]
        dead |= {name for name, wall in heard.items() if line["wall_ms"] - wall >= case.threshold}
    return False


def _at_the_edge(case: _Case) -> bool:
    return any(abs(line.get("count", 0)) > LIMIT // 4 for line in case.so_far)


def _movers(case: _Case) -> set[str]:
    """Who moved an epoch."""
    return {line["instance"] for line in case.so_far if line["op"] in ("set", "delete", "clear")}


def _somebody_is_dead(case: _Case) -> bool:
    return max(case.others_silences, default=0) >= case.threshold


def _heartbeat_kept_one_alive(case: _Case) -> bool:
    """Nobody was silent for the threshold, but somebody's first call is longer ago."""
    first: dict[str, int] = {}
    for line in case.so_far:
        if "wall_ms" in line:
            first.setdefault(line["instance"], line["wall_ms"])
    longest = max(case.walls[-1] - wall for wall in first.values())
    return longest >= case.threshold > max(case.others_silences, default=0)


_HINTS: tuple[tuple[str, Callable[[_Case], bool]], ...] = (
    (ERRORS["invalid_key"], lambda case: "invalid_key" in _errors(case)),
    (ERRORS["overflow"], lambda case: "overflow" in _errors(case)),
    (ERRORS["unknown"], lambda case: bool({"unknown", "not_executed"} & _errors(case))),
    ("R2", _at_the_edge),
    ("R12", lambda case: any(line.get(GIVE_UP) for line in case.so_far)),
    ("R11", lambda case: any(line.get(LOSE_REPLY) for line in case.so_far)),
    ("R10", lambda case: any(line["op"] == EMPTY for line in case.so_far)),
    ("R3", lambda case: case.walls != sorted(case.walls)),
    ("R10", _somebody_returned),
    ("R8", lambda case: bool(_movers(case)) and _somebody_is_dead(case)),
    ("R5", _somebody_is_dead),
    ("R4", _heartbeat_kept_one_alive),
    ("R5", lambda case: max(case.others_silences, default=0) > 0),
    ("R16", lambda case: any(line["op"] == "leave" for line in case.so_far)),
    ("R15", lambda case: "comparator" in case.line),
    ("R6", lambda case: bool(_movers(case) - {case.caller})),
    (
        "R7",
        lambda case: (
            len(case.others) > 0
            and case.right.get("instance_count") == case.said.get("instance_count")
        ),
    ),
    ("R9", lambda case: True),
)
"""In this order: the first that fits names the rule."""


def rule_for(history: History, wrong: int, right: Line, said: Line) -> str:
    """The rule that says what line number `wrong` must be answered: a hint."""
    case = _Case(history.lines[:wrong], history.lines[wrong], right, said, history.threshold_ms)
    if "wall_ms" not in case.line:
        return "R9"
    return next(rule for rule, fits in _HINTS if fits(case))
