"""Systematic histories with faults in the middle of a call: between a lost session and the next one,
while slices are restored, after a rollback, with copies that arrive late."""

from __future__ import annotations

from collections.abc import Iterator

from oracle.conform.matrix import EVERY, LOOKS, SITUATIONS
from oracle.conform.notation import history
from oracle.conform.traces import History

MOST_REQUESTS = 4
"""A call that has lost its session takes four requests: itself, an open, a restore, itself again."""

LEAVING = {**EVERY, "leave": "leave"}


def histories() -> Iterator[History]:
    """All of them, in order."""
    yield from named()
    yield from each_request()


def each_request() -> Iterator[History]:
    """Each request of each call is hit, in each situation."""
    lost = {name: SITUATIONS[name] for name in SITUATIONS if "presumed" in name or "lost" in name}
    usual = {name: SITUATIONS[name] for name in ("it has a slice, and so has another",)}
    for op, call in LEAVING.items():
        for before, text in {**usual, **lost}.items():
            most = MOST_REQUESTS if before in lost else 1
            for number in range(1, most + 1):
                for fault in (
                    f"lost {number}",
                    f"gives up from {number}",
                    f"refused {number}",
                    f"lost {number}] [refused {number}",
                ):
                    yield history(
                        f"{text}; A {call} [{fault}]; {LOOKS}; A inc k 1; B get k",
                        f"{op}, {fault.replace('] [', ' and ')}, when {before}",
                        "R10 R11 R12",
                    )


