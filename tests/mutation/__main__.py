"""`make mutate`: plant defects that nobody chose, and see whether the tests find them.

    make mutate                      60 mutants of seed 1
    make mutate MUTANTS=300 SEED=7   more, and others
    python -m tests.mutation --place script
    python -m tests.mutation --resume   after an interrupt, or when the survivors have a test

A table says how many were found, by place and by file. The survivors are named, and their
diffs are in `.mutation/survivors.txt`. Those that `equivalent.py` lists are not run; the share of
the killed leaves them out.
The exit status is 1 if any survived.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import unified_diff
from functools import lru_cache
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tests.mutation import reached
from tests.mutation.equivalent import EQUIVALENT, Equivalent
from tests.mutation.mutants import Mutant, line_of, mutants_of, sample
from tests.mutation.reached import Reached
from tests.mutation.run import ALIVE, HUNG, KILLED, SURVIVED, Runner, Verdict, copy
from tests.mutation.tests_for import NOT_MUTATED, PLACES, place_of

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".mutation"
BOOK = KEPT / "verdicts.jsonl"
"""What is known of each mutant, a line for each stage."""
EQUIVALENT_ONE = "equivalent"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--mutants", "number", default=60, show_default=True, help="How many.")
@click.option("--seed", default=1, show_default=True, help="Which ones.")
@click.option("--place", type=click.Choice([*PLACES]), help="Only in this place.")
@click.option("--jobs", default=2, show_default=True, help="How many run at once.")
@click.option("--resume", is_flag=True, help="Run only those that the last run did not kill.")
def main(number: int, seed: int, place: str | None, jobs: int, resume: bool) -> None:
    """Plant mutants, and see whether the tests find them."""
    drawn = draw(number, seed, [place] if place else [*PLACES])
    equivalent = {each.key for each in EQUIVALENT}
    todo = [mutant for mutant in drawn if key_of(mutant) not in equivalent]
    if not resume:
        shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(exist_ok=True)
    console, known = Console(), begun(todo, BOOK)
    tests = _reached(jobs, resume)
    with tempfile.TemporaryDirectory() as folder, BOOK.open("a", encoding="utf-8") as book:
        for verdict in Runner(ROOT, Path(folder), jobs, tests).run([*known.values()]):
            known[verdict.mutant] = verdict
            print(json.dumps(verdict), file=book, flush=True)
            if verdict.fate != ALIVE:
                console.print(said_of(verdict), markup=False, highlight=False, soft_wrap=True)
    verdicts = [*known.values()]
    survivors = [verdict.mutant for verdict in verdicts if verdict.fate == SURVIVED]
    (KEPT / "survivors.txt").write_text("\n".join(map(diff_of, survivors)), "utf-8")
    verdicts += [Verdict(mutant, EQUIVALENT_ONE) for mutant in drawn if mutant not in todo]
    for by in (place_of, lambda path: path):
        console.print(table_of(verdicts, by))
    for each in gone(EQUIVALENT):
        console.print(f"gone from the reviewed list: {each}", markup=False)
    console.print(f"seed {seed}: {len(drawn)} mutants")
    sys.exit(1 if survivors else 0)


def draw(number: int, seed: int, places: Sequence[str]) -> list[Mutant]:
    """So many mutants in all, as many from each place."""
    found: list[Mutant] = []
    for at, place in enumerate(places):
        share = number // len(places) + (at < number % len(places))
        files = [
            file
            for file in ROOT.glob(PLACES[place])
            if not file.relative_to(ROOT).as_posix().startswith(NOT_MUTATED)
        ]
        found += sample(files, ROOT, share, seed)
    return found


def key_of(mutant: Mutant) -> tuple[str, str, str, str, int]:
    """What the reviewed list calls it: its file, its line, the piece and what it becomes; and which
    of the mutants that are alike in all of these it is, counted from 1."""
    return _keys(mutant.path)[mutant]


@lru_cache
def _keys(path: str) -> dict[Mutant, tuple[str, str, str, str, int]]:
    text, alike = (ROOT / path).read_text("utf-8"), Counter[tuple[str, str, str]]()
    keys = {}
    for mutant in mutants_of(path, text):
        name = line_of(mutant, text), mutant.was, mutant.becomes
        alike[name] += 1
        keys[mutant] = (path, *name, alike[name])
    return keys


def gone(listed: Sequence[Equivalent]) -> list[str]:
    """Those of the reviewed list that are no mutants any more."""
    stale = []
    for each in listed:
        there = (ROOT / each.path).exists()
        if not there or each.key not in _keys(each.path).values():
            stale.append(f"{each.path}: {each.line}")
    return stale


def said_of(verdict: Verdict) -> str:
    """A line: what became of it, how long that took, and the test that failed."""
    return f"{verdict.fate:>8}  {verdict.seconds:4.0f} s  {verdict.mutant}  {verdict.by}"


def _reached(jobs: int, resume: bool) -> Reached:
    """Which tests run which lines: recorded in a copy that stays, so that its files keep names."""
    tree, record = KEPT / "tree", KEPT / "record"
    if resume and record.exists():
        return reached.read(tree, record).knowing(reached.collect(ROOT))
    reached.record(copy(ROOT, tree), record, jobs)
    return reached.read(tree, record)


def begun(mutants: Sequence[Mutant], book: Path) -> dict[Mutant, Verdict]:
    """What a book says of these mutants. A survivor begins again: there may be a new test."""
    known = {mutant: Verdict(mutant) for mutant in mutants}
    for line in book.read_text("utf-8").splitlines() if book.exists() else ():
        mutant, *rest = json.loads(line)
        verdict = Verdict(Mutant(*mutant), *rest)
        if verdict.mutant in known:
            survived = verdict.fate == SURVIVED
            known[verdict.mutant] = Verdict(verdict.mutant) if survived else verdict
    return known


def diff_of(mutant: Mutant) -> str:
    """What it changes, as `git apply` would take it."""
    text = (ROOT / mutant.path).read_text("utf-8")
    before, after = text.splitlines(keepends=True), mutant.apply(text).splitlines(keepends=True)
    return "".join(unified_diff(before, after, f"a/{mutant.path}", f"b/{mutant.path}"))


def table_of(verdicts: Sequence[Verdict], by: Callable[[str], str]) -> Table:
    """How many there were and what became of them, by what `by` makes of the file's path."""
    table = Table("", "mutants", "killed", "of them hung", "survived", "equivalent", "%")
    counts = Counter((by(verdict.mutant.path), verdict.fate) for verdict in verdicts)
    for name in sorted({name for name, _ in counts}):
        hung, survived, equal = (counts[name, fate] for fate in (HUNG, SURVIVED, EQUIVALENT_ONE))
        killed = counts[name, KILLED] + hung
        share = f"{100 * killed / (killed + survived):.0f}" if killed + survived else ""
        row = (killed + survived + equal, killed, hung, survived, equal)
        table.add_row(name, *map(str, row), share)
    return table


if __name__ == "__main__":
    main()
