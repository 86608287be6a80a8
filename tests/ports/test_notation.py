"""Histories written short: what is written comes back, and what cannot be read is refused."""

from __future__ import annotations

import pytest

from oracle.conform import batches, faults, matrix, notation
from oracle.conform.lines import check_message


def _again(text: str) -> str:
    lines = notation.history(text).lines
    return "; ".join(
        f"{line['instance']} {notation.text(line)}" if "instance" in line else notation.text(line)
        for line in lines
    )


@pytest.mark.parametrize(
    "text",
    [
        "A inc k 5; B get k",
        "A set_if k lt 5 -1; A inc_if k always 3",
        "A inc k max; A dec k -max",
        "A get k [reply lost]; A get k [gives up]",
        "A inc k 1 [lost 1 3] [gives up from 4]; A get k [refused 2] [copied 1]",
        "A batch (inc k 1, get j, set k -3); A together (inc k 1, get k)",
        "A dies; A dies and comes again; empty; lose k; snapshot; roll back; late copy",
        "A leave [lost 2]; A clear; A heartbeat",
    ],
)
def test_what_is_written_comes_back(text: str) -> None:
    assert _again(text) == text


def test_a_key_that_would_be_misread_is_quoted_and_a_long_one_cut() -> None:
    line = notation.history("A get k").lines[0]
    assert notation.text({**line, "key": "a b"}) == 'get "a b"'
    assert notation.text({**line, "key": ""}) == 'get ""'
    assert notation.text({**line, "key": "x" * 255}) == f"get {'x' * 20}... (255 characters)"


def test_a_call_on_many_keys_or_repeated_is_one_row() -> None:
    lines = notation.history("A inc k1..k101 1; A inc k 1; A inc k 1; A inc k 1; B get k7").lines
    rows = notation.rows(lines)
    texts = [notation.row_text([lines[place] for place in row]) for row in rows]
    assert texts == ["inc k1..k101 1", "inc k 1, 3 times", "get k7"]
    assert [place for row in rows for place in row] == list(range(len(lines)))


@pytest.mark.parametrize("text", ["A inc k", "A fly k", "A inc k 1 [eaten]", "A get k 1"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        notation.history(text)


def test_every_systematic_history_is_one_of_messages() -> None:
    for module in (matrix, faults, batches):
        for history in module.histories():
            for line in history.lines:
                check_message(line)
