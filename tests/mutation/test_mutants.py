"""The mutants are defects: programs that can run, each different from what was written."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutation.__main__ import draw
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import Mutant, line_of, mutants_of
from tests.mutation.run import KILLED, SURVIVED, run_one
from tests.mutation.tests_for import PLACES, STAGES, Stage

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


@pytest.mark.parametrize("place", PLACES)
def test_the_tests_that_look_for_mutants_exist(place: str) -> None:
    for stage in STAGES[place]:
        assert all((ROOT / path).exists() for path in (*stage.tests, *stage.but))


def test_what_is_said_to_be_equivalent_is_a_mutant_and_has_a_reason() -> None:
    for listed in EQUIVALENT:
        text = (ROOT / listed.path).read_text("utf-8")
        assert listed[:-1] in {
            (listed.path, line_of(mutant, text), mutant.was, mutant.becomes)
            for mutant in mutants_of(listed.path, text)
        }
        assert len(listed.reason) > 20


@pytest.mark.parametrize(("body", "fate"), [("assert add(1, 1) == 2", KILLED), ("", SURVIVED)])
def test_a_mutant_is_killed_by_a_test_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, fate: str
) -> None:
    text = "def add(a, b):\n    return a + b\n"
    (tmp_path / "distkit").mkdir()
    (tmp_path / "distkit" / "__init__.py").touch()
    module = tmp_path / "distkit" / "adding.py"
    module.write_text(text)
    test = f"from distkit.adding import add\n\n\ndef test_add():\n    add(1, 1)\n    {body}\n"
    (tmp_path / "test_add.py").write_text(test)
    stage = Stage(("test_add.py",))
    monkeypatch.setitem(STAGES, "distkit", (stage,))
    (mutant,) = (each for each in mutants_of("distkit/adding.py", text) if each.becomes == "-")
    assert isinstance(mutant, Mutant)
    verdict = run_one(mutant, tmp_path, {stage: 60})
    assert verdict.fate == fate, verdict
    assert module.read_text() == text
