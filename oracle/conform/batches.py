"""Systematic histories with batches, and with several callers of one instance at the same time."""

from __future__ import annotations

from collections.abc import Iterator

from oracle.conform.matrix import SITUATIONS
from oracle.conform.notation import history
from oracle.conform.traces import History

_NAMED = (
    ("R9", "the steps of a batch run in order, also on one key", """
        A batch (inc k 1, set k 10, inc k 2, get k, inc j 1, delete k, inc k 3); B get k; B get j
    """),
    ("R9", "answers come in the order of the steps, not of the keys", """
        A batch (inc k 1, inc j 20, inc k 300, inc j 4000, get k, get j); B get k; B get j
    """),
    ("R9 R15", "the condition of a step sees the steps before it", """
        A batch (inc_if k eq 0 1, inc_if k eq 0 1, inc_if k eq 1 1, set_if k always 5, get k); B get k
    """),
    ("R2", "a refused step does not stop the steps after it", """
        A batch (inc k 1, set j max, inc j 1, inc k 1, inc j -1, get j); B get k; B get j
    """),
    ("R1 R2", "a bad step keeps the whole batch from being sent", """
        A inc k 1; A batch (inc k 1, inc a:b 1); B get k; A batch (inc k 1, set k 9007199254740992); B get k
        A batch (inc k 9007199254740992, inc a:b 1); A batch (inc a:b 1, inc k 9007199254740992); B get k
    """),
    ("R9", "a batch of 150 counters takes two requests", """
        A batch (inc k1..k150 1); B get k1; B get k100; B get k101; B get k150
    """),
    ("R9 R12", "a batch of 600 steps on 100 counters takes two requests, of which the second is given up", f"""
        A heartbeat; A batch ({', '.join(["inc k1..k100 1"] * 6)}) [gives up from 2]; B get k12; B get k13
        A get k13; A get k100
    """),
    ("R9", "a batch of one step, and of none", """
        A batch (inc k 1); B get k
    """),
    ("R11", "a batch whose reply was lost counts once", """
        A heartbeat; A batch (inc k 1, set j 5, inc j 1) [reply lost]; B get k; B get j; A get k
    """),
    ("R12", "of a batch whose session was lost, set and delete are unknown, the others count", """
        A inc k 1; B inc j 1; empty; A batch (inc k 2, set j 5, inc j 1, delete i, get k) [reply lost]
        A get k; A get j; B get j; B get k
    """),
    ("R12", "a batch that is given up is unknown as a whole", """
        A heartbeat; A batch (inc k 1, get j, set i 2) [gives up]; A get k; A get i; B get k
    """),
    ("R9 R13", "callers at the same time get each their own result", """
        A inc k 1; A together (inc k 1, inc k 10, inc k 100, inc k 1000); B get k; A get k
    """),
    ("R9 R13", "callers at the same time on several keys", """
        A together (inc k 1, inc j 10, get k, inc k 100); A together (dec j 2, get j, inc i 7, inc k 1000)
        B get k; B get j; B get i
    """),
    ("R9 R10", "callers at the same time, after everything was lost", """
        A inc k 5; B inc k 1; empty; A together (inc k 1, inc k 10, inc j 100); B get k; B get j; A get k
    """),
    ("R11", "callers at the same time whose first reply is lost", """
        A inc k 5; A together (inc k 1, inc k 10, inc j 100) [reply lost]; B get k; B get j; A get k
    """),
)  # fmt: skip


def histories() -> Iterator[History]:
    """All of them, in order."""
    for rules, comment, text in _NAMED:
        yield history(text, comment, rules)
    for before, text in SITUATIONS.items():
        yield history(
            f"{text}; A batch (inc k 1, get j, set_on_instance k 4, inc j 2, set k 9, dec k 2)"
            "; B get k; C get j; A get k",
            f"a batch, when {before}",
            "R9 R10",
        )
        yield history(
            f"{text}; A together (inc k 1, inc k 10, get j, inc j 100); B get k; C get j; A get k",
            f"callers at the same time, when {before}",
            "R9 R10",
        )
