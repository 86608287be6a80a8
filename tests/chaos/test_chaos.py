"""A short selection of `make chaos`, and that its judge finds defects that are planted."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from distkit import Change, CounterState, OutcomeUnknownError
from tests.chaos.books import Book, Call, GlobalCall, Reset, unexplained
from tests.chaos.faults import Site
from tests.chaos.fleet import Planted
from tests.chaos.mixed import IN_A_ROW, OF_THE_PACE, at_random
from tests.chaos.rows import FAULTS, Row
from tests.chaos.run import Chaos, Finding
from tests.conftest import REAL

PACE = 0.1
PACES = (0.1, 0.5, 2.0)
SHORT = {
    "standalone": ("CLIENT KILL storm", "FLUSHALL storm"),
    "sentinel": ("frozen master returns",),
    "cluster": (
        "slot moved key by key, sessions first",
        "takeover, old master returns",
        "split brain for 4 s",
    ),
}
FEWEST = 300
"""Calls that must have been acknowledged, or the test has tested nothing."""

FEWEST_IN_ORDER = 20
"""The same for the calls that an order had to explain."""

PLANTED = {
    "a retry is executed again": ("CLIENT KILL storm", "standalone"),
    "only positive slices are restored": ("FLUSHALL storm", "standalone"),
    "set starts no new epoch": ("none", "standalone"),
}
"""A defect, and the fault that must reveal it."""


def _row(name: str, deployment: str) -> Row:
    return next(row for row in FAULTS if (row.name, row.deployment) == (name, deployment))


def _findings(chaos: Chaos, deployment: str) -> list[Finding]:
    return [chaos.run(_row(name, deployment)) for name in SHORT[deployment]]


def violations_of(row: Row, planted: Planted) -> list[dict[str, Any]]:
    """What is found with a planted defect. A slow machine needs longer for as many calls."""
    for pace in PACES:
        with Chaos(REAL[-1], pace, planted) as chaos:
            if found := chaos.run(row).violations:
                return found
    return []


@pytest.mark.parametrize("deployment", SHORT)
def test_faults_of_real_servers_break_no_count(deployment: str) -> None:
    with Chaos(REAL[-1], PACE) as chaos:
        for finding in _findings(chaos, deployment):
            assert not finding.violations, finding
            assert finding.acknowledged > FEWEST, finding
            assert not finding.row.is_ordered or finding.ordered > FEWEST_IN_ORDER, finding


@pytest.mark.parametrize("mutant", PLANTED)
def test_the_judge_finds_a_planted_defect(mutant: str) -> None:
    assert violations_of(_row(*PLANTED[mutant]), Planted(mutant=mutant))


def test_faults_at_random_are_judged_after_each_healing() -> None:
    fleet, deployment, happened = Mock(), Mock(), list[float]()
    fleet.prefix, fleet.workers = "p", [Mock()]
    fleet.judge.side_effect = [([], 1)] * 2 + [([{"why": "unequal"}], 3)] + [([], 1)] * 2
    site = Site(deployment, fleet, Mock(), pace=0.001)

    def fault(short: Site) -> None:
        happened.append(short.pace)
        fleet.each.assert_called_with("resume")

    fleet.each("resume")
    at_random(fault)(site)
    assert happened == [0.001 * OF_THE_PACE] * IN_A_ROW
    assert deployment.wait.call_count == IN_A_ROW
    (wrong,) = site.wrong
    assert wrong["why"] == "unequal"
    assert len(wrong["after"]) == 3


# --- The books -----------------------------------------------------------------------------------


def _noted(*calls: tuple[Call, object], can_reset: bool = False) -> Book:
    book = Book("k", can_reset)
    for time, (call, outcome) in enumerate(calls):
        book.note(call, outcome, time, time + 0.5)
    return book


UNKNOWN = OutcomeUnknownError("no reply")


def test_an_unknown_outcome_widens_the_book_and_the_next_answer_narrows_it() -> None:
    book = _noted((Call("inc", "k", 5), (5, 5)), (Call("inc", "k", 2), UNKNOWN))
    assert book.counts == {5, 7}
    book.note(Call("inc", "k", 1), (9, 8), 3, 4)
    assert book.counts == {8}
    assert not book.violations


@pytest.mark.parametrize("outcome", [(6, 6), (5, 4)])
def test_an_answer_that_follows_from_no_count_is_a_violation(outcome: tuple[int, int]) -> None:
    book = _noted((Call("inc", "k", 5), (5, 5)), (Call("get", "k"), outcome))
    assert len(book.violations) == 1
    assert book.counts == {outcome[1]}, "what follows is judged by what was answered"


def test_an_error_that_is_known_changes_nothing() -> None:
    book = _noted((Call("inc", "k", 5), (5, 5)), (Call("inc", "k", 2), RuntimeError("refused")))
    assert book.counts == {5}


def _change(new: tuple[int, int], old: tuple[int, int], applied: bool) -> Change:
    return Change(CounterState(*new), CounterState(*old), applied)


def test_a_change_has_to_follow_from_its_condition() -> None:
    call = Call("inc_if", "k", 2, ("lt", 10))
    right = _noted((call, _change((9, 2), (7, 0), True)), (call, _change((12, 2), (12, 2), False)))
    assert not right.violations
    for wrong in (_change((13, 3), (11, 1), True), _change((9, 2), (7, 1), True)):
        assert _noted((Call("inc", "k", 1), (1, 1)), (call, wrong)).violations


def test_a_reset_needs_a_global_call_of_its_time() -> None:
    book = _noted((Call("inc", "k", 5), (5, 5)), (Call("inc", "k", 1), (1, 1)), can_reset=True)
    assert book.resets == [Reset("k", 0, 1.5)]
    assert not book.violations
    late, lost = GlobalCall("k", 2.0, 3.0), GlobalCall("k", -2.0, -1.0)
    assert not unexplained(book.resets, [GlobalCall("k", 0.7, 0.9)], loses=False)
    assert not unexplained(book.resets, [lost], loses=True), "it may return"
    for calls in ([], [late], [lost], [GlobalCall("another", 0.7, 0.9)]):
        assert unexplained(book.resets, calls, loses=False)
