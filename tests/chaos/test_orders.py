"""That `orders` finds what no order of the calls explains, and nothing else."""

from __future__ import annotations

import random
from itertools import permutations
from typing import Any

import pytest

from oracle.check.linearizability import Linearizations
from oracle.model import CounterState, Step, View, run_steps
from tests.chaos.books import Call
from tests.chaos.defects import DEFECTS
from tests.chaos.fleet import Planted
from tests.chaos.orders import MOST, Recorded, at_once, check
from tests.chaos.recording import KEYS, record
from tests.chaos.run import chosen
from tests.chaos.test_chaos import violations_of

GET, INC, SET, DELETE = Step("get"), Step("inc", 1), Step("set", 9), Step("delete")
DELETE_ON_INSTANCE = Step("delete_on_instance")


def call(
    who: str, step: Step, began: float, ended: float, *result: int, unknown: bool = False
) -> Recorded:
    results = None if unknown else (CounterState(*result),)
    return Recorded(who, (step,), began, ended, results)


A = call("A", INC, 0, 3, 1, 1)
LINEARIZABLE = {
    "nothing": [],
    "one after the other": [A, call("B", GET, 4, 5, 1, 0)],
    "seen before it has ended": [A, call("B", GET, 1, 2, 1, 0), call("C", GET, 2.5, 5, 1, 0)],
    "not seen while it is under way": [A, call("B", GET, 1, 2, 0, 0)],
    "two of one instance at once": [
        call("A", INC, 0, 3, 2, 2),
        call("A", INC, 1, 2, 1, 1),
        call("A", GET, 0, 9, 0, 0),
    ],
    "unknown, and never": [call("A", INC, 0, 1, unknown=True), call("B", GET, 2, 3, 0, 0)],
    "unknown, and later": [
        call("A", INC, 0, 1, unknown=True),
        call("B", GET, 2, 3, 0, 0),
        call("B", GET, 4, 5, 1, 0),
    ],
    "a new epoch": [A, call("B", SET, 4, 5, 9, 9), call("A", INC, 6, 7, 10, 1)],
    "one deletes what the other counts": [
        A,
        call("B", DELETE, 1, 5, 1, 0),
        call("A", GET, 6, 7, 0, 0),
    ],
}
NOT_LINEARIZABLE = {
    "a stale read": [A, call("B", GET, 4, 5, 0, 0)],
    "a read of what comes later": [call("B", GET, 0, 1, 1, 0), call("A", INC, 2, 3, 1, 1)],
    "an inc reported before one that completed earlier": [
        call("A", INC, 0, 1, 2, 1),
        call("B", INC, 2, 3, 1, 1),
    ],
    "one read sees it, a later one does not": [
        A,
        call("B", GET, 0.5, 1, 1, 0),
        call("C", GET, 1.5, 2, 0, 0),
    ],
    "counted twice": [A, call("B", GET, 4, 5, 2, 0)],
    "not executed, and yet counted": [call("B", GET, 4, 5, 1, 0)],
    "unknown, and executed after a later call of its instance": [
        call("A", INC, 0, 1, unknown=True),
        call("A", GET, 2, 3, 0, 0),
        call("B", GET, 4, 5, 1, 0),
    ],
    "an epoch that resets nobody": [A, call("B", SET, 4, 5, 9, 9), call("A", GET, 6, 7, 9, 1)],
    "a call that takes effect again after it has ended": [
        A,
        call("A", DELETE_ON_INSTANCE, 4, 5, 0, 1),
        call("B", GET, 6, 7, 1, 0),
    ],
    "the same, of one that was seen before it had ended": [
        A,
        call("B", GET, 1, 2, 1, 0),
        call("A", DELETE_ON_INSTANCE, 4, 5, 0, 1),
        call("B", GET, 6, 7, 1, 0),
    ],
    "a batch with another's step inside": [
        Recorded("A", (INC, INC), 0, 3, (CounterState(1, 1), CounterState(3, 2))),
        call("B", INC, 1, 2, 2, 1),
    ],
}


@pytest.mark.parametrize("name", LINEARIZABLE)
def test_an_order_is_found(name: str) -> None:
    assert check(LINEARIZABLE[name]) is None


@pytest.mark.parametrize("name", NOT_LINEARIZABLE)
def test_what_no_order_explains_is_found(name: str) -> None:
    failure = check(NOT_LINEARIZABLE[name])
    assert failure is not None
    assert failure.why == "no order of the calls explains this answer"


def test_a_search_that_takes_too_long_is_given_up_and_says_so() -> None:
    doubtful = [call(f"I{n}", Step("inc", 2**n), 0, 1, unknown=True) for n in range(20)]
    assert 2 ** len(doubtful) > MOST
    failure = check([*doubtful, call("B", GET, 2, 3, -1, 0)])
    assert failure is not None
    assert failure.why == "too many orders to search"


