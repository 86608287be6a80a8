"""The numbers of the protocol: the specification, the oracle and production name the same ones.

The state machine would need hundreds of counters, or nine lost sessions in one call, to notice that
one of them is different.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from distkit import keys
from distkit.core import batching, housekeeping, instance, partitions
from oracle import model

SPEC = Path(__file__).parents[2] / "spec"


class Number(NamedTuple):
    """What the protocol fixes, in all three places."""

    oracle: int
    production: int
    page: str = ""
    words: str = ""


NUMBERS = {
    "the largest count and total (R2)": Number(
        model.LIMIT, keys.LIMIT, "RULES", f"2^{model.LIMIT.bit_length()}"
    ),
    "slices that one request restores": Number(
        model.RESTORE_CHUNK, instance.RESTORE_CHUNK, "PROTOCOL",
        f"every remembered counter without steps, at most {model.RESTORE_CHUNK} in a request",
    ),
    "lost sessions that a call survives": Number(model.PATIENCE, instance.PATIENCE),
    "looks of a heartbeat": Number(
        model.LOOKS, housekeeping.LOOKS, "RULES", f"(remembered / {model.LOOKS}) heartbeats"
    ),
    "releases of a heartbeat": Number(
        model.RELEASES, housekeeping.RELEASES, "PROTOCOL",
        f"lets go (R18) of up to {model.RELEASES} counters",
    ),
    "counters of a request": Number(
        model.MOST_COUNTERS, batching.MOST_KEYS, "PROTOCOL",
        f"would bring its {model.MOST_COUNTERS + 1}st counter",
    ),
    "steps of a request": Number(
        model.MOST_STEPS, batching.MOST_STEPS, "PROTOCOL", f"or its {model.MOST_STEPS + 1}th step"
    ),
    "partitions of a prefix": Number(
        model.MOST_PARTITIONS, partitions.MOST, "RULES",
        f"**partitions**, from 1 to {model.MOST_PARTITIONS}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_of_the_protocol_is_the_same_everywhere(name: str) -> None:
    number = NUMBERS[name]
    assert number.oracle == number.production
    if number.page:
        page = (SPEC / f"{number.page}.md").read_text("utf-8")
        assert number.words in " ".join(page.split())


def test_the_largest_number_is_what_a_float_counts_exactly_to() -> None:
    """R2: Lua's numbers are floats, and so are those of JSON."""
    assert float(model.LIMIT) == model.LIMIT
    assert float(model.LIMIT + 1) == model.LIMIT + 1
    assert float(model.LIMIT + 2) != model.LIMIT + 2


def test_the_mark_of_a_divided_prefix_is_the_layout_that_the_page_says() -> None:
    """R21: an instance that knows of no partitions finds a layout that it does not know."""
    page = " ".join((SPEC / "PROTOCOL.md").read_text("utf-8").split())
    assert f"with the value `{instance.DIVIDED} N`" in page
