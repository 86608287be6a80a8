"""The mutants are defects: programs that can run, each different from what was written."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from tests.mutation.__main__ import EQUIVALENT_ONE, begun, diff_of, draw, gone, key_of, table_of
from tests.mutation.equivalent import EQUIVALENT, Equivalent
from tests.mutation.mutants import mutants_of
from tests.mutation.reached import Reached, collect, read, record
from tests.mutation.run import ALIVE, HUNG, KILLED, SURVIVED, Runner, Verdict
from tests.mutation.tests_for import PLACES, place_of, stages_of, statement_at

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


def test_what_is_said_to_be_equivalent_is_a_mutant_and_has_a_reason() -> None:
    """One whose line was changed since is said by `make mutate` to be gone."""
    for listed in EQUIVALENT:
        text = (ROOT / listed.path).read_text("utf-8")
        if listed.line in map(str.strip, text.splitlines()):
            assert listed.key in map(key_of, mutants_of(listed.path, text)), listed
        assert len(listed.reason) > 20
    assert len({listed.key for listed in EQUIVALENT}) == len(EQUIVALENT)


def test_what_is_listed_and_gone_is_named() -> None:
    (mutant, *_) = mutants_of("oracle/model/maps.py", (ROOT / "oracle/model/maps.py").read_text())
    there = Equivalent(*key_of(mutant)[:4], "a reason", 1)
    assert gone([there]) == []
    assert gone([there, there._replace(line="x = 1"), there._replace(path="no/such.py")]) == [
        "oracle/model/maps.py: x = 1",
        f"no/such.py: {there.line}",
    ]


def test_no_two_mutants_have_the_same_name() -> None:
    """Or a reviewed one would hide another."""
    path = "oracle/model/messages.py"
    keys = [key_of(mutant) for mutant in mutants_of(path, (ROOT / path).read_text("utf-8"))]
    assert len({*keys}) == len(keys)
    promises = [key for key in keys if key[1] == "promise: int = 0"]
    assert [key[-1] for key in promises] == [1, 2, 3]


ADDS = "def add(a, b):\n    return a + b\n\n\ndef alone():\n    return 0\n"


def _tree(folder: Path, text: str, test: str) -> Path:
    """A tree with a program and a test of it."""
    tree = folder / "tree"
    for name in ("distkit", "tests"):
        (tree / name).mkdir(parents=True)
        (tree / name / "__init__.py").touch()
    (tree / "distkit" / "program.py").write_text(text)
    (tree / "tests" / "test_program.py").write_text(test)
    return tree


def _verdict(tree: Path, becomes: str, reached: Reached, before: Verdict | None = None) -> Verdict:
    """What becomes of the only mutant of the program that becomes this."""
    path = "distkit/program.py"
    text = (tree / path).read_text()
    (mutant,) = (each for each in mutants_of(path, text) if each.becomes == becomes)
    begun = [*([before] if before else []), Verdict(mutant)]
    *_, verdict = Runner(tree, tree.with_name("copies"), 1, reached).run(begun)
    assert (tree.with_name("copies") / "tree-0" / path).read_text() == text
    return verdict


def _reaching(tests: dict[str, float], lines: range = range(1, 9)) -> Reached:
    """As if each of these tests, with its seconds, ran all of these lines."""
    return Reached(tests, {"distkit/program.py": {line: {*tests} for line in lines}})


TEST = "tests/test_program.py::test_add"


@pytest.mark.parametrize(
    ("body", "fate", "by"),
    [
        ("assert add(1, 1) == 2", KILLED, f"{TEST}[one and one]"),
        ("add(1, 1)", SURVIVED, ""),
    ],
)
def test_a_mutant_is_killed_by_a_test_that_fails(
    tmp_path: Path, body: str, fate: str, by: str
) -> None:
    test = f"""
import pytest
from distkit.program import add

@pytest.mark.parametrize("name", ["one and one"])
def test_add(name):
    {body}
"""
    tree = _tree(tmp_path, ADDS, test)
    verdict = _verdict(tree, "-", _reaching({f"{TEST}[one and one]": 1}))
    assert (verdict.fate, verdict.by, verdict.passed) == (fate, by, int(fate == SURVIVED))


def test_a_mutant_that_runs_for_ever_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.mutation.run.LEAST_S", 5)
    counts = "def count(n):\n    while n:\n        n -= 1\n"
    test = "from distkit.program import count\n\n\ndef test_add():\n    count(3)\n"
    verdict = _verdict(_tree(tmp_path, counts, test), "n += 1", _reaching({TEST: 0.1}))
    assert verdict.fate == HUNG


def test_a_test_that_a_mutant_takes_away_has_not_failed(tmp_path: Path) -> None:
    rows = "ROWS = [1, 2]\n"
    test = """
