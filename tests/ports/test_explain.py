"""What a failing history says about the rule that is broken: oracle/conform/explain.py."""

from __future__ import annotations

import pytest

from oracle.conform import notation
from oracle.conform.explain import MOST_LINES, Hint, explain
from oracle.conform.judge import judge
from oracle.conform.lines import Line
from oracle.conform.traces import History
from oracle.conform.variants import VARIANTS

SAID: Line = {"cumulative": 123_456, "instance_count": 77}
"""What no known mistake answers."""

RULES = {
    "A get k": "R9",
    "A inc k 1; A inc {empty} 1": "R1 R9",
    "A inc k max": "R2 R9",
    "A get k; A inc k max; A inc k 1": "R2 R9",
    "A get k; A inc k 1 [gives up]": "R12 R9",
    "A get k [refused 1]": "R12 R9",
    "A inc k 1; A leave; A get k": "R16 R9",
    "A inc k 1; empty; A get k": "R10 R9",
    "A inc k 1; lose k; A get k": "R10 R9",
    "A inc k 1; snapshot; roll back; A get k": "R10 R9",
    "A inc k 1; empty; A heartbeat; A get k": "R10 R18 R9",
    "A inc k 1; A heartbeat; A get k": "R9",
    "A inc k 1 [copied 1]; late copy; A get k": "R11 R9",
    "A inc k 1 [reply lost]; A get k": "R11 R9",
    "A inc k 1 [lost 2 3]; A get k": "R11 R9",
    "A inc k 1; wait -5; A get k": "R3 R9",
    "A inc k 1; wait 30000; B get k": "R5 R10 R4",
    "A inc k 1; wait 29999; B get k": "R4 R9",
    "A inc k 1; wait 30000; A get k": "R9",
    "A inc k 1; wait 30000; B set k 1": "R8 R5 R10",
    "A inc_if k lt 5 1": "R15 R9",
    "A together (inc k 1, get k)": "R13 R9",
    "A set k 1": "R6 R9",
    "A inc k 1; A delete k; A get k": "R6 R9",
}
"""Of each clue a history that has it, and of some one that only almost has it; the rules that its
hint names."""


def _hint(text: str, said: Line) -> Hint:
    history = notation.history(text, "", "")
    return explain(history, judge(history), said)


@pytest.mark.parametrize("text", RULES)
def test_what_happened_says_which_rules_may_be_concerned(text: str) -> None:
    assert _hint(text, SAID) == Hint(tuple(RULES[text].split()))


def test_a_hint_without_a_cause_only_says_where_to_look() -> None:
    assert str(Hint(("R5", "R4"))) == "see R5 R4"
    assert str(Hint(("R5",), ("an instance dies too late",))) == "R5"


TOO_LATE = "an instance is dead 1 ms too late"


def _padded(lines: int) -> History:
    """A history of so many lines whose last one shows the mistake."""
    text = "A inc k 1; wait 30000; B get k"
    spare = lines - len(notation.history(text, "", "").lines)
    return notation.history("; ".join(["B get j"] * spare + [text]), "", "")


@pytest.mark.parametrize("lines", [2, MOST_LINES, MOST_LINES + 1])
def test_a_known_mistake_is_named_unless_the_history_is_long(lines: int) -> None:
    history = _padded(lines)
    assert len(history.lines) == lines
    said = judge(history, VARIANTS[TOO_LATE].kind)[-1]
    hint = explain(history, judge(history), said)
    assert (TOO_LATE in hint.causes) == (lines <= MOST_LINES)
    assert "R5" in hint.rules
