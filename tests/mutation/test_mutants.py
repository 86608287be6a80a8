"""The mutants are defects: programs that can run, each different from what was written."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutation.__main__ import EQUIVALENT_ONE, diff_of, draw, table_of
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import line_of, mutants_of
from tests.mutation.run import HUNG, KILLED, SURVIVED, Limits, Verdict, run_one
from tests.mutation.tests_for import FIRST, PLACES, STAGES, Stage, place_of

ROOT = Path(__file__).parents[2]
PROGRAM = '''
"""A docstring."""

def between(number: int, low: int = 0) -> bool:
    if not low <= number:
        return False
    while number > 1 and True:
        number += 2
        print(number)
        break
    return number - low == 3
'''


def _lines(path: str, text: str) -> set[str]:
    found = set()
    for mutant in mutants_of(path, text):
        after = mutant.apply(text)
        assert after != text
        found.add(" ".join(after.splitlines()[mutant.line - 1].split()))
    return found


def test_python_becomes_what_somebody_could_have_written() -> None:
    assert _lines("a.py", PROGRAM) >= {
        "def between(number: int, low: int = 1) -> bool:",
        "if low <= number:",
        "if not low < number:",
        "return None",
        "return True",
        "while number >= 1 and True:",
        "while number > 1 or True:",
        "while number > 1 and False:",
        "while number > 2 and True:",
        "number -= 2",
        "number += 3",
        "pass",
        "continue",
        "return number + low == 3",
        "return number - low != 3",
        "return number - low == 4",
    }


def test_lua_becomes_what_somebody_could_have_written() -> None:
    text = "-- 1 == 1\nif a == 1 and not b then\n  call('HDEL', x .. '1 < 2')\n  c = a + 2\nend\n"
    assert _lines("a.lua", text) == {
        "if a ~= 1 and not b then",
        "if a == 2 and not b then",
        "if a == 1 or not b then",
        "if a == 1 and b then",
        "do end",
        "c = a - 2",
        "c = a + 3",
    }


@pytest.mark.parametrize("place", PLACES)
def test_mutants_of_ours_can_be_parsed(place: str) -> None:
    for file in ROOT.glob(PLACES[place]):
        path, text = file.relative_to(ROOT).as_posix(), file.read_text("utf-8")
        if file.suffix == ".py":
            for mutant in mutants_of(path, text)[::20]:  # all of them take a minute
                after = mutant.apply(text)
                assert after != text, mutant
                ast.parse(after)


def test_a_seed_always_draws_the_same_mutants_at_most_one_a_line() -> None:
    drawn = draw(50, 7, [*PLACES])
    assert drawn == draw(50, 7, [*PLACES]) != draw(50, 8, [*PLACES])
    assert len({(mutant.path, mutant.line) for mutant in drawn}) == len(drawn) == 50


@pytest.mark.parametrize("place", [*PLACES, *FIRST])
def test_the_tests_that_look_for_mutants_exist(place: str) -> None:
    assert place not in FIRST or (ROOT / place).exists()
    for stage in STAGES.get(place) or [FIRST[place]]:
        assert all((ROOT / path).exists() for path in (*stage.tests, *stage.but))


def test_what_is_said_to_be_equivalent_is_a_mutant_and_has_a_reason() -> None:
    for listed in EQUIVALENT:
        text = (ROOT / listed.path).read_text("utf-8")
        assert listed[:-1] in {
            (listed.path, line_of(mutant, text), mutant.was, mutant.becomes)
            for mutant in mutants_of(listed.path, text)
        }
        assert len(listed.reason) > 20


def _verdict(
    folder: Path, patch: pytest.MonkeyPatch, text: str, becomes: str, test: str
) -> Verdict:
    """What becomes of the only mutant of a program that becomes this, with this test."""
    (folder / "distkit").mkdir()
    (folder / "distkit" / "__init__.py").touch()
    module = folder / "distkit" / "program.py"
    module.write_text(text)
    (folder / "test_program.py").write_text(test)
    stage, limits = Stage(("test_program.py",)), Limits()
    patch.setitem(STAGES, "distkit", (stage,))
    patch.setattr("tests.mutation.run.LEAST_S", 5)
    (mutant,) = (each for each in mutants_of("distkit/program.py", text) if each.becomes == becomes)
    verdict = run_one(mutant, folder, limits)
    assert module.read_text() == text
    return verdict


ADDS = "def add(a, b):\n    return a + b\n"


@pytest.mark.parametrize(
    ("body", "fate", "by"),
    [
        ("assert add(1, 1) == 2", KILLED, "test_program.py::test_add[one and one]"),
        ("add(1, 1)", SURVIVED, ""),
    ],
)
def test_a_mutant_is_killed_by_a_test_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, fate: str, by: str
) -> None:
    test = f"""
import pytest
from distkit.program import add

@pytest.mark.parametrize("name", ["one and one"])
def test_add(name):
    {body}
"""
    verdict = _verdict(tmp_path, monkeypatch, ADDS, "-", test)
    assert (verdict.fate, verdict.by) == (fate, by)


def test_a_mutant_that_runs_for_ever_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = "def count(n):\n    while n:\n        n -= 1\n"
    test = "from distkit.program import count\n\n\ndef test_count():\n    count(3)\n"
    assert _verdict(tmp_path, monkeypatch, counts, "n += 1", test).fate == HUNG


def test_tests_that_fail_without_a_mutant_tell_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = "def test_add():\n    assert False\n"
    with pytest.raises(AssertionError, match=r"without a mutant, .*::test_add fails"):
        _verdict(tmp_path, monkeypatch, ADDS, "-", test)


def test_a_survivor_is_kept_with_its_diff() -> None:
    (mutant, *_) = draw(1, 1, ["oracle/model"])
    text = (ROOT / mutant.path).read_text("utf-8")
    changed = mutant.apply(text).splitlines()[mutant.line - 1]
    lines = diff_of(mutant).splitlines()
    assert lines[:2] == [f"--- a/{mutant.path}", f"+++ b/{mutant.path}"]
    assert f"-{text.splitlines()[mutant.line - 1]}" in lines
    assert f"+{changed}" in lines


def test_the_table_leaves_equivalent_mutants_out_of_the_share() -> None:
    mutants = draw(8, 1, ["script"])
    fates = [KILLED] * 4 + [HUNG, SURVIVED, EQUIVALENT_ONE, EQUIVALENT_ONE]
    verdicts = [Verdict(*each, "", 1) for each in zip(mutants, fates, strict=True)]
    table = table_of(verdicts, place_of)
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["script", "8", "5", "1", "1", "2", "83"]
