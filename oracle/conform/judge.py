"""What is right: the oracle's answer to each line of a history, and the rule that says so.

The answers are the model's, over a network that loses replies when a line says so (R11, R12). A
rule is a hint, worked out from what happened in the history: in a shrunk one, which holds nothing
that it does not need, it is nearly always the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from oracle import model
from oracle.conform.lines import (
    EMPTY,
    ERRORS,
    GIVE_UP,
    LOSE_REPLY,
    OPERATIONS,
    History,
    Line,
    result_line,
)
from oracle.model import LIMIT

_ERRORS = {
    model.REFUSED: "overflow",
    model.UNKNOWN: "unknown",
    model.NOT_EXECUTED: "not_executed",
}
"""The model's failures by their names in the line protocol."""


class Judge:
    """The oracle in the place of a port: `answer` takes the lines of one history, in order."""

    def __init__(self, threshold_ms: int) -> None:
        self._threshold_ms = threshold_ms
        self._instances: dict[str, model.Instance] = {}
        self._lose_everything()

    def _lose_everything(self) -> None:
        self._server = model.Server()

    def answer(self, line: Line) -> Line:
        """The right answer to this line."""
        if line["op"] == "die":
            self._instances.pop(line["instance"], None)
            return {}
        if line["op"] == EMPTY:
            self._lose_everything()
            return {}
        return self._call(line)

    def _call(self, line: Line) -> Line:
        name = line["instance"]
        instance = self._instances.setdefault(name, model.Instance(name, self._threshold_ms))
        if model.name_error(line.get("key", "k")):
            return {"error": "invalid_key"}
        if any(abs(line.get(field, 0)) > LIMIT for field in ("count", "value")):
            return {"error": "overflow"}
        made = self._make(instance, line, _Network(line))
        self._instances[name] = made.instance
        if made.error:
            return {"error": _ERRORS[made.error]}
        return result_line(made.outcomes[0]) if OPERATIONS[line["op"]].answer else {}

    def _make(self, instance: model.Instance, line: Line, network: _Network) -> model.Made:
        """The whole call of this line."""

        def make(begun: model.Instance) -> model.Made:
            return self._converse(begun, network)

        if line["op"] == "leave":
            return model.make_leave(instance, make)
        return model.make_steps(instance, self._steps(instance, line), make)

    def _steps(self, instance: model.Instance, line: Line) -> model.Steps:
        op = line["op"]
        if op == "heartbeat":
            return ()
        if op == "clear_on_instance":
            return model.clear_on_instance_steps(instance)
        if op == "clear":
            return model.clear_steps(instance, model.existing_counters(self._server))
        return ((line["key"], _step(line)),)

    def _converse(self, begun: model.Instance, network: _Network) -> model.Made:
        """One call of the instance, request by request, until it is done."""
        instance = begun
        assert begun.call is not None
        while instance.call is not None and not instance.call.done:
            instance = model.speak(instance)
            assert instance.sent is not None
            for _ in range(network.copies()):
                self._server, reply = model.serve(self._server, instance.sent, network.wall_ms)
            if network.gives_up:
                instance = model.give_up(instance, arrived=True)
            else:
                instance = model.hear(instance, reply, network.resent)
        assert instance.call is not None
        failure = instance.call.failure
        instance, outcomes = model.finish(instance)
        return model.Made(instance, outcomes, failure)


class _Network:
    """What becomes of the requests of one call."""

    def __init__(self, line: Line) -> None:
        self.wall_ms: int = line["wall_ms"]
        self.gives_up = bool(line.get(GIVE_UP))
        self.resent = False
        self._lose_reply = bool(line.get(LOSE_REPLY))

    def copies(self) -> int:
        """How often the next request is sent."""
        self.resent, self._lose_reply = self._lose_reply, False
        return 2 if self.resent else 1


def _step(line: Line) -> model.Step:
    op = line["op"]
    count = line.get("count", 1 if "count" in OPERATIONS[op].fields else 0)
    if op == "dec":
        return model.Step("inc", -count)
    condition = _condition(line) if "comparator" in line else None
    return model.Step(op.removesuffix("_if"), count, condition)


def _condition(line: Line) -> model.Condition:
    if line["comparator"] == model.ALWAYS.relation:
        return model.ALWAYS
    return model.Condition(line["comparator"], line["value"])


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
