"""The tables of the fast explorer compute each argument once, however many are looked up together,
and a world packed into one number comes back as it was."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from oracle.check.fast.parts import ROOM, Layout
from oracle.check.fast.tables import Attribute, Interner, MultiTable, Table, TooLarge
from oracle.model import Late, Opened


def test_a_table_computes_each_argument_once() -> None:
    computed = []

    def subtract(one: int, other: int) -> int:
        computed.append((one, other))
        return one - other

    table = Table((10, 5), subtract)
    for _ in range(2):
        found = table.of(np.array([7, 900, 7, 1023]), np.array([1, 31, 1, 0]))
        assert found.tolist() == [6, 869, 6, 1023]
    assert table.of(np.array([8, 7]), 1).tolist() == [7, 6]
    assert sorted(computed) == [(7, 1), (8, 1), (900, 31), (1023, 0)]
    assert sorted(table.arguments()) == sorted(computed)


def test_a_table_keeps_nothing_of_a_lookup_that_raises() -> None:
    fine = [False]

    def fail(_: int) -> int:
        if not fine[0]:
            raise ValueError
        return 5

    table = Table((10,), fail)
    with pytest.raises(ValueError):  # noqa: PT011 -- the kind does not matter
        table.of(np.array([1, 2]))
    assert not list(table.arguments())
    fine[0] = True
    assert table.of(np.array([1, 2])).tolist() == [5, 5]


def test_a_table_of_many_results_gives_each_with_the_place_of_its_argument() -> None:
    table = MultiTable((10,), lambda number: range(number))
    for _ in range(2):
        origins, found = table.of(np.array([2, 0, 3, 2]))
        assert origins.tolist() == [0, 0, 2, 2, 2, 3, 3]
        assert found.tolist() == [0, 1, 0, 1, 2, 0, 1]


def test_an_attribute_covers_the_values_interned_since() -> None:
    words = Interner[str]("words", 10)
    length = Attribute(words, len)
    assert [words.number(word) for word in ("a", "abc", "a")] == [0, 1, 0]
    assert length.of(np.array([1, 0, 1])).tolist() == [3, 1, 3]
    words.number("ab")
    assert length.of(np.array([2])).tolist() == [2]


def test_more_values_than_numbers_are_refused() -> None:
    words = Interner[str]("words", 1)
    words.number("a"), words.number("b")
    with pytest.raises(TooLarge, match="more than 2 different words"):
        words.number("c")


def test_equal_values_of_different_types_are_not_taken_for_each_other() -> None:
    """Named tuples are equal whenever their fields are; two messages must not be confused."""
    values = Interner[NamedTuple]("values", 10)
    values.number(Opened(5))
    with pytest.raises(AssertionError, match="taken for Opened"):
        values.number(Late(5))


def test_a_world_is_packed_into_one_number_and_back() -> None:
    small, large = Layout(3, 2, 2), Layout(20, 10, 2)
    parts = np.array([5, 7]), np.array([0, 3]), np.array([2, 1])
    for layout in (small, large):
        back = layout.unpack(layout.pack(parts))
        assert [part.tolist() for part in back] == [part.tolist() for part in parts]
    assert small.pack(parts).tolist() == [0b101_00_10, 0b111_11_01]
    assert large.covers(small)
    assert not small.covers(large)


def test_a_layout_leaves_room_for_more_parts_while_it_can() -> None:
    assert Layout(3, 2, 2).roomy() == Layout(4, 3, 2)
    assert Layout(ROOM - 21, 10, 2).roomy() == Layout(ROOM - 20, 10, 2)
    assert Layout(ROOM - 20, 10, 2).roomy() == Layout(ROOM - 20, 10, 2)
    with pytest.raises(TooLarge, match=f"takes {ROOM + 1} bits, not {ROOM}"):
        Layout(ROOM - 19, 10, 2).roomy()
