"""A failing history is made short: oracle/conform/shrink.py, on failures known beforehand."""

from __future__ import annotations

from collections.abc import Callable

from oracle.conform.lines import Line
from oracle.conform.shrink import MOST_PLAYS, shrink
from oracle.conform.traces import History
from oracle.model import LIMIT


def call(instance: str, op: str, key: str, wall_ms: int, **fields: object) -> Line:
    return {"op": op, "instance": instance, "key": key, **fields, "wall_ms": wall_ms}


def noise(wall_ms: int) -> list[Line]:
    return [call(name, "inc", "j", wall_ms, count=n) for n, name in enumerate("DEDE", 7)]


def failing(wrong: Callable[[list[Line]], bool]) -> Callable[[History], History | None]:
    """Fails at the first line up to which the history is wrong, as a port would."""

    def play(history: History) -> History | None:
        for end in range(1, len(history.lines) + 1):
            if wrong(list(history.lines[:end])):
                return history._replace(lines=history.lines[:end])
        return None

    return play


def test_what_does_not_matter_is_left_out_and_what_does_is_made_plain() -> None:
    """A dec, and later a lost reply on the same key."""

    def wrong(lines: list[Line]) -> bool:
        decs = {line["key"] for line in lines[:-1] if line["op"] == "inc" and line["count"] < 0}
        return bool(lines[-1].get("lose_reply")) and lines[-1]["key"] in decs

    lines = [
        *noise(0),
        call("C", "inc", "a b", 5, count=-17),
        *noise(9),
        call("E", "get", "a b", 700_000, lose_reply=True),
        *noise(700_001),
    ]
    assert shrink(History(1_000, tuple(lines)), failing(wrong)) == History(
        30_000,
        (
            call("A", "inc", "k", 5, count=-1),
            call("A", "get", "k", 5, lose_reply=True),
        ),
    )


def test_a_wait_is_none_or_the_threshold_or_what_it_has_to_be() -> None:
    def silence(at_least: int) -> Callable[[list[Line]], bool]:
        return lambda lines: lines[-1]["wall_ms"] - lines[0]["wall_ms"] >= at_least

    lines = (call("A", "inc", "k", 0, count=1), call("B", "get", "k", 99_999))
    for needed, found in ((1, 29_999), (30_000, 30_000), (50_000, 99_999)):
        short = shrink(History(30_000, lines), failing(silence(needed)))
        assert short.lines[-1]["wall_ms"] - short.lines[0]["wall_ms"] == found


def test_instances_are_as_few_as_can_be_and_called_by_the_first_letters() -> None:
    def three(lines: list[Line]) -> bool:
        return len({line["instance"] for line in lines}) == 3

    lines = [call(name, "get", "k", 0) for name in "HGFHEGD"]
    short = shrink(History(30_000, tuple(lines)), failing(three))
    assert [line["instance"] for line in short.lines] == ["A", "B", "C"]


def test_counts_at_the_ends_of_the_range_stay_where_they_matter() -> None:
    def large(lines: list[Line]) -> bool:
        return sum(int(line["count"]) for line in lines) > LIMIT

    lines = [call("A", "inc", "k", 0, count=n) for n in (3, LIMIT - 1, -4, 12)]
    short = shrink(History(30_000, tuple(lines)), failing(large))
    assert [line["count"] for line in short.lines] in ([LIMIT, 1], [1, LIMIT])


def test_it_ends_although_nothing_gets_plainer() -> None:
    """A port that fails now and then must not be played for ever."""
    plays = 0

    def sometimes(history: History) -> History | None:
        nonlocal plays
        plays += 1
        return history if plays % 7 == 0 else None

    lines = tuple(call("A", "inc", f"key {n}", n * 40_000, count=n) for n in range(60))
    shrink(History(30_000, lines), sometimes)
    assert plays <= MOST_PLAYS


def test_a_fault_comes_as_early_as_it_can_and_is_said_plainly() -> None:
    def wrong(fault: str, least: int) -> Callable[[list[Line]], bool]:
        return lambda lines: int(lines[-1].get(fault) or 0) >= least

    for fault, least, found in (
        ("refuse", 1, {"refuse": 1}), ("refuse", 2, {"refuse": 2}),
        ("give_up_from", 2, {"give_up_from": 2}), ("copy", 1, {"copy": 1}),
    ):  # fmt: skip
        line = call("A", "inc", "k", 0, count=1, **{fault: 4})
        (short,) = shrink(History(30_000, (line,)), failing(wrong(fault, least))).lines
        assert {name: short[name] for name in short if name in found} == found


def test_instances_become_one_where_that_makes_no_difference() -> None:
    def first_alone(lines: list[Line]) -> bool:
        first, *others = [line["instance"] for line in lines]
        return len(others) == 5 and first not in others

    lines = [call(name, "get", "k", 0) for name in "ABCDEF"]
    short = shrink(History(30_000, tuple(lines)), failing(first_alone))
    assert [line["instance"] for line in short.lines] == [*"ABBBBB"]


def test_many_keys_are_numbered_in_the_order_of_their_names_if_that_fails_too() -> None:
    def five(lines: list[Line]) -> bool:
        return len({line["key"] for line in lines}) == 5

    def five_out_of_order(lines: list[Line]) -> bool:
        keys = [line["key"] for line in lines]
        return five(lines) and keys != sorted(keys)

    lines = tuple(call("A", "get", key, 0) for key in ("pear", "fig", "nut", "lime", "kiwi"))
    in_order = ["k2", "k1", "k5", "k4", "k3"]  # pear was called k before
    for wrong in (five, five_out_of_order):
        short = shrink(History(30_000, lines), failing(wrong))
        assert [line["key"] for line in short.lines] == in_order


def test_many_keys_are_else_numbered_as_they_come() -> None:
    def wrong(lines: list[Line]) -> bool:
        keys = [line["key"] for line in lines]
        return len({*keys}) == 5 and keys[0] != "k2"

    lines = tuple(call("A", "get", key, 0) for key in ("pear", "fig", "nut", "lime", "kiwi"))
    short = shrink(History(30_000, lines), failing(wrong))
    assert [line["key"] for line in short.lines] == ["k1", "k2", "k3", "k4", "k5"]
