"""Golden traces: spec/vectors/*.jsonl, for ports that check themselves without Python.

There is a file for each rule, one for each defect that was measured in another implementation, and
a few long ones drawn at random, by seed. Every line is a message of spec/PORTS.md with the oracle's
answer in it. A test generates them again and compares. oracle/conform/notation.py explains how they
are written here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from oracle.conform import notation
from oracle.conform.draw import Drawing, draw
from oracle.conform.judge import judge
from oracle.conform.lines import EMPTY, GIVE_UP, LOSE_REPLY, OPERATIONS, Capabilities, Line
from oracle.conform.notation import THRESHOLD_MS
from oracle.conform.traces import History, write_trace

CROWD = 9_000
"""Keys of the instance that dies: more than Lua's stack holds."""


class Vector(NamedTuple):
    """A file: its name, and for each history what it shows and what happens."""

    name: str
    histories: tuple[tuple[str, str], ...]

    @property
    def rules(self) -> str:
        """The rule that the file is about; of a defect, the rules that it breaks."""
        return DEFECT_RULES.get(self.name) or re.sub(r"^R0?(\d+)-.*", r"R\1", self.name)


RULES = (
    Vector("R01-names", (
        ("a key is 1 to 255 bytes of UTF-8 without a colon; what is refused changes nothing", """
            A inc другой 1; A inc {long} 2; A get другой
            A inc a:b 1; A inc {empty} 1; A inc {too_long} 1; A inc {too_long_in_utf8} 1
            B get другой; B get {long}
        """),
    )),
    Vector("R02-range", (
        ("a step that would leave ±(2^53 - 1) is refused and changes nothing", """
            A set k max; A inc k 1; A get k; A dec k 1; B inc k 2; B inc k 1; B get k
            A set j -max; A dec j 1; A get j
        """),
        ("the slice may not leave the range either, where the total would not", """
            A set_on_instance k -max; B set_on_instance k max; B inc k 1; B get k
        """),
        ("a count outside of the range is refused: even rounded it is outside", """
            A inc k 1; A inc k 9007199254740993; A set k -9007199254740993; A get k
        """),
        ("deaths and returns move a total out of the range: what shows it is refused", """
            A set_on_instance k max; wait 60000; B set_on_instance k max; A get other
            B get k; B delete k; B inc k 1; A set_on_instance k -3; B get k; A set k 5; B get k
        """),
    )),
    Vector("R03-time", (
        ("a clock that jumps back costs nothing", """
            A inc k 1; wait -3600000; B inc k 1; wait 29999; B get k; wait 1; B get k; A get k
        """),
        ("time is the sum of the steps forward", """
            A inc k 1; wait 20000; B get k; wait -20000; B get k
            wait 9999; B get k; wait 1; B get k
        """),
        ("a clock that jumps forward looks like silence", """
            A inc k 1; wait 86400000; B get k; A get k
        """),
    )),
    Vector("R04-heartbeats", (
        ("a read is one", """
            A inc k 1; wait 20000; A get k; wait 29999; B get k; wait 1; B get k
        """),
        ("a call on another key is one", """
            A inc k 1; wait 20000; A inc j 1; wait 20000; B get k
        """),
        ("a heartbeat is one", """
            A inc k 1; wait 20000; A heartbeat; wait 29999; B get k; wait 1; B get k
        """),
        ("a retry is one; a call that is refused for its key is not", """
            A inc k 1; wait 20000; A get k [reply lost]; wait 20000; B get k
            A get a:b; wait 10000; B get k
        """),
    )),
    Vector("R05-death", (
        ("dead at the threshold, and not 1 ms before", """
            A inc k 1; wait 29999; B get k; wait 1; B get k
        """),
        ("nobody is dead to itself", """
            A inc k 7; wait 86400000; A get k
        """),
        ("who dies is counted until the threshold", """
            A inc k 3; B inc k 4; A dies; B get k; wait 29999; B get k; wait 1; B get k
        """),
        ("the same without the edge, for real time", """
            A inc k 3; B inc k 4; A dies; wait 15000; B get k; wait 60000; B get k
        """),
        ("the oldest heartbeat decides, though another one is fresh", """
            A inc k 1; B inc k 2; wait 15000; B get k; C inc k 4; wait 15000; C get k
            wait 15000; C get k
        """),
    )),
    Vector("R06-epochs", (
        ("set makes every other slice stale, and its owner starts again from 0", """
            A inc k 10; B inc k 20; C set k 5; A inc k 1; B dec k 1; C get k
        """),
        ("so does delete", """
            A inc k 10; B delete k; A get k; A inc k 1; B get k
        """),
    )),
    Vector("R07-total", (
        ("the total is the sum of the slices, negative ones too", """
            A inc k 5; B dec k 7; C inc k 1; A get k; B get k; C get k
            B delete_on_instance k; C get k
        """),
        ("exactly: no intermediate sum may round", """
            A set_on_instance k max; B set_on_instance k -max; C inc k 1; A get k
            B delete_on_instance k; A dec k 2; B get k
        """),
    )),
    Vector("R08-removal", (
        ("an owner that was reaped on one key learns of it on any other", """
            A inc k 1; A inc j 2; wait 60000; B get k; A get j; B get k
        """),
        ("a dead slice that was stale takes nothing from the total", """
            A inc k 10; B set k 100; B get k; wait 60000; B get k
        """),
    )),
    Vector("R09-steps", (
        ("what each step returns", """
            A inc k 5; A dec k 2; A get k; A set_on_instance k 10; B inc k 1; A set k 100
            A delete_on_instance k; A inc k 3; B inc k 4; A delete k; B get k; A get k
        """),
        ("clear_on_instance takes the caller's slices, clear everybody's", """
            A inc k 1; A inc j 2; B inc k 3; A clear_on_instance; B get k; B get j
            A inc j 5; B clear; A get j; A get k; B get k
        """),
        ("clear works on a total out of the range, for it sets", """
            A set_on_instance k max; wait 60000; B set_on_instance k max; A get other
            A get k; B clear; A get k
        """),
    )),
    Vector("R10-returns", (
        ("a slice comes back as it was after a false death", """
            A inc k 10; B inc k 1; wait 60000; B get k; A inc k 1; B get k
        """),
        ("unless the epoch has moved on", """
            A inc k 10; wait 60000; B set k 50; A get k; A inc k 1
        """),
        ("one call, on any key, puts back every slice", """
            A inc k 1; A inc j 2; B inc k 10; empty; A get other; B heartbeat; C get k; C get j
        """),
        ("an epoch that Redis has lost comes back with the slice", """
            A inc k 10; B set k 100; empty; B get k; A get k
        """),
        ("an older slice that comes back first yields to the newer epoch", """
            A inc k 10; B set k 100; empty; A get k; B get k; A get k
        """),
    )),
    Vector("R11-once", (
        ("a lost reply is asked for again, and nothing counts twice", """
            A heartbeat; A inc k 1 [reply lost]; A inc k 1; A set k 5 [reply lost]
            A set_on_instance k 7 [reply lost]; A delete_on_instance k [reply lost]
            A inc k 2 [reply lost]; A delete k [reply lost]; B inc k 1 [reply lost]; B get k
        """),
        ("the retry gets the first reply, a refusal too", """
            A set k max; A inc k 1 [reply lost]; A get k; A delete k [reply lost]; A get k
        """),
    )),
    Vector("R12-unknown", (
        ("set, its session lost and its reply too: unknown; the next call works", """
            A inc k 3; empty; A set k 5 [reply lost]; A get k; A inc k 1
        """),
        ("the same for delete, after a false death", """
            A inc k 3; wait 60000; B get k; A delete k [reply lost]; A get k; B get k
        """),
        ("a step on the caller's own slice is applied again, which is exact", """
            A inc k 3; empty; A inc k 4 [reply lost]; B get k
            empty; A set_on_instance k 9 [reply lost]; A get k
        """),
    )),
    Vector("R12-given-up", (
        ("a call that is given up was executed, once, and never will be again", """
            A heartbeat; A inc k 5 [gives up]; B get k; A get k; A set k 7 [gives up]; A get k
            A get k [gives up]; A heartbeat [gives up]; A get k
        """),
        ("its own session was not opened yet: not executed", """
            A inc k 5 [gives up]; A get k; B get k
        """),
        ("what it did is forgotten with the session, on every key", """
            A inc j 1; A inc k 5 [gives up]; wait 60000; B get j; B get k; A get k; B get k
        """),
        ("likewise where nobody has touched the key: the owner's memory wins", """
            A inc j 1; A inc k 5 [gives up]; wait 60000; B get j; A get k; B get k
        """),
        ("clearing an instance takes what it does not know of too", """
            A heartbeat; A inc k 5 [gives up]; A clear_on_instance; B get k
        """),
    )),
    Vector("R13-laziness", (
        ("whether a dead slice was removed cannot be told", """
            A inc k 1; A inc j 2; wait 60000; B get k; A get other; C get j; C get k
        """),
        ("who was missed by nobody just goes on", """
            A inc k 1; wait 86400000; A get other; B get k
        """),
    )),
    Vector("R14-opening", (
        ("an open closes the sessions of the dead, and hides it", """
            A get k; B inc k 1; wait 60000; C get j; A get j; B inc k 2; C get k
        """),
    )),
    Vector("R15-conditions", (
        ("a step runs if its condition holds; the answer is the state after and before", """
            A inc_if k eq 0 5; B inc_if k gt 4 2; B inc_if k gt 7 1; B inc_if k lt 7 1
            B inc_if k ne 7 1; A inc_if k ne 0 -1; C get k
        """),
        ("inc and set look at the total, set_on_instance at the slice", """
            A inc k 5; B set_on_instance_if k eq 5 3; B set_on_instance_if k eq 0 3
            B set_if k lt 8 1; B set_if k eq 8 1; A get k
        """),
        ("a limit is never passed, and a crash leaks nothing", """
            A inc_if k lt 2 1; B inc_if k lt 2 1; C inc_if k lt 2 1; A dies; wait 60000
            C inc_if k lt 2 1; B inc_if k lt 2 1; C get k
        """),
        ("at the edges of the range", """
            A set_if k lt max max; A inc_if k eq max 1; A inc_if k lt max 1
            B inc_if k gt 9007199254740990 -max; B inc_if k gt -max -1; A get k
        """),
        ("applied says whether the condition held, also where nothing changed", """
            A set k 5; A set_if k eq 5 5; A set_if k eq 6 5; A inc_if k gt 0 0; B inc_if k gt 5 0
            A set_on_instance_if k eq 5 5; A set_on_instance_if k ne 5 5
        """),
        ("always: no condition, and the answer of one", """
            A inc_if k always 5; B set_on_instance_if k always -2; B set_if k always 7; A get k
        """),
        ("always is refused as any condition is where the total before is out of range", """
            A set_on_instance k max; wait 60000; B set_on_instance k max; A get other
            B inc_if k always -5; B set_if k always 1; B set k 1; A inc_if k always 1
        """),
        ("a retry gets the first answer", """
            A heartbeat; A inc_if k eq 0 1 [reply lost]; A inc_if k eq 0 1 [reply lost]; A get k
        """),
    )),
    Vector("R16-leaving", (
        ("who leaves takes its slices along, and may come back with nothing", """
            A inc k 5; A inc j 1; B inc k 2; A leave; B get k; B get j; A get k; A inc k 1; B get k
        """),
        ("a lost reply does no harm", """
            A inc k 5; B inc k 2; A leave [reply lost]; B get k; A leave; A get k
        """),
    )),
    Vector("R17-lives", (
        ("a later life of an id starts from nothing", """
            A inc k 5; A inc j 2; B inc k 1; A dies and comes again; A get k; B get k; B get j
            A inc k 2; B get k
        """),
        ("also where its session was closed long ago", """
            A inc k 5; B inc k 1; wait 60000; B heartbeat; A dies and comes again; A get k; B get k
        """),
        ("several lives", """
            A inc k 1; A dies and comes again; A inc k 2; A dies and comes again; A dec k 4; B get k
        """),
    )),
    Vector("R18-vanishing", (
        ("a counter that has lost its last slice starts anew", """
            A inc k 5; wait 60000; B get k; B inc k 1; wait 60000; C get k; C inc k 2; B get k
        """),
        ("unless a set or delete has started an epoch: what was before that stays gone", """
            A inc k 5; B set k 7; B delete k; B heartbeat; B heartbeat; C get k; A get k; A inc k 1
            C get k
        """),
        ("what is 0 may be let go, and used again", """
            A inc k 1; A dec k 1; A heartbeat; A heartbeat; A heartbeat; B get k; A inc k 2; B get k
        """),
        ("a read makes no counter: clear takes what is there", """
            A get k; B inc j 1; A clear; B get j; B inc k 1; A get k
        """),
    )),
)  # fmt: skip

