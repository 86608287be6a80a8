"""`oracle.check.linearizability` against the definition, which tries every order of the calls.

R9, R11 and R12, as `oracle.check.properties` states them for replies.
"""

from __future__ import annotations

import random
from itertools import permutations
from typing import NamedTuple

import pytest

from oracle.check.linearizability import Linearizations
from oracle.model import CounterState, Map, Step, View, step_result


class TimedCall(NamedTuple):
    """Who called what, when it began and ended, and what it returned: None if it was given up."""

    who: str
    step: Step
    began: int
    ended: int
    result: CounterState | None


def _explained(calls: list[TimedCall]) -> bool:
    """By the definition: there is an order that respects real time and in which every result is
    right. A call that was given up may stand at any later place before its instance's next call
    has ended, or nowhere."""
    given_up = [call for call in calls if call.result is None]
    for chosen in range(2 ** len(given_up)):
        ran = [call for i, call in enumerate(given_up) if chosen >> i & 1]
        for order in permutations([call for call in calls if call.result is not None] + ran):
            if _respects_time(order) and _results_are_right(order):
                return True
    return False


def _respects_time(order: tuple[TimedCall, ...]) -> bool:
    for i, later in enumerate(order):
        for earlier in order[:i]:
            over = later.ended if later.result is not None else 10**9
            if over < earlier.began or (later.who == earlier.who and later.began < earlier.began):
                return False
    return True


def _results_are_right(order: tuple[TimedCall, ...]) -> bool:
    counts: dict[str, int] = {}
    for call in order:
        before = View(sum(counts.values()), 0, counts.get(call.who, 0))
        after, result = step_result(before, call.step)
        if call.result not in (None, result):
            return False
        counts = {call.who: after.count} if after.epoch else {**counts, call.who: after.count}
    return True


def _still_explained(calls: list[TimedCall]) -> bool:
    """The same by `Linearizations`, moment by moment."""
    order = Linearizations()
    moments = sorted({moment for call in calls for moment in (call.began, call.ended)})
    for moment in moments:
        for number, call in enumerate(calls):
            if call.began == moment:
                order = order.call(call.who, number, call.step)
            elif call.ended == moment and call.result is None:
                order = order.give_up(call.who)
            elif call.ended == moment and call.result is not None:
                order = order.reply(call.who, call.result)
    return bool(order.configurations)


A_INC = TimedCall("A", Step("inc", 1), 0, 3, CounterState(1, 1))
HISTORIES = {
    "one after the other": ([A_INC, TimedCall("B", Step("get"), 4, 5, CounterState(1, 0))], True),
    "not seen after it has ended": (
        [A_INC, TimedCall("B", Step("get"), 4, 5, CounterState(0, 0))],
        False,
    ),
    "not yet seen while it lasts": (
        [A_INC, TimedCall("B", Step("get"), 1, 2, CounterState(0, 0))],
        True,
    ),
    "seen, and then not": (
        [
            A_INC._replace(ended=9),
            TimedCall("B", Step("get"), 1, 2, CounterState(1, 0)),
            TimedCall("B", Step("get"), 3, 4, CounterState(0, 0)),
        ],
        False,
    ),
    "given up, and seen later": (
        [A_INC._replace(result=None), TimedCall("B", Step("get"), 4, 5, CounterState(1, 0))],
        True,
    ),
    "given up, and run after the next call": (
        [
            A_INC._replace(result=None),
            TimedCall("A", Step("get"), 4, 5, CounterState(0, 0)),
            TimedCall("B", Step("get"), 6, 7, CounterState(1, 0)),
        ],
        False,
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_is_judged_as_by_hand(name: str) -> None:
    calls, fine = HISTORIES[name]
    assert _still_explained(calls) is fine
    assert _explained(calls) is fine


def _random_history(chance: random.Random) -> list[TimedCall]:
    """Up to five overlapping calls of two instances, with results that are near right."""
    calls, clock = [], {"A": 0, "B": 0}
    stamps = chance.sample(range(1000), 20)
    for number in range(chance.randint(2, 5)):
        who = chance.choice("AB")
        kind = chance.choice(["inc", "get", "set", "delete", "set_on_instance"])
        began = clock[who] + 1 + stamps[2 * number] % 50
        ended = began + 1 + stamps[2 * number + 1] % 120
        clock[who] = ended
        result = CounterState(chance.randint(0, 3), chance.randint(0, 2))
        step = Step(kind, chance.randint(1, 2) if kind not in ("get", "delete") else 0)
        told = None if chance.random() < 0.2 else result
        calls.append(TimedCall(who, step, 2 * began + (who == "B"), 2 * ended + (who == "B"), told))
    return calls


def test_random_histories_are_judged_as_by_the_definition() -> None:
    chance, fine = random.Random(3), 0
    for _ in range(4_000):
        calls = _random_history(chance)
        right = _explained(calls)
        assert _still_explained(calls) is right, calls
        fine += right
    assert 50 < fine < 3_950, "both verdicts occur"


def test_a_withdrawn_call_has_no_effect() -> None:
    order = Linearizations().call("A", 1, Step("inc", 1)).withdraw("A")
    assert order.call("B", 2, Step("get")).reply("B", CounterState(0, 0)).configurations
    assert not order.call("B", 2, Step("get")).reply("B", CounterState(1, 0)).configurations


def test_the_steps_of_one_call_take_effect_together() -> None:
    order = Linearizations().call("A", 1, Step("inc", 1), Step("inc", 2)).call("B", 2, Step("get"))
    assert order.reply("B", CounterState(0, 0)).configurations
    assert not order.reply("B", CounterState(1, 0)).configurations
    assert (
        order.reply("B", CounterState(3, 0))
        .reply("A", CounterState(1, 1), CounterState(3, 3))
        .configurations
    )


def test_renaming_is_the_same_as_calling_under_the_other_name() -> None:
    mine = Linearizations().call("A", 1, Step("inc", 1)).reply("A", CounterState(1, 1))
    right = Linearizations().call("B", 1, Step("inc", 1)).reply("B", CounterState(1, 1))
    assert mine.rename({"A": "B", "B": "A"}) == right
    assert Map({"k": mine}) != Map({"k": right})
