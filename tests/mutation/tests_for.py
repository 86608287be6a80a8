"""The places that mutants are drawn from, and which tests look for a mutant, in stages.

Only tests that run the mutated statement can notice it. The quickest of them come first, together
with those that have found other mutants of the file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.mutation.mutants import Mutant
from tests.mutation.reached import Reached

PLACES = {
    "distkit": "distkit/**/*.py",
    "script": "distkit/redis/*.lua",
    "oracle/model": "oracle/model/*.py",
    "oracle/check": "oracle/check/**/*.py",
    "oracle/conform": "oracle/conform/*.py",
}
"""The places, by their names."""

NOT_MUTATED = ("distkit/demo.py", "distkit/__main__.py", "distkit/cli/")
"""Pages that only show things."""

RUNS_THE_SCRIPT = "distkit/redis/script.py", 'return (b"EVALSHA"'
"""The file and the line of Python that stand for every line of the script."""

STAGES_S = (5.0, 60.0)
"""The tests of all stages but the last take so many seconds together."""

FINDERS = 8
"""So many tests that found other mutants of the file run first."""


def stages_of(
    mutant: Mutant, tree: Path, reached: Reached, finders: Sequence[str] = ()
) -> list[list[str]]:
    """The tests that look for a mutant, in stages.

    Args:
        mutant: the mutant.
        tree: where its file is.
        reached: which tests run which lines.
        finders: tests that found other mutants of the file, the best first.
    """
    tests = _running(mutant, tree, reached)
    quick = sorted(tests, key=lambda test: (reached.seconds[test], test))
    stages: list[list[str]] = [[]]
    for test in quick:
        if sum(map(reached.seconds.__getitem__, stages[-1])) > _budget(len(stages)):
            stages.append([])
        stages[-1].append(test)
    first = [test for test in finders if test in tests][:FINDERS]
    stages[0] = [*first, *(test for test in stages[0] if test not in first)]
    return stages


def _budget(stages: int) -> float:
    return STAGES_S[stages - 1] if stages <= len(STAGES_S) else float("inf")


def _running(mutant: Mutant, tree: Path, reached: Reached) -> set[str]:
    path, text = mutant.path, (tree / mutant.path).read_text("utf-8")
    if path.endswith(".lua"):
        path, words = RUNS_THE_SCRIPT
        lines = (tree / path).read_text("utf-8").splitlines()
        return reached.of(path, [at for at, line in enumerate(lines, 1) if words in line])
    return reached.of(path, statement_at(text, mutant.line))


def statement_at(text: str, line: int) -> range:
    """The lines of the innermost statement that a line belongs to; of a compound one, its head."""
    found = range(line, line + 1)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt):
            end = node.end_lineno or node.lineno
            body: Iterable[ast.stmt] = getattr(node, "body", ())
            end = min([end, *(max(node.lineno, each.lineno - 1) for each in body)])
            if node.lineno <= line <= end:
                found = range(node.lineno, end + 1)
    return found


def place_of(path: str) -> str:
    """The place to which a file belongs."""
    if path.endswith(".lua"):
        return "script"
    return next(place for place in PLACES if path.startswith(f"{place}/"))