import pytest
from distkit.program import ROWS

@pytest.mark.parametrize("row", ROWS)
def test_add(row):
    assert row
"""
    tree = _tree(tmp_path, rows, test)
    reached = _reaching({f"{TEST}[1]": 0.1, f"{TEST}[2]": 0.1})
    assert _verdict(tree, "3", reached).fate == SURVIVED


SEVERAL = """
from distkit.program import add, alone

def test_quick():
    assert alone() == 0

def test_add():
    assert add(1, 1) == 2

def test_slow():
    assert add(2, 2) == 4

def test_that_fails_anyway():
    assert add(2, 2) == 5
"""


def test_the_record_says_which_tests_that_pass_run_which_lines(tmp_path: Path) -> None:
    tree = _tree(tmp_path, ADDS, SEVERAL)
    (tree / "tests" / "mutation").symlink_to(ROOT / "tests" / "mutation")
    (tree / "tests" / "harness").symlink_to(ROOT / "tests" / "harness")
    record(tree, tmp_path / "record", 1)
    reached = read(tree, tmp_path / "record")
    adding = {TEST, TEST.replace("add", "slow")}
    assert reached.of("distkit/program.py", [2]) == adding
    assert reached.of("distkit/program.py", [6]) == {TEST.replace("add", "quick")}
    assert reached.of("distkit/program.py", [1]) == reached.of_file("distkit/program.py")
    assert reached.of_file("distkit/program.py") == {*adding, TEST.replace("add", "quick")}
    assert "tests/test_program.py::test_that_fails_anyway" not in reached.seconds
    with (tree / "tests" / "test_program.py").open("a") as file:
        file.write("\ndef test_new():\n    pass\n")
    new = {"tests/test_program.py::test_new", "tests/test_program.py::test_that_fails_anyway"}
    running = reached.knowing(collect(tree)).of("distkit/program.py", [2])
    assert running >= adding | new
    assert TEST.replace("add", "quick") not in running


def test_the_tests_that_run_the_line_come_in_stages_and_those_that_find_others_first() -> None:
    tests = {"c": 40.0, "b": 30.0, "a": 4.0, "d": 50.0}
    (mutant, *_) = draw(1, 1, ["oracle/model"])
    reached = Reached({**tests, "other": 1}, {mutant.path: {mutant.line: {*tests}, 1: {"other"}}})
    assert stages_of(mutant, ROOT, reached) == [["a", "b"], ["c", "d"]]
    assert stages_of(mutant, ROOT, reached, ["d", "other"]) == [["d", "a", "b"], ["c", "d"]]


def test_a_test_that_found_one_mutant_of_a_file_runs_first_for_the_next(tmp_path: Path) -> None:
    tree = _tree(tmp_path, ADDS, SEVERAL)
    slow = TEST.replace("add", "slow")
    other = Verdict(mutants_of("distkit/program.py", ADDS)[0], KILLED, slow)
    assert _verdict(tree, "-", _reaching({TEST: 1, slow: 99}), other).by == slow


def test_a_test_that_fails_without_a_mutant_too_finds_nothing(tmp_path: Path) -> None:
    tree = _tree(tmp_path, ADDS, SEVERAL)
    reached = _reaching({"tests/test_program.py::test_that_fails_anyway": 1, TEST: 2})
    assert _verdict(tree, "-", reached).by == TEST


def test_statements_are_found_by_any_of_their_lines() -> None:
    text = "if (a and\n        b):\n    c = [\n        1,\n    ]\nelse:\n    d()\n"
    found = [(each.start, each.stop - 1) for each in (statement_at(text, n) for n in range(1, 8))]
    assert found == [(1, 2), (1, 2), (3, 5), (3, 5), (3, 5), (6, 6), (7, 7)]


def test_a_resumed_run_takes_over_what_is_killed_and_begins_again_with_the_survivors(
    tmp_path: Path,
) -> None:
    one, two, three, four = draw(4, 1, ["script"])
    book = tmp_path / "book"
    verdicts = [
        Verdict(one, ALIVE, "", 1, 1),
        Verdict(two, SURVIVED, "", 9, 3),
        Verdict(one, KILLED, "t", 2, 1),
        Verdict(three, ALIVE, "", 1, 1),
    ]
    book.write_text("".join(json.dumps(each) + "\n" for each in verdicts))
    assert begun([one, two, three, four], book) == {
        one: Verdict(one, KILLED, "t", 2, 1),
        two: Verdict(two),
        three: Verdict(three, ALIVE, "", 1, 1),
        four: Verdict(four),
    }


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
