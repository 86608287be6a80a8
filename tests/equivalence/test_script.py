"""The script is `model.serve`: the same state, the same request, the same reply and state after it.

R2 to R19, one request at a time, from states at random: see `states.py`. The stateful machine
reaches only what a history leads to; this reaches the rest, and a difference shows where it arises.
"""

from __future__ import annotations

import pytest

from distkit.redis.script import COUNTER, Script
from tests.equivalence.conformance import compare
from tests.equivalence.states import Chance
from tests.harness.profiles import scaled
from tests.harness.servers import RedisServer

SEED = 11


def test_the_script_does_what_the_oracle_does(newest_server: RedisServer) -> None:
    compare(newest_server.client(), Chance(SEED).exchanges(scaled(10_000)))


DEFECTS = {
    "the label is lost": (
        "'^[^ ]+ [^ ]+ ([^ ]+) ([^ ]+) ([^ ]+)(.*)$'",
        "'^[^ ]+ [^ ]+ ([^ ]+) ([^ ]+) ([^ ]+)()'",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_shows(newest_server: RedisServer, defect: str) -> None:
    """That it can fail."""
    was, becomes = DEFECTS[defect]
    assert COUNTER.text.count(was) == 1
    script = Script(COUNTER.text.replace(was, becomes))
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is that goes wrong
        compare(newest_server.client(), Chance(SEED).exchanges(10_000), script)
