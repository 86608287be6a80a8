"""R17 in the explored worlds: the lives of an id have request numbers that are far apart.

An instance whose id may have been used before starts at random (PROTOCOL.md, "What it keeps"), so
a world in which two lives have the same numbers is not one that we promise anything about. A life
that joins later needs its head start as well as one that is there from the beginning.
"""

from __future__ import annotations

import pytest

from oracle.check.call_kinds import kinds
from oracle.check.fast.search import explore
from oracle.check.state import Bounds

ONE_LIFE_MORE = Bounds(operations=3, kinds=kinds("set"), crashes=1, reuses=1)


@pytest.mark.parametrize(
    "bounds",
    [ONE_LIFE_MORE._replace(instances=1), ONE_LIFE_MORE._replace(instances=0, joins=1)],
    ids=["that was there", "that joined"],
)
def test_a_second_life_is_not_mistaken_for_the_one(bounds: Bounds) -> None:
    found = explore(bounds)
    assert found.finished
    assert not found.violation
