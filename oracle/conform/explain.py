"""Why an answer is likely wrong: which mistake gives the port's answers, or which rules to read.

A port whose answers are those of a known wrong oracle (oracle/conform/variants.py) has likely made
the same mistake. Where none of them answers like that, what happened in the history says which
rules may be concerned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from oracle.conform import lines
from oracle.conform.judge import judge
from oracle.conform.lines import EMPTY, TOGETHER, Line, same
from oracle.conform.traces import History
from oracle.conform.variants import VARIANTS
from oracle.model import LIMIT

MOST_LINES = 200
"""Of a longer history no explanation is looked for among the variants: it would take long."""

MOST_CAUSES = 3
MOST_RULES = 3


class Hint(NamedTuple):
    """Where to look.

    Attributes:
        rules: the rules that are likely broken; the likeliest first.
        causes: mistakes, in words, each of which gives these answers.
    """

    rules: tuple[str, ...]
    causes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(self.rules) if self.causes else f"see {' '.join(self.rules)}"


def explain(history: History, right: Sequence[Line], said: Line) -> Hint:
    """Explain the first wrong answer to a history.

    Args:
        history: up to the line that was answered wrongly, which is its last.
        right: the right answers to all of its lines.
        said: what the port answered to the last.
    """
    case = _Case(history, right[-1], said)
    clues = list(dict.fromkeys(rule for rule, is_so in _CLUES if is_so(case)))

    def likelihood(cause: tuple[str, str]) -> int:
        """Several mistakes may give these answers. The likeliest is about what the clues name."""
        return min(clues.index(rule) if rule in clues else len(clues) for rule in cause[0].split())

    if len(history.lines) <= MOST_LINES:
        found = sorted(_causes(history, right, said), key=likelihood)
        if found:
            rules = dict.fromkeys(rule for rules, _ in found for rule in rules.split())
            causes = tuple(words for _, words in found[:MOST_CAUSES])
            return Hint(tuple(rules)[:MOST_RULES], causes)
    return Hint(tuple(clues)[:MOST_RULES])


def _causes(history: History, right: Sequence[Line], said: Line) -> Iterator[tuple[str, str]]:
    """Rules and words of the variants that are right up to the last line, and there as wrong."""
    answers = (*right[:-1], said)
    for variant in VARIANTS.values():
        given = judge(history, variant.kind)
        if all(map(same, history.lines, answers, given)):
            yield variant.rules, variant.words


class _Case(NamedTuple):
    """A history whose last line was answered wrongly."""

    history: History
    right: Line
    said: Line

    @property
    def lines(self) -> Sequence[Line]:
        return self.history.lines

    @property
    def line(self) -> Line:
        return self.history.lines[-1]

    @property
    def walls(self) -> list[int]:
        return [line["wall_ms"] for line in self.lines if "wall_ms" in line]

    @property
    def errors(self) -> set[str]:
        answers = [answer for whole in (self.right, self.said) for answer in _flat(whole)]
        return {str(answer["error"]) for answer in answers if "error" in answer}

    @property
    def longest_silence(self) -> int:
        """Of an instance that is not the caller, up to the end."""
        heard = {line["instance"]: line["wall_ms"] for line in self.lines if "instance" in line
                 and "wall_ms" in line}  # fmt: skip
        heard.pop(self.line.get("instance", ""), None)
        return self.walls[-1] - min(heard.values(), default=self.walls[-1]) if self.walls else 0

    def has(self, *ops: str) -> bool:
        called = (call["op"] for line in self.lines for call in (line, *lines.parts(line)))
        return any(op in ops for op in called)

    def has_field(self, *fields: str) -> bool:
        return any(field in line for line in self.lines for field in fields)


def _flat(answer: Line) -> Sequence[Line]:
    found: Sequence[Line] = answer.get("answers", [answer])
    return found


def _at_the_edge(case: _Case) -> bool:
    calls = (call for line in case.lines for call in (line, *lines.parts(line)))
    return any(abs(call.get("count", 0)) > LIMIT // 4 for call in calls)


_GLOBAL = ("set", "set_if", "delete", "clear")
"""What starts a new epoch."""

_LOSSES = (EMPTY, "lose_key", "roll_back")

_CLUES: tuple[tuple[str, Callable[[_Case], bool]], ...] = (
    ("R1", lambda case: "invalid_key" in case.errors),
    ("R2", lambda case: "overflow" in case.errors or _at_the_edge(case)),
    ("R12", lambda case: bool(case.errors - {"invalid_key", "overflow"})),
    ("R16", lambda case: case.has("leave")),
    ("R10", lambda case: case.has(*_LOSSES)),
    ("R18", lambda case: case.has(*_LOSSES) and case.has("heartbeat")),
    ("R11", lambda case: case.has("late_copy") or case.has_field(lines.LOSE_REPLY)),
    ("R11", lambda case: case.has_field(lines.LOSE_REPLIES)),
    ("R12", lambda case: case.has_field(lines.GIVE_UP, lines.GIVE_UP_FROM, lines.REFUSE)),
    ("R3", lambda case: case.walls != sorted(case.walls)),
    ("R8", lambda case: case.longest_silence >= case.history.threshold_ms and case.has(*_GLOBAL)),
    ("R5", lambda case: case.longest_silence >= case.history.threshold_ms),
    ("R10", lambda case: case.longest_silence >= case.history.threshold_ms),
    ("R4", lambda case: case.longest_silence > 0),
    ("R15", lambda case: "comparator" in case.line),
    ("R13", lambda case: case.has(TOGETHER)),
    ("R6", lambda case: case.has(*_GLOBAL)),
    ("R9", lambda case: True),
)
"""What in a history is a clue to which rule."""