DEFECTS = (
    Vector("defect-1-dead-stale-slice", (
        ("A's slice was stale when A died, and takes nothing from the total: not (90, 100)", """
            A inc k 10; B set k 100; A dies; wait 60000; B get k
        """),
    )),
    Vector("defect-2-read-revives", (
        ("a read does not bring a stale slice into the new epoch: not (100, 10), (101, 11)", """
            A inc k 10; B set k 100; A get k; A inc k 1
        """),
    )),
    Vector("defect-3-negative-slice", (
        ("a negative slice comes back as well: not (1, 0)", """
            A dec k 5; B inc k 1; wait 60000; B get k; A get k
        """),
    )),
    Vector("defect-4-beyond-2-to-53", (
        ("counts beyond 2^53 - 1 are refused, not rounded: not twice 9007199254740992", """
            A set k 9007199254740993; A get k; A set k max; A inc k 1; A get k
        """),
    )),
)  # fmt: skip

DEFECT_RULES = {
    "defect-1-dead-stale-slice": "R8",
    "defect-2-read-revives": "R6 R9",
    "defect-3-negative-slice": "R10",
    "defect-4-beyond-2-to-53": "R2",
}


def write(folder: Path) -> list[Path]:
    """Write every golden trace into `folder`, and return their paths."""
    written = []
    for name, histories in traces().items():
        path = folder / f"{name}.jsonl"
        write_trace(path, [(history, answered(history)) for history in histories])
        written.append(path)
    return written


