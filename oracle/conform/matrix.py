"""Systematic histories: each operation, condition and error in each situation, at its edges.

What random histories find sooner or later, these find at once and always. They are written in
oracle/conform/notation.py's short form; `K` and `K*` in the texts stand for what the loops put there.
"""

from __future__ import annotations

from collections.abc import Iterator

from oracle.conform.notation import history
from oracle.conform.traces import History
from oracle.model import CONDITIONAL, RELATIONS

SINGLE = {
    "get": "get k",
    "inc": "inc k 2",
    "dec": "dec k 2",
    "set": "set k 7",
    "set_on_instance": "set_on_instance k -4",
    "delete": "delete k",
    "delete_on_instance": "delete_on_instance k",
    "inc_if": "inc_if k lt 100 2",
    "set_if": "set_if k lt 100 7",
    "set_on_instance_if": "set_on_instance_if k lt 100 -4",
}
"""A call of each operation on a key."""

ALONE = ("heartbeat", "clear_on_instance", "clear")
EVERY = {**SINGLE, **{op: op for op in ALONE}}
LOOKS = "A get k; B get k; C get k; B get j"

SITUATIONS = {
    "nobody was there before": "",
    "it has a slice, and so has another": "A inc k 5; B inc k 3",
    "its slice is negative": "A dec k 5; B inc k 3; A inc j 1",
    "its slice is stale": "A inc k 5; B inc j 1; B set k 10",
    "it was presumed dead": "A inc k 5; A inc j -2; wait 60000; B inc k 3; B inc j 1",
    "it was presumed dead, and the epoch has moved on": "A inc k 5; wait 60000; B set k 10",
    "everything was lost": "A inc k 5; A inc j -2; B inc k 3; empty",
    "everything was lost after a set": "B inc k 3; A set k 5; A inc j 1; empty",
    "it has a session and no slice": "A get other; B inc k 3",
    "it was given up while opening": "B inc k 3; A inc k 5 [gives up]",
}
"""What was before the call."""

HUNDREDS = (99, 100, 101, 250)
"""How many counters an instance remembers: a request carries 100."""


def histories() -> Iterator[History]:
    """All of them, in order."""
    yield from conditions()
    yield from names()
    yield from numbers()
    yield from precedence()
    yield from operations()
    yield from heartbeats()
    yield from unanswered()
    yield from many_counters()


def conditions() -> Iterator[History]:
    """R15: each condition on each operation, 1 below the number, at it, and 1 above."""
    for op in CONDITIONAL:
        for relation in RELATIONS:
            for total, mine in ((3, 1), (-3, -1), (0, 0)):
                subject = mine if op == "set_on_instance" else total
                there = f"A inc {{0}} {mine}; B inc {{0}} {total - mine}"
                calls = [
                    f"{there}; A {op}_if {{0}} {relation} {subject + off} 5; B get {{0}}".format(
                        key
                    )
                    for key, off in (("k", -1), ("j", 0), ("i", 1))
                ]
                what = "slice" if op == "set_on_instance" else "total"
                comment = (
                    f"{op}_if {relation}: the {what} is {subject}, compared with 1 less to 1 more"
                )
                yield history("; ".join(calls), comment, "R15")
        yield history(
            f"A inc k 3; B inc k 2; A {op}_if k always 4; C {op}_if k always -1; B get k",
            f"{op}_if always",
            "R15",
        )


def names() -> Iterator[History]:
    """R1: keys at the edges of what is allowed, for each operation."""
    for op, call in SINGLE.items():
        for key, what in (
            ("{long}", "255 bytes"),
            ("{too_long}", "256 bytes"),
            ("{too_long_in_utf8}", "256 bytes in 128 characters"),
            ("{empty}", "no byte"),
            ("a:b", "a colon"),
            (":", "nothing but a colon"),
        ):
            named = call.replace(" k", f" {key}", 1)
            yield history(f"A inc k 1; A {named}; B get k", f"{op} on a key of {what}", "R1")


