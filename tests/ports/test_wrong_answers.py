"""Each wrong oracle is wrong in just the way that its words say.

`wrong_answers.jsonl` has a row for each: a short history that shows the mistake, the right answer
to its last line, and the wrong one. They were computed once and read; a wrong oracle that becomes
wrong in another way would explain other ports' failures badly (oracle/conform/explain.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oracle.conform.judge import judge
from oracle.conform.lines import same
from oracle.conform.traces import History
from oracle.conform.variants import VARIANTS

ROWS: dict[str, dict[str, Any]] = {
    row["variant"]: row
    for row in map(
        json.loads,
        (Path(__file__).parent / "wrong_answers.jsonl").read_text("utf-8").splitlines(),
    )
}

NEEDS_A_CROWD = {
    "clear_on_instance takes the first 100 counters only",
    "only the first 100 slices are restored",
}
"""They show only with more than 100 counters; `test_defects.py` has histories with so many."""


def test_every_wrong_oracle_has_a_row() -> None:
    assert ROWS.keys() == VARIANTS.keys() - NEEDS_A_CROWD


@pytest.mark.parametrize("words", ROWS)
def test_a_wrong_oracle_gives_the_wrong_answer_that_somebody_has_read(words: str) -> None:
    row = ROWS[words]
    history = History(row["threshold_ms"], tuple(row["lines"]))
    right, wrong = judge(history), judge(history, VARIANTS[words].kind)
    assert right[-1] == row["right"]
    assert wrong[-1] == row["wrong"]
    assert all(map(same, history.lines[:-1], right, wrong)), "it is right up to there"