def traces() -> dict[str, list[History]]:
    """Every trace by the name of its file."""
    made = {
        vector.name: [
            notation.history(text, comment, vector.rules) for comment, text in vector.histories
        ]
        for vector in (*RULES, *DEFECTS)
    }
    made["defect-5-crowd"] = [_crowd()]
    for seed, (name, faults) in enumerate(RANDOM.items(), 1):
        made[name] = [_random(seed, faults)]
    return made


def answered(history: History) -> Iterator[Line]:
    """The lines of a history, each with the right answer in it."""
    for line, answer in zip(history.lines, judge(history), strict=True):
        yield {**line, "answer": answer}


def _crowd() -> History:
    """One dead instance with more keys than fit on Lua's stack. Another instance looks before and
    after it comes back: what its own call restores, it cannot tell from what was there."""
    calls = f"A inc k1..k{CROWD} 1"
    looks = f"B get k1; B get k101; B get k{CROWD}"
    text = f"{calls}; wait {2 * THRESHOLD_MS}; {looks}; A heartbeat; {looks}; A get k{CROWD}"
    comment = f"{CROWD} keys and one dead instance: every call works, and all of it comes back"
    return notation.history(text, comment, "R8 R10")


# --- At random -----------------------------------------------------------------------------------

RANDOM = {"random-1-plain": False, "random-2-plain": False, "random-3-faults": True}
"""Whether replies are lost and Redis is emptied; the number in the name is the seed."""
RANDOM_LINES = 200


def _random(seed: int, faults: bool) -> History:
    """A long history."""
    old = frozenset((LOSE_REPLY, GIVE_UP, EMPTY)) if faults else frozenset()
    anything = Capabilities("", True, True, frozenset(OPERATIONS), old)
    drawing = Drawing("random", seed, RANDOM_LINES, THRESHOLD_MS)
    drawn = (draw(drawing, number, anything).history for number in itertools.count())
    long = next(history for history in drawn if len(history.lines) == RANDOM_LINES)
    what = "with lost replies and losses" if faults else "without faults"
    return long._replace(comment=f"drawn at random, seed {seed}, {what}")
