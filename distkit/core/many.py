"""Many steps on one counter at once: what `spell` and `transition` do for each, done together.

Callers that count at the same time mostly want the same: a plain `inc` on the same counter. For a
group of those, the results are running sums, which the standard library computes in C. Every other
group is worked out step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, count, islice
from operator import eq
from typing import Any, NamedTuple

from distkit.core.operations import INC, CounterState, Step, View, spell_all, transition
from distkit.keys import LIMIT

_state: Any = partial(tuple.__new__, CounterState)
"""As `CounterState._make`, without a frame of its own."""


class Same(NamedTuple):
    """The same count, so many times."""

    n: int
    times: int


Increments = list[int] | Same


def increments(steps: Sequence[Step], places: Sequence[int]) -> Increments | None:
    """The counts, if all of the steps at these places are plain `inc`s; else None."""
    if len(places) != len(steps):
        steps = [steps[place] for place in places]
    first = steps[0]
    if first.op == INC and first.condition is None and steps.count(first) == len(steps):
        return Same(first.n, len(steps))
    counts = [n for _, op, n, _, condition in steps if op == INC and condition is None]
    return counts if len(counts) == len(steps) else None


def spelled(steps: Sequence[Step], places: Sequence[int], counts: Increments | None) -> str:
    """The steps as the script reads them: as `spell_all` spells them."""
    if isinstance(counts, Same):
        return f"+{counts.n}*{counts.times}" if counts.times > 1 else f"+{counts.n}"
    if counts and not any(map(eq, counts, islice(counts, 1, None))):  # none twice in a row
        return "+" + "+".join(map(str, counts))
    return spell_all(steps[place] for place in places)


def run_together(before: View, counts: Increments) -> tuple[View, list[CounterState]] | None:
    """`transition` of that many plain `inc`s; None if the script might refuse one of them."""
    total, epoch, own = before
    if isinstance(counts, Same):
        n, times = counts
        totals = [*islice(count(total + n, n), times)]
        owns = [*islice(count(own + n, n), times)]
        extremes = (totals[0], totals[-1], owns[0], owns[-1])
    else:
        totals, owns = [*accumulate(counts, initial=total)], [*accumulate(counts, initial=own)]
        del totals[0], owns[0]
        extremes = (max(totals), min(totals), max(owns), min(owns))
    if max(extremes) > LIMIT or min(extremes) < -LIMIT:
        return None
    after = totals[-1], epoch, owns[-1]
    return after, list(map(_state, zip(totals, owns, strict=True)))


def run_each(before: View, steps: Sequence[Step], places: Sequence[int]) -> tuple[View, list[Any]]:
    """`transition` of the steps at these places. The result of one that is refused is None."""
    state = before
    results: list[Any] = []
    for place in places:
        done = transition(state, steps[place])
        if done is None:
            results.append(None)
        else:
            state, result = done
            results.append(result)
    return state, results
