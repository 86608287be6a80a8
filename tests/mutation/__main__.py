"""`make mutate`: plant defects that nobody chose, and see whether the tests find them.

    make mutate                      60 mutants of seed 1
    make mutate MUTANTS=300 SEED=7   more, and others
    python -m tests.mutation --place script

A table says how many were found, by place and by file. The survivors are printed as they would be
written, and kept in `.mutation/survivors.txt`. Those that `equivalent.py` lists are not counted.
The exit status is 1 if any survived.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import Mutant, line_of, sample
from tests.mutation.run import HUNG, KILLED, SURVIVED, Verdict, run_all
from tests.mutation.tests_for import NOT_MUTATED, PLACES, place_of

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".mutation"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--mutants", "number", default=60, show_default=True, help="How many.")
@click.option("--seed", default=1, show_default=True, help="Which ones.")
@click.option("--place", type=click.Choice([*PLACES]), help="Only in this place.")
@click.option("--jobs", default=2, show_default=True, help="How many run at once.")
def main(number: int, seed: int, place: str | None, jobs: int) -> None:
    """Plant mutants, and see whether the tests find them."""
    drawn = draw(number, seed, [place] if place else [*PLACES])
    known = {each[:-1] for each in EQUIVALENT}
    todo = [mutant for mutant in drawn if key_of(mutant) not in known]
    console, verdicts = Console(), list[Verdict]()
    with tempfile.TemporaryDirectory() as folder:
        for verdict in run_all(todo, ROOT, Path(folder), jobs):
            verdicts.append(verdict)
            console.print(f"{verdict.fate:>8}  {verdict.mutant}", markup=False, highlight=False)
    survivors = [verdict.mutant for verdict in verdicts if verdict.fate == SURVIVED]
    _keep(survivors)
    for by in (place_of, lambda path: path):
        console.print(_table(verdicts, by))
    equivalent = len(drawn) - len(todo)
    console.print(f"seed {seed}: {len(drawn)} mutants, {equivalent} of them known to be equivalent")
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


def key_of(mutant: Mutant) -> tuple[str, ...]:
    """What the reviewed list calls it."""
    line = line_of(mutant, (ROOT / mutant.path).read_text("utf-8"))
    return mutant.path, line, mutant.was, mutant.becomes


def _keep(survivors: Sequence[Mutant]) -> None:
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir()
    lines = (
        f"{mutant}\n    {line_of(mutant, (ROOT / mutant.path).read_text('utf-8'))}\n"
        for mutant in survivors
    )
    (KEPT / "survivors.txt").write_text("\n".join(lines), "utf-8")


def _table(verdicts: Sequence[Verdict], by: object) -> Table:
    assert callable(by)
    table = Table("", "mutants", "killed", "of them hung", "survived", "%")
    counts = Counter((by(verdict.mutant.path), verdict.fate) for verdict in verdicts)
    for name in sorted({name for name, _ in counts}):
        killed = counts[name, KILLED] + counts[name, HUNG]
        all_of_it = killed + counts[name, SURVIVED]
        rest = (all_of_it, killed, counts[name, HUNG], counts[name, SURVIVED])
        table.add_row(name, *map(str, rest), f"{100 * killed / all_of_it:.0f}")
    return table


if __name__ == "__main__":
    main()
