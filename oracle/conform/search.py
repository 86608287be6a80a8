"""Play histories on a port until one fails, and make that one short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from oracle.conform import notation
from oracle.conform.lines import Line
from oracle.conform.play import Differs, TooNear, cannot_play, play
from oracle.conform.process import Broke, Port
from oracle.conform.shrink import shrink
from oracle.conform.traces import History, without_answers


class Failure(NamedTuple):
    """A history that failed.

    Attributes:
        history: as short as it could be made, up to the line that failed.
        error: what went wrong there.
        found_in: the comment of the history that failed first.
        unsteady: it did not fail a second time.
    """

    history: History
    error: Differs | Broke
    found_in: str = ""
    unsteady: bool = False

    @property
    def size(self) -> int:
        """How many steps the history has, as it is written: a call on many keys is one."""
        return len(notation.rows(self.history.lines))


Progress = Callable[[Failure], None]
"""Told of each shorter history that fails."""


def try_history(history: History, port: Port, right: Sequence[Line] | None = None) -> int | Failure:
    """Play a history: the number of its steps, or how it failed. `right` are the right answers, if
    they are known already.

    Raises:
        TooNear: real time was too near the threshold each time.
    """
    try:
        return len(play(history, port, right))
    except (Differs, Broke) as error:
        failing = without_answers(_failing_part(history, error))
        return Failure(failing, error, history.comment)


def _failing_part(history: History, error: Differs | Broke) -> History:
    """The history up to the wrong answer; all of it if the port broke."""
    return history if isinstance(error, Broke) else error.history


def shortest(failure: Failure, port: Port, progress: Progress = lambda _: None) -> Failure:
    """Shrink what failed, unless the port hangs: each attempt would take the time limit."""
    if isinstance(failure.error, Broke) and failure.error.hung:
        return failure
    best = failure

    def fails(history: History) -> History | None:
        nonlocal best
        if isinstance(failure.error, Broke):
            port.end()  # it is to break on this history, not on those before it
        if cannot_play(history, port.capabilities):
            return None
        try:
            tried = try_history(history, port)
        except TooNear:
            return None
        if isinstance(tried, int) or type(tried.error) is not type(failure.error):
            return None
        if isinstance(tried.error, Broke) and tried.error.hung:
            return None
        best = failure._replace(history=tried.history, error=tried.error)
        progress(best)
        return best.history

    if fails(failure.history) is None:
        return failure._replace(unsteady=True)
    shrink(best.history, fails)
    return best
