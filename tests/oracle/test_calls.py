"""Long calls on the model: in which requests their steps go, and what a failure ends (R12)."""

from __future__ import annotations

import pytest

from oracle import model
from oracle.model import NOT_EXECUTED, REFUSED, UNKNOWN, CounterState, Instance, Outcome, Step

ONE = Step("inc", 1)
ON_ONE_KEY = (("k", ONE),) * (3 * model.MOST_STEPS + 2)
ON_MANY_KEYS = tuple((f"k{n}", ONE) for n in range(3 * model.MOST_COUNTERS + 2))


def _made(
    steps: model.Steps, second: Outcome = "", failure: str = ""
) -> tuple[list[model.Steps], model.Made]:
    """The steps of each request, and what the call comes to. The second request comes to `second`,
    if that is not empty, and ends with `failure`."""
    sent: list[model.Steps] = []

    def make(instance: Instance) -> model.Made:
        assert instance.call is not None
        sent.append(tuple((key, step) for _, key, step in instance.call.todo))
        outcome = second if second and len(sent) == 2 else CounterState(len(sent), 0)
        outcomes = (outcome,) * len(sent[-1])
        ended = failure if len(sent) == 2 else ""
        return model.Made(instance._replace(call=None), outcomes, ended)

    return sent, model.make_steps(Instance("a", 30_000), steps, make)


@pytest.mark.parametrize(
    ("steps", "most"),
    [(ON_ONE_KEY, model.MOST_STEPS), (ON_MANY_KEYS, model.MOST_COUNTERS)],
    ids=["steps", "counters"],
)
def test_a_long_call_goes_in_requests_that_are_full(steps: model.Steps, most: int) -> None:
    sent, made = _made(steps)
    assert [len(each) for each in sent] == [most, most, most, 2]
    assert sum(sent, ()) == steps
    assert made.outcomes == tuple(CounterState(1 + at // most, 0) for at in range(len(steps)))


def test_a_call_without_steps_is_one_request() -> None:
    sent, made = _made(())
    assert (sent, made.outcomes) == ([()], ())


@pytest.mark.parametrize(
    ("outcome", "failure"),
    [(UNKNOWN, UNKNOWN), (UNKNOWN, ""), (NOT_EXECUTED, NOT_EXECUTED)],
    ids=["no reply", "unknown steps", "nothing was sent"],
)
def test_r12_after_a_request_that_failed_the_rest_is_not_sent(outcome: str, failure: str) -> None:
    sent, made = _made(ON_MANY_KEYS, outcome, failure)
    most = model.MOST_COUNTERS
    assert len(sent) == 2
    left = len(ON_MANY_KEYS) - 2 * most
    assert made.outcomes[most:] == (outcome,) * most + (NOT_EXECUTED,) * left
    assert made.failure == failure


def test_r2_a_refused_step_does_not_stop_the_requests_after_it() -> None:
    sent, made = _made(ON_MANY_KEYS, REFUSED)
    assert len(sent) == 4
    assert made.outcomes.count(REFUSED) == model.MOST_COUNTERS


def test_r19_an_instance_that_promises_nothing_is_not_waited_for() -> None:
    """Neither by default nor by name; one that promises is."""
    for opening, due in (
        (model.Open("a", 1, 0, 1_000), None),
        (model.Open("a", 1, 0, 1_000, promise=0), None),
        (model.Open("a", 1, 0, 1_000, promise=5), 105),
    ):
        server, _ = model.serve(model.Server(), opening, 100)
        assert (server.clock, server.due) == (100, due)


def test_r19_a_message_promises_nothing_unless_it_says_so() -> None:
    sender = ("a", 1, 2, 0, 1_000)
    assert model.Open("a", 1, 0, 1_000).promise == 0
    assert model.Request(*sender).promise == 0
    assert model.Leave(*sender).promise == 0
    assert Instance("a", 1_000).promise == 0
