"""Named histories of single keys that Redis loses, ids that are used again, outages, thresholds
that differ, and counters that vanish: R10 and R17 to R19. `histories.py` says how they are written.
"""

from __future__ import annotations

from tests.equivalence.histories import Scenario

LOSSES = [
    # R10: losses
    Scenario(
        "a session number is never used twice, whatever is lost",
        "R10 R11",
        """
        A set k 500 [copied; copied] -> 500 500
        B inc k 7 -> 507 7
        empty
        late copy
        B get k -> 7 7
        late copy
        B get k -> 7 7
        A heartbeat
        B get k -> 507 7
        """,
    ),
    Scenario(
        "a late copy of an open after the loss of the sessions lets no request run twice",
        "R10 R11",
        """
        A heartbeat [copied]
        A inc k 1 [copied] -> 1 1
        lose instances
        late copy
        late copy
        A inc k 1 -> 2 2
        B get k -> 2 0
        """,
    ),
    Scenario(
        "a late copy cannot hide a rollback from the owner's heartbeats",
        "R10",
        """
        A heartbeat
        copy
        A inc k 10 [reply lost; reply lost; reply lost] -> OutcomeUnknownError
        A inc k 1 [copied] -> 11 11
        restore 0
        late copy
        B get k -> 1 0
        A heartbeat
        B get k -> 11 0
        """,
    ),
    Scenario(
        "a counter that is lost alone is found by its owners' heartbeats",
        "R10",
        """
        A inc k 5 -> 5 5
        B inc k 3 -> 8 3
        lose k
        A heartbeat
        B heartbeat
        C get k -> 8 0
        """,
    ),
    Scenario(
        "a counter that is lost alone is found by a reader that owns nothing",
        "R10",
        """
        A inc k 5 -> 5 5
        B inc k 3 -> 8 3
        C heartbeat
        lose k
        C get k -> 0 0
        A heartbeat
        B get j -> 0 0
        C get k -> 8 0
        """,
    ),
    Scenario(
        "an older copy of one counter is found by its owners' heartbeats",
        "R10",
        """
        A inc k 5 -> 5 5
        B inc k 3 -> 8 3
        copy
        A inc k 10 -> 18 15
        B inc k 22 -> 40 25
        restore k 0
        C get k -> 8 0
        B heartbeat
        A heartbeat
        C get k -> 40 0
        """,
    ),
    Scenario(
        "an epoch that is lost with its counter comes back with its owner's memory",
        "R10",
        """
        A inc k 5 -> 5 5
        copy
        B set k 7 -> 7 7
        restore k 0
        B heartbeat
        A get k -> 7 0
        """,
    ),
    Scenario(
        "heartbeats list counters again after the list of them is lost",
        "R10",
        """
        A inc j 5 -> 5 5
        A inc k 5 -> 5 5
        lose keys
        A heartbeat
        B clears all
        C get j -> 0 0
        C get k -> 0 0
        """,
    ),
    Scenario(
        "a list of counters that is older than they are is put right by heartbeats",
        "R10",
        """
        A inc k 5 -> 5 5
        A set j 5 -> 5 5
        A set j 0 -> 0 0
        copy
        A inc l 1 -> 1 1
        A heartbeat
        A heartbeat
        redis j: epoch 2
        restore keys 0
        A heartbeat
        B get j -> 0 0
        A heartbeat
        B clears all
        C get l -> 0 0
        """,
    ),
    Scenario(
        "a counter that is found lost is found once",
        "R10",
        """
        A inc k 5 -> 5 5
        A dies
        B heartbeat
        lose k
        B get k -> 0 0
        B get k -> 0 0
        B inc k 1 -> 1 1
        """,
    ),
    Scenario(
        "a slice that a given-up request has written stands",
        "R10 R12",
        """
        A inc k 5 -> 5 5
        A inc k 1 [reply lost; reply lost; reply lost] -> OutcomeUnknownError
        A heartbeat
        A get k -> 6 6
        """,
    ),
    Scenario(
        "a request that Redis no longer knows tells all that writes were lost",
        "R10",
        """
        B inc k 5 -> 5 5
        A heartbeat
        copy
        B inc k 3 -> 8 8
        A get j -> 0 0
        restore 0
        A get j -> 0 0
        B get j -> 0 0
        C get k -> 8 0
        """,
    ),
    Scenario(
        "a counter that is newer than its owner's session is a loss, and no copy runs twice",
        "R10 R11",
        """
        A heartbeat
        B heartbeat
        copy
        A inc k 5 [copied] -> 5 5
        restore instances 0
        late copy
        A heartbeat
        B get k -> 5 0
        """,
    ),
    Scenario(
        "an old copy of a counter that has vanished does not count",
        "R10 R18",
        """
        A inc k 100 -> 100 100
        copy
        A delete k -> 100 100
        A heartbeat
        A heartbeat
        redis k: epoch 1
        restore k 0
        B get k -> 0 0
        redis k: epoch 1
        A get k -> 0 0
        """,
    ),
    Scenario(
        "an instance that counts from 0 again finds out that its counter is not listed",
        "R10",
        """
        A inc k 1 -> 1 1
        A dec k 1 -> 0 0
        B inc k 5 -> 5 5
        lose keys
        A inc k 1 -> 1 1
        B get k -> 6 5
        """,
    ),
    Scenario(
        "a retry whose record is lost runs again on what is put back",
        "R10 R12",
        """
        A inc k 5 -> 5 5
        A inc k 1 [hurt] -> 6 6
        A set k 9 [hurt] -> OutcomeUnknownError
        A get k -> 6 6
        """,
    ),
    # R17: a slice belongs to a session
    Scenario(
        "a new life of an id starts from nothing, also where it never looks",
        "R17",
        """
        A inc room 40 -> 40 40
        A lives again
        A heartbeat
        B get room -> 0 0
        A inc room 1 -> 1 1
        """,
    ),
    Scenario(
        "a new life of an id is not mistaken for the old one by the numbers of its requests",
        "R17 R11",
        """
        A heartbeat
        A inc k 1 -> 1 1
        A lives again
        A inc k 5 -> 5 5
        A lives again
        A get j [request lost; request lost; request lost] -> NotExecutedError
        A get j [request lost; request lost; request lost] -> NotExecutedError
        A get j [request lost; request lost; request lost] -> NotExecutedError
        A get j [request lost; request lost; request lost] -> NotExecutedError
        A heartbeat
        B get k -> 0 0
        """,
    ),
    Scenario(
        "a new life of an id does not take an open for its own that the old one's request answers",
        "R17 R11",
        """
        A inc k 5 -> 5 5
        A lives again
        A get j [request lost; request lost; request lost] -> NotExecutedError
        A heartbeat
        B get k -> 0 0
        """,
    ),
    Scenario(
        "a slice of an earlier session goes, the session of its owner stays",
        "R17",
        """
        A inc k 40 -> 40 40
        B heartbeat
        A lives again
        A inc j 1 -> 1 1
        B get k -> 0 0
        B get j -> 1 0
        A get j -> 1 1
        """,
    ),
    Scenario(
        "an old copy of a counter does not revive what an earlier life counted",
        "R17",
        """
        A inc k 40 -> 40 40
        B heartbeat
        copy
        A lives again
        A heartbeat
        B get k -> 0 0
        restore k 0
        B get k -> 0 0
        """,
    ),
    # R5: each instance's own threshold
    Scenario(
        "an instance is dead when it has been silent for its own threshold, whoever looks",
        "R5",
        """
        A joins 500
        B inc k 5 -> 5 5
        A inc k 1 -> 6 1
        wait 499
        B get k -> 6 5
        wait 1
        B get k -> 5 5
        """,
    ),
    Scenario(
        "a caller with a short threshold does not remove instances with a longer one",
        "R5",
        """
        A joins 500
        B inc k 5 -> 5 5
        wait 10000
        A get k -> 5 0
        A inc k 1 -> 6 1
        wait 500
        C get k -> 5 0
        """,
    ),
    Scenario(
        "a slice with a shorter lease makes its counter be searched earlier",
        "R5 R8",
        """
        B inc k 5 -> 5 5
        A joins 500
        A heartbeat
        A inc k 1 -> 6 1
        A dec k 1; inc k 3 -> 5 0; 8 3
        wait 500
        B get k -> 5 5
        """,
    ),
    Scenario(
        "the caller's own lease is among those that a search finds",
        "R5 R8",
        """
        B inc k 5 -> 5 5
        A joins 500
        A inc k 1 -> 6 1
        C heartbeat
        C leaves
        A get k -> 6 1
        wait 500
        B get k -> 5 5
        """,
    ),
    Scenario(
        "after a search the earliest lease decides when to search again",
        "R5 R8",
        """
        C inc k 1 -> 1 1
        B inc k 1 -> 2 1
        wait 20000
        C heartbeat
        D heartbeat
        D leaves
        A get k -> 2 0
        wait 10000
        A get k -> 1 0
        """,
    ),
    Scenario(
        "an owner that counts on and on removes the dead all the same",
        "R5 R8",
        """
        A inc k 1 -> 1 1
        B inc k 1 -> 2 1
        wait 20000
        B inc k 1 -> 3 2
        wait 10000
        B inc k 1 -> 3 3
        """,
    ),
    # R19: an outage is not silence
    Scenario(
        "an outage is nobody's death if somebody had promised to be heard",
        "R19",
        """
        A promises 12000
        B promises 12000
        A inc k 1 -> 1 1
        B inc k 1 -> 2 1
        wait 45000
        A inc k 1 if lt 2 -> 2 1 from 2 1
        B get k -> 2 1
        """,
    ),
    Scenario(
        "after an outage the dead are dead one threshold later at most",
        "R19",
        """
        A promises 12000
        B promises 12000
        A inc k 1 -> 1 1
        B inc k 1 -> 2 1
        A dies
        wait 45000
        B get k -> 2 1
        wait 12000
        B get k -> 2 1
        wait 6000
        B get k -> 1 1
        """,
    ),
    Scenario(
        "silence among those that are heard is silence",
        "R19 R5",
        """
        A promises 12000
        A inc k 1 -> 1 1
        B inc k 1 -> 2 1
        wait 10000
        A heartbeat
        wait 10000
        A heartbeat
        wait 10000
        A get k -> 1 1
        """,
    ),
    Scenario(
        "an instance that leaves takes its promise back",
        "R19 R16",
        """
        B inc k 1 -> 1 1
        A promises 12000
        A heartbeat
        A leaves
        wait 30000
        C get k -> 0 0
        """,
    ),
    Scenario(
        "an instance that leaves leaves the promises of others alone",
        "R19 R16",
        """
        C promises 12000
        C inc k 1 -> 1 1
        wait 1000
        A promises 5000
        A heartbeat
        A leaves
        wait 40000
        B get k -> 1 0
        """,
    ),
    Scenario(
        "a broken promise stops the time once",
        "R19 R3",
        """
        A promises 12000
        A inc k 1 -> 1 1
        B heartbeat
        wait 40000
        B get k -> 1 0
        wait 40000
        B get k -> 0 0
        """,
    ),
    # R18: counters vanish
    Scenario(
        "a counter that has stayed 0 from one heartbeat to the next vanishes",
        "R18",
        """
        A inc k 1 -> 1 1
        A dec k 1 -> 0 0
        A heartbeat
        redis k: 0 in 0
        A heartbeat
        redis k: gone
        A remembers
        """,
    ),
    Scenario(
        "a counter that others count in stays",
        "R18",
        """
        A inc k 1 -> 1 1
        B inc k 3 -> 4 3
        A dec k 1 -> 3 0
        A heartbeat
        A heartbeat
        A remembers
        redis k: 3 in 0
        B inc k 1 -> 4 4
        A get k -> 4 0
        """,
    ),
    Scenario(
        "a counter that is used between two heartbeats is not let go",
        "R18",
        """
        A inc k 1 -> 1 1
        A dec k 1 -> 0 0
        A heartbeat
        A inc k 1 -> 1 1
        A dec k 1 -> 0 0
        A heartbeat
        A remembers k
        """,
    ),
    Scenario(
        "of a counter that was set its epoch stays",
        "R18 R6",
        """
        A inc k 7 -> 7 7
        B set k 5 -> 5 5
        B dec k 5 -> 0 0
        B heartbeat
        B heartbeat
        redis k: 0 in 1
        A get k -> 0 0
        A heartbeat
        A heartbeat
        redis k: epoch 1
        A inc k 1 -> 1 1
        redis k: 1 in 1
        """,
    ),
    Scenario(
        "an instance that returns after a counter was set and vanished gets nothing back",
        "R18 R6 R10",
        """
        A inc k 7 -> 7 7
        wait 30000
        B set k 5 -> 5 5
        B dec k 5 -> 0 0
        B heartbeat
        B heartbeat
        redis k: epoch 1
        A get k -> 0 0
        """,
    ),
    Scenario(
        "what crashed instances left is removed by a look of any instance",
        "R18 R8",
        """
        A inc k 1 -> 1 1
        A dies
        B heartbeat
        wait 30000
        redis k: 1 in 0
        B looks k
        redis k: gone
        """,
    ),
    Scenario(
        "a look at a counter that others count in changes nothing",
        "R18",
        """
        A inc k 1 -> 1 1
        B looks k
        redis k: 1 in 0
        A looks k
        redis k: 1 in 0
        """,
    ),
    Scenario(
        "who leaves takes its counters with it",
        "R16 R18",
        """
        A inc j 2 -> 2 2
        A inc k 5 -> 5 5
        B inc k 3 -> 8 3
        A leaves
        redis j: gone
        redis k: 3 in 0
        """,
    ),
    Scenario(
        "an instance whose drops are lost leaves all the same",
        "R16",
        """
        A inc k 5 -> 5 5
        B inc k 2 -> 7 2
        A leaves [request lost; request lost; request lost; delivered]
        B get k -> 2 2
        """,
    ),
    Scenario(
        "an instance that leaves after it was presumed dead is no proof of a loss",
        "R16 R10",
        """
        A inc k 2 -> 2 2
        wait 30000
        B inc j 1 -> 1 1
        A heartbeat
        A leaves
        redis k: gone
        redis j: 1 in 0
        B dies
        C get j -> 1 0
        """,
    ),
    Scenario(
        "a slice that is needed for the total to be in range goes with its owner all the same",
        "R16 R2",
        """
        A set_on_instance k max -> max max
        B set_on_instance k -max -> 0 -max
        C set_on_instance k -max -> -max -max
        A leaves
        C get k -> CounterOverflowError
        B leaves
        C get k -> -max -max
        """,
    ),
    Scenario(
        "what a given-up request may have written is not let go unseen",
        "R18 R12",
        """
        A heartbeat
        A inc k 5 [reply lost; reply lost; reply lost] -> OutcomeUnknownError
        A heartbeat
        A heartbeat
        A heartbeat
        A remembers k
        A get k -> 5 5
        """,
    ),
    # R9, R2: the same step many times
    Scenario(
        "the same inc several times in one request counts as often",
        "R9 R11",
        """
        A inc k 2; inc k 2; inc k 2 -> 2 2; 4 4; 6 6
        A inc k 1; inc k 1 -> 7 7; 8 8
        A inc k 1; inc k 1 [reply lost] -> 9 9; 10 10
        B inc j max; inc j max -> max max; CounterOverflowError
        B set_on_instance j 0 -> 0 0
        B inc j max; inc j max -> max max; CounterOverflowError
        """,
    ),
    Scenario(
        "an owner that counts on and on stays in the range",
        "R2",
        """
        B set_on_instance k 9007199254740989 -> 9007199254740989 9007199254740989
        A inc k 1 -> 9007199254740990 1
        A inc k 1 -> max 2
        A inc k 1 -> CounterOverflowError
        A inc k 1; inc k 1 -> CounterOverflowError; CounterOverflowError
        A get k -> max 2
        """,
    ),
    Scenario(
        "a 0 that a given-up request has left is let go only when its owner knows it",
        "R18 R12",
        """
        A inc k 5 -> 5 5
        A dec k 5 [reply lost; reply lost; reply lost] -> OutcomeUnknownError
        A heartbeat
        redis k: 0 in 0
        A remembers k
        A heartbeat
        redis k: gone
        A get k -> 0 0
        """,
    ),
    Scenario(
        "a read makes no counter and is not remembered",
        "R18",
        """
        A get k -> 0 0
        redis k: gone
        B inc k 1 -> 1 1
        A get k -> 1 0
        A remembers
        """,
    ),
]