_NAMED = (
    ("R12", "the session was reported lost, then the open was given up: not executed", """
        A inc k 3; B inc k 1; wait 60000; B get k; A inc k 4 [gives up from 2]; B get k; A get k
    """),
    ("R12", "the session was lost while the call was unanswered, then the open was given up", """
        A inc k 3; empty; A inc k 4 [lost 1] [gives up from 2]; A get k; B get k
    """),
    ("R10 R12", "the open was answered, a restoring request was given up: the session is not kept", """
        A inc k 3; B inc k 1; empty; A inc k 4 [gives up from 3]; B get k; A get j; B get k
    """),
    ("R10 R12", "of three restoring requests the second is given up", """
        A inc k1..k250 1; B inc j 1; empty; A inc k1 4 [gives up from 4]; A heartbeat; B get k250; B get k1
    """),
    ("R12", "the steps are unanswered after coming back", """
        A inc k 3; B inc k 1; empty; A inc k 4 [gives up from 4]; B get k; A get k; B get k
    """),
    ("R11 R12", "the steps are sent again after coming back, and count once", """
        A inc k 3; B inc k 1; empty; A inc k 4 [lost 4]; B get k; A get k
    """),
    ("R12", "a set is sent again after its session was lost with no reply missing", """
        A inc k 3; B inc k 1; empty; A set k 9 [lost 2 3]; B get k; A get k
    """),
    ("R11", "a late copy of a call that was answered executes nothing", """
        A inc k 1; A inc k 2 [copied 1]; A get k; late copy; A get k; B get k; A inc k 1; B get k
    """),
    ("R11", "a late copy executes nothing after its session was closed", """
        A inc k 1; A inc k 2 [copied 1]; B inc k 1; wait 60000; B get k; late copy; B get k; A get k
    """),
    ("R4 R11", "a late copy is no heartbeat", """
        A inc k 1; A inc k 2 [copied 1]; A get k; B get j; wait 20000; late copy; wait 10000; B get k; A get k
    """),
    ("R11 R16", "a late copy of an open after leaving does not bring the slices back", """
        A inc k 1 [copied 1]; B inc k 1; A leave; late copy; B get k; B get k; A inc k 5; B get k
    """),
    ("R11 R16", "a late copy of a leave does not close the next session", """
        A inc k 1; B inc k 1; A leave [copied 2]; A inc k 2; late copy; B get k; A get k
    """),
    ("R10 R11", "a late copy of an open after a false death is not taken for lost writes", """
        A heartbeat [copied 1]; B inc k 1; C get k; wait 60000; C inc k 1; B get k; late copy; A get k; C get k
    """),
    ("R10 R11", "a late copy of an open after another of the same instance", """
        A inc k 5 [copied 1]; B inc k 1; wait 60000; B get k; late copy; B get k; A get k; B get k
    """),
    ("R10", "a rollback of an inc: its memory wins", """
        A inc k 1; B inc k 2; snapshot; A inc k 4; roll back; A get k; B get k; C get k
    """),
    ("R10", "a rollback is found by one instance, and the others restore their slices too", """
        A inc k 1; B inc j 1; snapshot; A inc k 2; B inc j 5; roll back; A get k; B heartbeat; C get j; C get k
    """),
    ("R10", "a rollback that is found with an open", """
        A inc k 1; B inc j 1; snapshot; A inc k 2; B inc j 5; wait 60000; roll back
        A inc k 1; B heartbeat; C get j; C get k
    """),
    ("R10", "a rollback that an instance finds after it had given up while opening", """
        A inc k 1; B inc j 1; snapshot; A inc k 1; B inc j 5; empty; A inc k 2 [gives up from 2]; roll back
        A inc k 1; C get j; B heartbeat; C get j; C get k
    """),
    ("R10", "a rollback takes back a set", """
        A inc k 1; B inc k 2; snapshot; A set k 50; roll back; B get k; A get k; B get k; C get k
    """),
    ("R10 R11", "a rollback before the first reply of a request that is sent again", """
        A inc k 1; B inc j 1; snapshot; A inc k 2 [gives up]; roll back; A inc k 4; B get k; A get k
    """),
    ("R10", "a lost counter comes back when its instances find their session gone", """
        A inc k 1; B inc k 2; A inc j 1; lose k; A get k; wait 60000; C get j; A heartbeat; B heartbeat; C get k
    """),
    ("R10", "a lost counter is restored by the next call of each instance on it", """
        A inc k 1; B inc k 2; lose k; A inc k 4; B get k; A get k
    """),
    ("R10", "a stranger finds a lost counter, and every instance restores its slices", """
        A inc k 1; C inc k 2; lose k; B get k; C get j; B get k; A heartbeat; B get k
    """),
    ("R10 R18", "a heartbeat finds a lost counter", """
        A inc k 1; B inc j 1; lose k; A heartbeat; B get k; A get k
    """),
    ("R10 R18", "heartbeats look at ten counters each, in turn", """
        A inc k01..k25 1; B inc j 1; lose k25; A heartbeat; A heartbeat; A heartbeat; B get k25
        lose k01; A heartbeat; B get k01; lose k15; A heartbeat; A heartbeat; B get k15
    """),
    ("R18", "a counter that is 0 is remembered until the next heartbeat but one", """
        A inc k 5; B inc k 3; A delete k; A heartbeat; empty; A get j; B get k
    """),
    ("R18", "then it is let go", """
        A inc k 5; B inc k 3; A delete k; A heartbeat; A heartbeat; empty; A get j; B get k
    """),
    ("R6 R18", "the epoch of a counter that has vanished is kept", """
        A inc k 5; B set k 7; B delete k; B heartbeat; B heartbeat; A get k; wait 60000; C get k; A get k
        A inc k 1; B get k
    """),
    ("R10 R12", "a session that was refused a restoring request is not kept", """
        A inc k 3; B inc k 1; empty; A inc k 4 [refused 3]; B get k; A get j; B get k
    """),
    ("R12", "an error of Redis instead of a reply: nothing was executed", """
        A inc k 3; A inc k 4 [refused 1]; A get k; A set k 9 [refused 1]; B get k; A inc k 1; B get k
    """),
    ("R12", "an error of Redis on a request that was sent again: it may have been executed", """
        A inc k 3; A inc k 4 [lost 1] [refused 1]; A get k; A set k 9 [lost 1] [refused 1]; B get k; A get k
    """),
    ("R12", "an error of Redis on the open, after the call itself may have been executed", """
        A inc k 3; B inc k 1; empty; A inc k 4 [lost 1] [refused 2]; A get k; B get k
    """),
    ("R12", "an error of Redis on the steps, which had been sent in a session before", """
        A inc k 3; B inc k 1; empty; A inc k 4 [lost 1] [refused 4]; A get k; B get k
    """),
    ("R17", "a later life of the same id starts from nothing", """
        A inc k 5; A inc j 2; B inc k 1; A dies and comes again; A get k; B get k; A inc j 1; B get j
    """),
    ("R11 R17", "eight lives of an id, whose numbers may be in any order", """
        A inc k1..k20 1; A dies and comes again; A inc k 1; A dies and comes again; A inc k 1; A dies and comes again
        A inc k 1; A dies and comes again; A inc k 1; A dies and comes again; A inc k 1; A dies and comes again
        A inc k 1; A dies and comes again; A inc k 1; B get k
    """),
    ("R12", "clear whose outcome is unknown says so", """
        A inc k 1; B inc j 1; empty; A clear [reply lost]; A get k; B get j
    """),
    ("R12", "clear of 150 counters whose first request is unknown sends no second one", """
        A inc k1..k150 1; empty; A clear [lost 1]; B get k150; A get k150; B get k1; A get k1
    """),
    ("R9 R12", "clear_on_instance of 150 counters whose first request is given up", """
        A inc k1..k150 1; B inc k1 1; A clear_on_instance [gives up from 1]; B get k1; B get k100; B get k150; A get k150
    """),
    ("R9 R12", "clear_on_instance of 150 counters whose second request is given up", """
        A inc k1..k150 1; B inc k1 1; A clear_on_instance [gives up from 2]; B get k1; B get k99; B get k150; A get k150
    """),
    ("R16", "a leave of 150 counters whose first request is given up still closes the session", """
        A inc k1..k150 1; B inc k1 1; A leave [gives up from 1]; B get k1; B get k99; B get k150; A get k150
    """),
    ("R16", "a leave of 150 counters whose second request is given up", """
        A inc k1..k150 1; B inc k1 1; A leave [gives up from 2]; B get k1; B get k99; B get k150; A get k150
    """),
    ("R16", "a leave whose closing request is given up", """
        A inc k 1; B inc k 1; A leave [gives up from 2]; B get k; A get k; A inc k 1; B get k
    """),
    ("R16", "a leave without a session forgets the counts", """
        A inc k 5; B inc k 1; empty; A get k [gives up from 2]; A leave; A get k; B get k
    """),
    ("R16", "a leave that finds its session gone does not come back", """
        B inc k 10; A set k 100; B inc j 1; empty; A leave; B get k; A get k
    """),
)  # fmt: skip