def test_how_many_calls_were_under_way_at_once() -> None:
    assert at_once([A, call("B", GET, 1, 2, 1, 0), call("C", GET, 2.5, 5, 1, 0)]) == 2
    assert at_once([]) == 0


# --- Against the definition ----------------------------------------------------------------------


def _drawn(chance: random.Random) -> list[Recorded]:
    """A short history: what an atomic counter answers, at times with one wrong answer in it."""
    moments: list[tuple[float, float, float, str, Step]] = []
    for _ in range(chance.randrange(2, 6)):
        first, middle, last = sorted(chance.sample(range(30), 3))
        moments.append((middle, first, last, chance.choice("ABC"), chance.choice((GET, INC, SET))))
    counts: dict[str, int] = {}
    calls: list[Recorded] = []
    for _, began, ended, who, step in sorted(moments):
        after, results = run_steps(View(sum(counts.values()), 0, counts.get(who, 0)), (step,))
        fate = chance.random()
        if fate < 0.75 or step.op == "get":
            calls.append(Recorded(who, (step,), began, ended, results))
        else:
            calls.append(Recorded(who, (step,), began, ended, None))
        if fate < 0.9:
            counts = {who: after.count} if after.epoch else {**counts, who: after.count}
    if chance.random() < 0.5:
        place = chance.randrange(len(calls))
        wrong = CounterState(chance.randrange(3), chance.randrange(2))
        calls[place] = calls[place]._replace(results=(wrong,))
    return calls


def _by_definition(calls: list[Recorded]) -> bool:
    """Try every order of every choice of the unknown calls."""
    known = [each for each in calls if each.results is not None]
    unknown = [each for each in calls if each.results is None]
    for choice in range(2 ** len(unknown)):
        ran = [each for place, each in enumerate(unknown) if choice >> place & 1]
        if any(_is_an_order(order) for order in permutations([*known, *ran])):
            return True
    return False


def _is_an_order(order: tuple[Recorded, ...]) -> bool:
    for place, later in enumerate(order):
        for earlier in order[:place]:
            is_over = later.results is not None or later.who == earlier.who
            if is_over and later.ended < earlier.began:
                return False
    counts: dict[str, int] = {}
    for each in order:
        view = View(sum(counts.values()), 0, counts.get(each.who, 0))
        after, results = run_steps(view, each.steps)
        if each.results not in (None, results):
            return False
        counts = {each.who: after.count} if after.epoch else {**counts, each.who: after.count}
    return True


def test_the_search_agrees_with_the_definition() -> None:
    chance, found = random.Random(20), {True: 0, False: 0}
    for _ in range(1500):
        calls = _drawn(chance)
        expected = _by_definition(calls)
        assert (check(calls) is None) == expected, calls
        found[expected] += 1
    assert min(found.values()) > 200, found


def test_the_search_agrees_with_that_of_the_explored_worlds() -> None:
    """Where an instance makes one call at a time, as it does there."""
    chance, found = random.Random(21), {True: 0, False: 0}
    while sum(found.values()) < 1500:
        calls = _drawn(chance)
        if not _one_at_a_time(calls):
            continue
        expected = bool(_go_along(calls).configurations)
        assert (check(calls) is None) == expected, calls
        found[expected] += 1
    assert min(found.values()) > 200, found


def _one_at_a_time(calls: list[Recorded]) -> bool:
    return not any(
        a is not b and a.who == b.who and a.began <= b.ended and b.began <= a.ended
        for a in calls
        for b in calls
    )


def _go_along(calls: list[Recorded]) -> Linearizations:
    moments: list[tuple[float, int, int]] = []
    for number, each in enumerate(calls):
        moments += [(each.began, 0, number), (each.ended, 1, number)]
    order = Linearizations()
    for _, is_end, number in sorted(moments):
        each = calls[number]
        if not is_end:
            order = order.call(each.who, number_of(calls, each), *each.steps)
        elif each.results is None:
            order = order.give_up(each.who)
        else:
            results: Any = each.results
            order = order.reply(each.who, *results)
    return order


def number_of(calls: list[Recorded], call: Recorded) -> int:
    """A later call has a higher number."""
    return sorted(calls, key=lambda each: each.began).index(call)


# --- What processes record -----------------------------------------------------------------------


def test_a_call_that_was_not_executed_is_not_recorded() -> None:
    assert record([Call("inc", "k", 1)], RuntimeError("refused"), 0, 1) == []


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_of_real_processes_is_found(defect: str) -> None:
    (row,) = chosen(["none standalone"])
    found = violations_of(row, Planted(defect=defect))
    assert {each["why"] for each in found} == {"no order of the calls explains this answer"}
    assert {each["key"] for each in found} <= {*KEYS}