def numbers() -> Iterator[History]:
    """R2: counts and totals at the ends of the range, for each operation that has a count."""
    for sign, far in (("", "9007199254740992"), ("-", "-9007199254740992")):
        end = f"{sign}max"
        for op, call in SINGLE.items():
            fields = call.split()
            if op == "dec" or fields[-1] == "k":
                continue
            start = " ".join(fields[:-1])
            yield history(
                f"A {start} {end}; B get k; A {start} {far}; B get k",
                f"{op} of {end}, and of 1 beyond it",
                "R2",
            )
        one = f"{sign}1"
        yield history(
            f"A set k {end}; A inc k {one}; B inc k {one}; B dec k {one}; B inc k {one}; A get k",
            f"inc at a total of {end}",
            "R2",
        )
        yield history(
            f"A dec k {far}; A dec k {end}; B get k; B dec k {one}; B get k", "dec at its end", "R2"
        )
        yield history(
            f"A set_on_instance k {end}; A inc_if k ne 0 {one}; A inc_if k eq {end} {one}; B get k",
            "a conditional inc beyond the range",
            "R2 R15",
        )
        yield history(
            f"A inc_if k lt {far} 1; A set_if k ne {far} 1; A set_on_instance_if k gt {far} 1; B get k",
            "an operand out of range is refused",
            "R2 R15",
        )
        # Three at the end of the range: no double holds the sum of their slices.
        three = f"set_on_instance k {end}"
        other = "-max" if end == "max" else "max"
        yield history(
            f"A {three}; wait 60000; B {three}; wait 60000; C {three}; A get j; B get j"
            f"; C get k; C inc k {one}; C delete k; C inc_if k ne 0 0; C delete_on_instance k"
            f"; C set_on_instance k {other}; B get k; B inc k -{one}; A get k".replace("--", ""),
            "a total of three times the range, and back",
            "R2 R7 R10",
        )
        five = "; ".join(f"{name} {three}; wait 60000" for name in "ABCDE")
        back = "; ".join(f"{name} get j" for name in "ABCD")
        gone = "; ".join(
            f"{name} set_on_instance k {name_}"
            for name, name_ in zip("ABCD", (f"{sign}3", "0", f"{sign}5", f"{sign}2"), strict=True)
        )
        yield history(
            f"{five}; {back}; E get k; {gone}; E get k; E set_on_instance k {sign}4; A get k",
            "a total of five times the range, and back",
            "R2 R7 R10",
        )


def precedence() -> Iterator[History]:
    """R1, R2: which error wins; and what is refused here sends nothing, so that it is no heartbeat."""
    for call in (
        "inc a:b 9007199254740992",
        "set {empty} -9007199254740992",
        "set_on_instance a:b 9007199254740992",
        "inc_if a:b lt 5 9007199254740992",
        "set_if a:b eq 0 9007199254740992",
    ):
        op = call.split()[0]
        yield history(f"A {call}; A get k", f"{op}: of a bad key and a bad count, the key", "R1 R2")
    for call, what in (("inc a:b 1", "key"), ("set k 9007199254740992", "count")):
        yield history(
            f"A inc k 1; wait 20000; A {call}; wait 10000; B get k; A get k",
            f"a call that is refused for its {what} is no heartbeat",
            "R1 R2 R4",
        )


def operations() -> Iterator[History]:
    """R6 to R10: each operation in each situation, seen by the caller and by others."""
    for op, call in EVERY.items():
        for before, text in SITUATIONS.items():
            yield history(f"{text}; A {call}; {LOOKS}", f"{op}, when {before}", "R6 R7 R8 R9 R10")
    for before, text in SITUATIONS.items():
        for after in (
            "B get k; C get j; A get k; B get k",
            "A inc k 1; B get k",
            "empty; A get k; B get k",
        ):
            yield history(f"{text}; A leave; {after}", f"leave, when {before}", "R16")


def heartbeats() -> Iterator[History]:
    """R4, R5: each operation is a heartbeat, for the threshold to the millisecond."""
    for op, call in EVERY.items():
        call = call.replace(" k", " other", 1)
        yield history(
            f"A inc k 1; B get j; wait 20000; A {call}; wait 29999; B heartbeat; C inc k 2"
            "; wait 1; C get k",
            f"{op} is a heartbeat",
            "R4 R5",
        )


def unanswered() -> Iterator[History]:
    """R11, R12: each operation whose reply is lost, and each that is given up."""
    for fault in ("reply lost", "gives up"):
        for op, call in {**EVERY, "leave": "leave"}.items():
            for before, text in SITUATIONS.items():
                yield history(
                    f"{text}; A {call} [{fault}]; {LOOKS}; A inc k 1; B get k",
                    f"{op}, {fault}, when {before}",
                    "R11 R12",
                )


def many_counters() -> Iterator[History]:
    """R9, R10, R16: as many counters as fit into a request, one more, one less, and many."""
    for many in HUNDREDS:
        made = f"A inc k1..k{many} 1; B inc k1 1"
        seen = "; ".join(f"B get k{n}" for n in sorted({1, 2, 99, min(100, many), many}))
        for name, rules, text in (
            (
                "restored",
                "R10",
                f"{made}; wait 60000; B get k1; B get k{many}; A heartbeat; {seen}",
            ),
            ("restored after a loss", "R10", f"{made}; empty; A heartbeat; {seen}"),
            ("cleared", "R9", f"{made}; B clear; A get k{many}; {seen}"),
            ("cleared after a loss", "R9 R10", f"{made}; empty; A clear; {seen}; A get k{many}"),
            ("of the instance cleared", "R9", f"{made}; A clear_on_instance; {seen}"),
            (
                "left",
                "R16",
                f"{made}; A leave; {seen}; A get k{many}; A inc k{many} 1; B get k{many}",
            ),
        ):
            yield history(text, f"{many} counters {name}", rules)