_WITHOUT_FAULTS = (
    ("R2 R9", "clear_on_instance meets a refusal: the other slices go, and it fails", """
        A set_on_instance k -max; B set_on_instance k max; C set_on_instance k 5; A inc j 1
        A clear_on_instance; C get k; B get j; A get k; A get j
    """),
    ("R2 R16", "a leave meets a refusal, and leaves all the same", """
        A set_on_instance k -max; B set_on_instance k max; C set_on_instance k 5; A inc j 1
        A leave; B get j; C get k; C set_on_instance k 0; B get k; A get k
    """),
    ("R10 R16", "an instance that has left remembers nothing, not even epochs", """
        B inc k 10; A set k 100; A leave; empty; A get k; B get k
    """),
    ("R2 R10", "a refused step is remembered as it was seen", """
        A inc k 5; B set k max; A inc k 1; B delete k; B inc j 1; empty; A get k; B get k
    """),
    ("R10", "a read of a newer epoch is remembered", """
        A inc k 10; B set k 50; A get k; empty; A get k; B get k
    """),
    ("R10", "a delete is remembered", """
        A inc k 10; A delete k; empty; A get k; A inc k 1; B get k
    """),
    ("R10", "what a restoring request found is remembered", """
        A inc k 10; B inc j 1; wait 60000; B set k 50; A get j; empty; A get k; B get k
    """),
    ("R9 R10", "clear takes what Redis has lost and the caller remembers", """
        A inc k 5; A inc j 1; empty; A clear; A get k; B get j; A get j
    """),
    ("R9", "clear takes a counter that only another instance has", """
        A inc k 5; B inc j 2; A clear; B get j; B get k; A get k
    """),
)  # fmt: skip


def named() -> Iterator[History]:
    """Histories that were thought of one by one."""
    for rules, comment, text in (*_NAMED, *_WITHOUT_FAULTS):
        yield history(text, comment, rules)
