"""The named histories: every rule has some. `histories.py` says how they are written."""

from __future__ import annotations

from tests.equivalence.histories import Scenario, play
from tests.equivalence.losses import LOSSES

__all__ = ["SCENARIOS", "Scenario", "play"]

SCENARIOS = [
    Scenario(
        "every operation once",
        "R9",
        """
        A inc connections 5 -> 5 5
        A dec connections 2 -> 3 3
        A get connections -> 3 3
        A set_on_instance connections 10 -> 10 10
        A set connections 100 -> 100 100
        A delete_on_instance connections -> 0 100
        A delete connections -> 0 0
        """,
    ),
    # What another implementation answered wrongly: "Defects measured in version 0.4.0" in
    # spec/UPSTREAM.md.
    Scenario(
        "removing a dead slice that is stale does not change the total",
        "R6 R8",
        """
        A inc k 10 -> 10 10
        B set k 100 -> 100 100
        wait 29999
        B get k -> 100 100
        wait 1
        B get k -> 100 100
        """,
    ),
    Scenario(
        "a read does not revive a stale slice",
        "R6 R9",
        """
        A inc k 10 -> 10 10
        B set k 100 -> 100 100
        A get k -> 100 0
        A inc k 1 -> 101 1
        """,
    ),
    Scenario(
        "a negative slice is restored too",
        "R10",
        """
        A dec k 5 -> -5 -5
        B inc k 1 -> -4 1
        wait 30000
        B get k -> 1 1
        A get k -> -4 -5
        """,
    ),
    Scenario(
        "a total beyond 2^53 is refused, not rounded",
        "R2",
        """
        A set k max -> max max
        A inc k 1 -> CounterOverflowError
        A get k -> max max
        """,
    ),
    # R2
    Scenario(
        "a refused step changes nothing and the other steps of the request still run",
        "R2",
        """
        A inc k max; inc k 1; inc j 1; dec k 1 -> max max; CounterOverflowError; 1 1; 9007199254740990 9007199254740990
        B inc k 2 -> CounterOverflowError
        B inc k 1 -> max 1
        """,
    ),
    Scenario(
        "a count may not leave the range even if the total would not",
        "R2",
        """
        A set_on_instance k -max -> -max -max
        B set_on_instance k max -> 0 max
        B inc k 1 -> CounterOverflowError
        B get k -> 0 max
        """,
    ),
    Scenario(
        "deaths and returns can push a total out of range, and steps that leave it there are refused",
        "R2 R7 R10",
        """
        A set_on_instance k max -> max max
        wait 30000
        B set_on_instance k max -> max max
        A heartbeat
        B get k -> CounterOverflowError
        B delete k -> CounterOverflowError
        B inc k 1 -> CounterOverflowError
        A set_on_instance k -3 -> 9007199254740988 -3
        B get k -> 9007199254740988 max
        A set k 5 -> 5 5
        """,
    ),
    Scenario(
        "a small step brings a total that is out of range back into it",
        "R2 R7",
        """
        A set_on_instance k 10 -> 10 10
        wait 30000
        B set_on_instance k max -> max max
        A heartbeat
        A dec k 12 -> 9007199254740989 -2
        B get k -> 9007199254740989 max
        """,
    ),
    Scenario(
        "set works on a total that is out of range",
        "R2 R9",
        """
        A dec k max -> -max -max
        wait 30000
        B dec k max -> -max -max
        A heartbeat
        A get k -> CounterOverflowError
        A set k 0 -> 0 0
        B get k -> 0 0
        """,
    ),
    # R3, R4, R5
    Scenario(
        "a clock that jumps back does not move the server's time",
        "R3",
        """
        A inc k 1 -> 1 1
        wait -3600000
        B inc k 1 -> 2 1
        wait 29999
        B get k -> 2 1
        """,
    ),
    Scenario(
        "a clock that jumps forward looks like silence",
        "R3 R5",
        """
        A inc k 1 -> 1 1
        wait 86400000
        B get k -> 0 0
        A get k -> 1 1
        """,
    ),
    Scenario(
        "the server's time is the sum of the clock's forward steps",
        "R3 R5",
        """
        A inc k 1 -> 1 1
        wait 20000
        B get k -> 1 0
        wait -20000
        B get k -> 1 0
        wait 9999
        B get k -> 1 0
        wait 1
        B get k -> 0 0
        """,
    ),
    Scenario(
        "a read is a heartbeat",
        "R4",
        """
        A inc k 1 -> 1 1
        wait 20000
        A get k -> 1 1
        wait 20000
        B get k -> 1 0
        """,
    ),
    Scenario(
        "a call on any key is a heartbeat for every key",
        "R4",
        """
        A inc k 1 -> 1 1
        wait 20000
        A inc j 1 -> 1 1
        wait 20000
        B get k -> 1 0
        """,
    ),
    Scenario(
        "a heartbeat call keeps an idle instance alive",
        "R4",
        """
        A inc k 1 -> 1 1
        wait 20000
        A heartbeat
        wait 29999
        B get k -> 1 0
        wait 1
        B get k -> 0 0
        """,
    ),
    Scenario(
        "an instance is dead exactly at the threshold, not 1 ms before",
        "R5",
        """
        A inc k 1 -> 1 1
        wait 29999
        B get k -> 1 0
        wait 1
        B get k -> 0 0
        """,
    ),
    Scenario(
        "one instance's fresh heartbeat does not hide another's death",
        "R5 R8",
        """
        A inc k 1 -> 1 1
        B inc k 2 -> 3 2
        wait 15000
        B get k -> 3 2
        C inc k 4 -> 7 4
        wait 15000
        C get k -> 6 4
        wait 15000
        C get k -> 4 4
        """,
    ),
    Scenario(
        "an instance is never dead to itself",
        "R5",
        """
        A inc k 7 -> 7 7
        wait 86400000
        A get k -> 7 7
        """,
    ),
    # R6 to R9
    Scenario(
        "set makes every other slice stale, and the other instances start again from 0",
        "R6 R9",
        """
        A inc k 10 -> 10 10
        B inc k 20 -> 30 20
        C set k 5 -> 5 5
        A inc k 1 -> 6 1
        B dec k 1 -> 5 -1
        """,
    ),
    Scenario(
        "delete returns what was there and leaves nothing",
        "R9",
        """
        A inc k 10 -> 10 10
        B inc k 20 -> 30 20
        A delete k -> 30 10
        B get k -> 0 0
        A get k -> 0 0
        """,
    ),
    Scenario(
        "delete_on_instance leaves other instances' slices alone",
        "R9",
        """
        A inc k 10 -> 10 10
        B inc k 20 -> 30 20
        A delete_on_instance k -> 20 10
        A delete_on_instance k -> 20 0
        B get k -> 20 20
        """,
    ),
    Scenario(
        "an instance presumed dead on one key learns of it on any other key",
        "R8 R10",
        """
        A inc k 1 -> 1 1
        A inc j 2 -> 2 2
        wait 30000
        B get k -> 0 0
        A get j -> 2 2
        B get k -> 1 0
        """,
    ),
    Scenario(
        "no reply reveals whether a dead slice was removed",
        "R8 R13",
        """
        A inc k 1 -> 1 1
        A inc j 2 -> 2 2
        wait 30000
        B get k -> 0 0
        A heartbeat
        C get j -> 2 0
        C get k -> 1 0
        """,
    ),
    Scenario(
        "an instance whose silence nobody noticed just goes on",
        "R13",
        """
        A inc k 1 -> 1 1
        wait 86400000
        A heartbeat
        B get k -> 1 0
        """,
    ),
    # R10
    Scenario(
        "after a false death a slice is restored as it was",
        "R10",
        """
        A inc k 10 -> 10 10
        B inc k 1 -> 11 1
        wait 30000
        B get k -> 1 1
        A inc k 1 -> 12 11
        """,
    ),
    Scenario(
        "a slice is not restored once the epoch has moved on",
        "R6 R10",
        """
        A inc k 10 -> 10 10
        wait 30000
        B set k 50 -> 50 50
        A get k -> 50 0
        """,
    ),
    Scenario(
        "one call on any key restores every slice",
        "R10",
        """
        A inc k 1 -> 1 1
        A inc j 2 -> 2 2
        B inc k 10 -> 11 10
        empty
        A get other -> 0 0
        B heartbeat
        C get k -> 11 0
        C get j -> 2 0
        """,
    ),
    Scenario(
        "an epoch that Redis lost is restored with the slice",
        "R10",
        """
        A inc k 10 -> 10 10
        B set k 100 -> 100 100
        empty
        B get k -> 100 100
        A get k -> 100 0
        """,
    ),
    Scenario(
        "an older slice that is restored first yields to the newer epoch",
        "R10",
        """
        A inc k 10 -> 10 10
        B set k 100 -> 100 100
        empty
        A get k -> 10 10
        B get k -> 100 100
        A get k -> 100 0
        """,
    ),
    Scenario(
        "a failover that lost writes loses no count",
        "R10",
        """
        A inc k 10 -> 10 10
        B inc k 1 -> 11 1
        copy
        A inc k 5 -> 16 15
        restore 0
        A get k -> 15 15
        B get k -> 16 1
        """,
    ),
    Scenario(
        "after lost writes a late copy does not wipe restored slices",
        "R10 R11",
        """
        A inc k 1 -> 1 1
        B inc k 2 -> 3 2
        copy
        B set k 10 [copied] -> 10 10
        A inc k 3 -> 13 3
        restore 0
        A get k -> 3 3
        late copy
        B get k -> 13 10
        A get k -> 13 3
        """,
    ),
    Scenario(
        "an instance's memory wins over an equally old copy",
        "R10",
        """
        A inc k 5 -> 5 5
        B heartbeat
        copy
        B set k 100 -> 100 100
        A inc k 1 [copied] -> 101 1
        restore 0
        late copy
        A get k -> 1 1
        B get k -> 101 100
        A get k -> 101 1
        """,
    ),
    Scenario(
        "a script that Redis has forgotten is sent again",
        "R10",
        """
        A inc k 1 -> 1 1
        forget scripts
        A inc k 1 -> 2 2
        """,
    ),
    # R11
    Scenario(
        "a lost request is sent again",
        "R11",
        """
        A inc k 1 [request lost; request lost] -> 1 1
        A inc k 1 [request lost] -> 2 2
        """,
    ),
    Scenario(
        "a lost reply is requested again and nothing counts twice",
        "R11",
        """
        A heartbeat
        A inc k 1 [reply lost; reply lost] -> 1 1
        A set k 5 [reply lost] -> 5 5
        A delete k [reply lost] -> 5 5
        B inc k 1 [reply lost; twice; reply lost] -> 1 1
        """,
    ),
    Scenario(
        "a retry gets the first reply, whatever has happened since",
        "R11",
        """
        A heartbeat
        A inc k 1; get j; inc k 2 [reply lost] -> 1 1; 0 0; 3 3
        A set k max; inc k 1 [reply lost] -> max max; CounterOverflowError
        """,
    ),
    Scenario(
        "a request that arrives twice runs once",
        "R11",
        """
        A inc k 1 [twice; twice] -> 1 1
        A inc k 1 [twice] -> 2 2
        A set k 7 [twice] -> 7 7
        A inc k 1 [twice] -> 8 8
        """,
    ),
    Scenario(
        "a late copy executes nothing",
        "R11",
        """
        A heartbeat
        A inc k 1 [copied] -> 1 1
        A set k 10 [copied] -> 10 10
        A inc k 1 -> 11 11
        late copy
        late copy
        A get k -> 11 11
        """,
    ),
    Scenario(
        "a request that was given up runs at most once, and never after the next call",
        "R11 R12",
        """
        A heartbeat
        A inc k 1 [delayed; request lost; request lost] -> OutcomeUnknownError
        A get k -> 0 0
        late copy
        A get k -> 0 0
        A inc k 1 [reply lost; reply lost; reply lost] -> OutcomeUnknownError
        A get k -> 1 1
        """,
    ),
    Scenario(
        "a late copy executes nothing after its instance was presumed dead and came back",
        "R8 R11",
        """
        A heartbeat
        A inc k 1 [copied] -> 1 1
        A inc k 1 [copied] -> 2 2
        wait 30000
        B get k -> 0 0
        late copy
        A get k -> 2 2
        late copy
        B get k -> 2 0
        """,
    ),
    Scenario(
        "a late copy does not bring back a slice that was removed as dead",
        "R8 R11",
        """
        A heartbeat
        A inc k 10 [copied] -> 10 10
        A dies
        wait 30000
        B get k -> 0 0
        late copy
        B get k -> 0 0
        """,
    ),
    Scenario(
        "a late copy of an instance's first request counts nothing",
        "R8 R11",
        """
        A inc k 10 [copied] -> 10 10
        A dies
        wait 30000
        B get k -> 0 0
        late copy
        B get k -> 0 0
        """,
    ),
    Scenario(
        "a late copy of an open does not take over the session",
        "R11",
        """
        A inc k 1 [copied] -> 1 1
        A inc k 1 -> 2 2
        late copy
        A inc k 1 -> 3 3
        """,
    ),
    # R12
    Scenario(
        "an unanswered set whose session is lost is unknown, and the next call works",
        "R12",
        """
        A inc k 1 -> 1 1
        A set k 5 [reaped] -> OutcomeUnknownError
        A inc k 1 -> 1 1
        """,
    ),
    Scenario(
        "an unknown set may have moved the epoch and left nothing behind",
        "R12",
        """
        A heartbeat
        B inc k 7 -> 7 7
        A set k 5 [reaped] -> OutcomeUnknownError
        A get k -> 0 0
        B get k -> 0 0
        """,
    ),
    Scenario(
        "an unanswered delete is unknown when Redis is emptied, and the remembered slice is restored",
        "R10 R12",
        """
        A inc k 3 -> 3 3
        A delete k [emptied] -> OutcomeUnknownError
        A get k -> 3 3
        """,
    ),
    Scenario(
        "a slice-local step whose session was lost counts once",
        "R12",
        """
        A inc k 1 -> 1 1
        A inc k 1 [reaped] -> 2 2
        A inc k 1 [emptied] -> 3 3
        A set_on_instance k 9 [reaped] -> 9 9
        B get k -> 9 0
        """,
    ),
    Scenario(
        "the slice-local steps of a request run again when its set is unknown",
        "R12",
        """
        A inc k 1 -> 1 1
        A inc j 1; set k 5; inc k 2 [emptied] -> 1 1; OutcomeUnknownError; 3 3
        """,
    ),
    Scenario(
        "a call that reached no server was not executed",
        "R12",
        """
        A inc k 1 -> 1 1
        down
        A inc k 1 -> NotExecutedError
        up
        A get k -> 1 1
        """,
    ),
    Scenario(
        "clear_on_instance also removes what unanswered calls counted",
        "R12",
        """
        A heartbeat
        A inc k 5 [reply lost; reply lost; reply lost] -> OutcomeUnknownError
        A clears itself
        B get k -> 0 0
        """,
    ),
    Scenario(
        "a late copy of an open after a false death is not taken for lost writes",
        "R10",
        """
        A inc k 10 [copied] -> 10 10
        B inc k 1 -> 11 1
        wait 30000
        B get k -> 1 1
        late copy
        A get k -> 11 10
        B get k -> 11 1
        """,
    ),
    # R14
    Scenario(
        "opening a session closes the sessions of the dead",
        "R14",
        """
        A heartbeat
        B inc k 1 -> 1 1
        wait 30000
        C heartbeat
        A heartbeat
        B inc k 1 -> 2 2
        """,
    ),
    # R15
    Scenario(
        "a step with a condition runs if the condition holds, and returns the state after and before",
        "R15",
        """
        A inc k 5 if eq 0 -> 5 5 from 0 0
        B inc k 2 if gt 4 -> 7 2 from 5 0
        B inc k 1 if lt 7 -> 7 2 from 7 2
        B inc k 1 if gt 7 -> 7 2 from 7 2
        B inc k 1 if ne 7 -> 7 2 from 7 2
        A inc k -1 if ne 0 -> 6 4 from 7 5
        """,
    ),
    Scenario(
        "set's condition tests the total, set_on_instance's the caller's count",
        "R15",
        """
        A inc k 5 -> 5 5
        B set_on_instance k 3 if eq 5 -> 5 0 from 5 0
        B set_on_instance k 3 if eq 0 -> 8 3 from 5 0
        B set k 1 if lt 8 -> 8 3 from 8 3
        B set k 1 if eq 8 -> 1 1 from 8 3
        A get k -> 1 0
        """,
    ),
    Scenario(
        "a limit is never exceeded, and a crash leaks no slot",
        "R15 R8",
        """
        A inc k 1 if lt 2 -> 1 1 from 0 0
        B inc k 1 if lt 2 -> 2 1 from 1 0
        C inc k 1 if lt 2 -> 2 0 from 2 0
        A dies
        wait 30000
        C inc k 1 if lt 2 -> 1 1 from 0 0
        B inc k 1 if lt 2 -> 2 1 from 2 1
        """,
    ),
    Scenario(
        "each condition sees the result of the steps before it",
        "R15",
        """
        A inc k 1 if eq 0; inc k 1 if eq 0; set k 9 if gt 0; inc k 1 if eq 9 -> 1 1 from 0 0; 1 1 from 1 1; 9 9 from 1 1; 10 10 from 9 9
        A inc k 1 if eq 10; inc k 1 if eq 10 [reply lost] -> 11 11 from 10 10; 11 11 from 11 11
        """,
    ),
    Scenario(
        "conditions at the edges of the range",
        "R2 R15",
        """
        A set k max if lt max -> max max from 0 0
        A inc k 1 if eq max -> CounterOverflowError
        A inc k 1 if lt max -> max max from max max
        B inc k -max if gt 9007199254740990 -> 0 -max from max 0
        B inc k -1 if gt -max -> CounterOverflowError
        B set_on_instance k -1 if eq -max -> 9007199254740990 -1 from 0 -max
        """,
    ),
    Scenario(
        "a condition on a total that is out of range is refused, even for set",
        "R2 R15",
        """
        A set_on_instance k max -> max max
        wait 30000
        B set_on_instance k max -> max max
        A heartbeat
        B set k 1 if gt 0 -> CounterOverflowError
        B set_on_instance k 1 if eq max -> CounterOverflowError
        B set k 1 -> 1 1
        """,
    ),
    Scenario(
        "when an unanswered step loses its session, inc_if is decided again and set_if is unknown",
        "R12 R15",
        """
        A inc k 1 -> 1 1
        A inc k 1 if eq 1 [reaped] -> 2 2 from 1 1
        A set k 9 if eq 2 [reaped] -> OutcomeUnknownError
        """,
    ),
    # What a search looks at
    Scenario(
        "after several sessions were closed, the slices of all of them are removed",
        "R17",
        """
        A inc k 1 -> 1 1
        B inc k 2 -> 3 2
        C inc k 4 -> 7 4
        A lives again
        A inc j 1 -> 1 1
        B lives again
        B inc j 1 -> 2 1
        C get k -> 4 4
        C get j -> 2 0
        """,
    ),
    Scenario(
        "a counter vanishes when the last slices in it are those of closed sessions",
        "R17 R18",
        """
        B inc j 1 -> 1 1
        A inc k 1 -> 1 1
        A lives again
        A inc j 1 -> 2 1
        B get k -> 0 0
        redis k: gone
        A inc k 1 -> 1 1
        B inc k 1 -> 2 1
        B dec k 1 -> 1 0
        A lives again
        A inc j 1 -> 2 1
        B heartbeat
        B heartbeat
        redis k: gone
        """,
    ),
    Scenario(
        "after a session was closed, the others expire when they would have",
        "R5 R17",
        """
        A inc k 1 -> 1 1
        wait 10000
        B inc k 2 -> 3 2
        C inc k 4 -> 7 4
        C lives again
        C inc j 1 -> 1 1
        B get k -> 3 2
        wait 19999
        B get k -> 3 2
        wait 1
        B get k -> 2 2
        """,
    ),
    Scenario(
        "after a search the caller's own lease may be the next to end",
        "R5",
        """
        A joins 500
        B inc k 2 -> 2 2
        wait 10000
        C inc k 4 -> 6 4
        wait 19900
        A inc k 1 -> 7 1
        wait 100
        A get k -> 5 1
        wait 500
        C get k -> 4 4
        """,
    ),
    Scenario(
        "if a session was closed and others have expired, all of them go",
        "R5 R17",
        """
        A inc k 1 -> 1 1
        B inc k 2 -> 3 2
        wait 29999
        B get j -> 0 0
        C joins 1
        C inc j 1 -> 1 1
        C lives again
        wait 1
        C inc j 1 -> 1 1
        B get k -> 2 2
        """,
    ),
    Scenario(
        "when the instances alone fall back, every counter is searched",
        "R10 R17",
        """
        A inc k 1 -> 1 1
        B inc j 1 -> 1 1
        B lives again
        B inc j 1 -> 1 1
        A get k -> 1 1
        wait 20000
        A heartbeat
        copy
        wait 10000
        A get k -> 1 1
        restore instances 0
        C get i -> 0 0
        wait 20000
        C get k -> 0 0
        """,
    ),
    # R16
    Scenario(
        "an instance that leaves takes its slices with it at once",
        "R16",
        """
        A inc k 5 -> 5 5
        A inc j 1 -> 1 1
        B inc k 2 -> 7 2
        A leaves
        B get k -> 2 2
        B get j -> 0 0
        A get k -> 2 0
        A inc k 1 -> 3 1
        """,
    ),
    Scenario(
        "an instance that calls again after leaving starts from 0",
        "R16",
        """
        A inc k 5 -> 5 5
        A inc j 1 -> 1 1
        A leaves
        A get k -> 0 0
        B get j -> 0 0
        """,
    ),
    Scenario(
        "leaving is exact over a failing network, and a late copy of a leave does nothing",
        "R16 R11",
        """
        A inc k 5 -> 5 5
        B inc k 2 -> 7 2
        A leaves [reply lost; copied; reply lost; copied]
        B get k -> 2 2
        A inc k 1 -> 3 1
        late copy
        late copy
        A inc k 1 -> 4 2
        B get k -> 4 2
        """,
    ),
    Scenario(
        "an instance without a session leaves silently and comes back with nothing",
        "R16",
        """
        A inc k 5 -> 5 5
        A leaves
        A leaves
        A get k -> 0 0
        wait 30000
        B get k -> 0 0
        A leaves
        A get k -> 0 0
        """,
    ),
    *LOSSES,
]
