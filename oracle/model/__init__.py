"""The oracle: an executable specification of the counter, which every implementation must match.

Read the modules in this order:

1. `operations.py`: what each operation does to one counter, and when it is refused.
2. `state.py` and `server.py`: the whole server, as one function from (state, request, wall clock)
   to (state, reply).
3. `messages.py`: the requests and replies.
4. `instance.py`: the client side, that is, what an instance sends, learns and remembers.
5. `housekeeping.py`: what a heartbeat does besides.
6. `calls.py`: which requests a whole call of the public API takes, and R1.
7. `partitions.py`: which partition a key belongs to.

The machine favours clarity over speed. States are immutable and hashable, nothing is cached, and
there is no I/O, threading, clock or randomness. It implements R1 to R19 of `spec/RULES.md`, and
each function names the rules it implements.

The request numbers come from Raft's client sessions (Ongaro, "Consensus: Bridging Theory and
Practice", 2014, section 6.3), the completion records from RIFL (Lee et al., SOSP 2015). Both are
simplified here, because each slice has a single writer.
"""

from oracle.model.calls import (
    MOST_COUNTERS,
    MOST_STEPS,
    Made,
    Make,
    Steps,
    clear_on_instance_steps,
    clear_steps,
    existing_counters,
    make_heartbeat,
    make_leave,
    make_steps,
    name_error,
)
from oracle.model.housekeeping import LOOKS, RELEASES, Plan, Rounds, plan
from oracle.model.instance import (
    NOT_EXECUTED,
    PATIENCE,
    REFUSED,
    RESTORE_CHUNK,
    UNKNOWN,
    Call,
    Instance,
    Outcome,
    begin,
    begin_leaving,
    begin_looking,
    call_at_once,
    finish,
    finish_at_once,
    give_up,
    hear,
    recall,
    speak,
)
from oracle.model.maps import Map
from oracle.model.messages import (
    Done,
    Late,
    Leave,
    Left,
    Memory,
    Message,
    NoSession,
    Open,
    Opened,
    Part,
    Reply,
    Request,
)
from oracle.model.operations import (
    ALWAYS,
    CONDITIONAL,
    DROP,
    GLOBAL,
    LIMIT,
    LOOK,
    METHODS,
    OPERATIONS,
    READS,
    RELATIONS,
    Change,
    Condition,
    CounterState,
    Method,
    Operation,
    Step,
    View,
    method,
    run_steps,
    step_result,
    writes,
)
from oracle.model.partitions import (
    MOST_PARTITIONS,
    partition_name,
    partition_of,
    slot_of,
)
from oracle.model.server import Serve, serve, tick
from oracle.model.state import HERE, Counter, Server, Session, Slice

VERSION = 2
"""The version of the protocol that this machine is: raised with every change of what it does, so
that `spec/explored.json` says which protocol was explored."""

__all__ = [
    "ALWAYS",
    "CONDITIONAL",
    "DROP",
    "GLOBAL",
    "HERE",
    "LIMIT",
    "LOOK",
    "LOOKS",
    "METHODS",
    "MOST_COUNTERS",
    "MOST_PARTITIONS",
    "MOST_STEPS",
    "NOT_EXECUTED",
    "OPERATIONS",
    "PATIENCE",
    "READS",
    "REFUSED",
    "RELATIONS",
    "RELEASES",
    "RESTORE_CHUNK",
    "UNKNOWN",
    "VERSION",
    "Call",
    "Change",
    "Condition",
    "Counter",
    "CounterState",
    "Done",
    "Instance",
    "Late",
    "Leave",
    "Left",
    "Made",
    "Make",
    "Map",
    "Memory",
    "Message",
    "Method",
    "NoSession",
    "Open",
    "Opened",
    "Operation",
    "Outcome",
    "Part",
    "Plan",
    "Reply",
    "Request",
    "Rounds",
    "Serve",
    "Server",
    "Session",
    "Slice",
    "Step",
    "Steps",
    "View",
    "begin",
    "begin_leaving",
    "begin_looking",
    "call_at_once",
    "clear_on_instance_steps",
    "clear_steps",
    "existing_counters",
    "finish",
    "finish_at_once",
    "give_up",
    "hear",
    "make_heartbeat",
    "make_leave",
    "make_steps",
    "method",
    "name_error",
    "partition_name",
    "partition_of",
    "plan",
    "recall",
    "run_steps",
    "serve",
    "slot_of",
    "speak",
    "step_result",
    "tick",
    "writes",
]
