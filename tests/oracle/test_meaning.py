"""R13's formula: what calls of several instances mean, without requests and sessions."""

from __future__ import annotations

from oracle.check.meaning import Meaning
from oracle.model import CounterState, Step, View

THRESHOLD = 1_000


def test_r13_who_leaves_takes_its_counts_along_and_the_others_keep_theirs() -> None:
    """R16: it is dead to everyone at once, and it comes back with nothing."""
    meaning, result = Meaning().call("a", "k", Step("inc", 5), 0, THRESHOLD)
    assert result == CounterState(5, 5)
    meaning, result = meaning.call("b", "k", Step("inc", 2), 0, THRESHOLD)
    assert result == CounterState(7, 2)
    left = meaning.leave("a")
    assert left.view("k", "b", 0) == View(2, 0, 2)
    back, result = left.call("a", "k", Step("get"), 0, THRESHOLD)
    assert result == CounterState(2, 0)
    assert back.call("b", "k", Step("get"), 0, THRESHOLD)[1] == CounterState(2, 2)


def test_r13_who_is_silent_for_its_threshold_is_not_counted_and_comes_back_with_its_count() -> None:
    meaning, _ = Meaning().call("a", "k", Step("inc", 5), 0, THRESHOLD)
    meaning, _ = meaning.call("b", "k", Step("inc", 2), THRESHOLD - 1, THRESHOLD)
    assert meaning.view("k", "b", THRESHOLD - 1) == View(7, 0, 2)
    assert meaning.view("k", "b", THRESHOLD) == View(2, 0, 2)
    back, result = meaning.call("a", "k", Step("get"), THRESHOLD, THRESHOLD)
    assert result == CounterState(7, 5)
    assert back.view("k", "b", THRESHOLD) == View(7, 0, 2)
