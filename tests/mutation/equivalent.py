"""Mutants that change nothing that anybody could see. Each was reviewed, and has its reason."""

from __future__ import annotations

from typing import NamedTuple


class Equivalent(NamedTuple):
    """A mutant by its file, its line (without the indentation), the piece and what it becomes; and
    why no test can tell the two apart."""

    path: str
    line: str
    was: str
    becomes: str
    reason: str


EQUIVALENT: tuple[Equivalent, ...] = ()
