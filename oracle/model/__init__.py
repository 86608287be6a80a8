"""The reference machine: what every implementation must do, stated plainly. THE ORACLE.

Read `operations.py` (what a call does to one counter), `state.py` and `server.py` first: they are
the whole of the server, one function from (state, request, wall clock) to (state, reply).
`messages.py` has the requests and replies, and `instance.py` the other side: what an instance
sends, learns and remembers.

States are immutable and hashable. There is no I/O, no thread, no clock and no randomness, and
nothing is cached. The rules are R2 to R16 of `spec/RULES.md`; each function names its own. The
message numbering comes from Raft's client sessions (Ongaro, "Consensus: Bridging Theory and
Practice", 2014, section 6.3) and RIFL's completion records (Lee et al., SOSP 2015), reduced to one
writer per slice.
"""

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
    CONDITIONAL,
    GLOBAL,
    LIMIT,
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
from oracle.model.server import Serve, serve
from oracle.model.state import Counter, Server, Session, Slice

VERSION = 1
"""The version of the protocol that this machine is: raised with every change of what it does, so
that `spec/explored.json` says which protocol was explored."""

__all__ = [
    "CONDITIONAL",
    "GLOBAL",
    "LIMIT",
    "METHODS",
    "NOT_EXECUTED",
    "OPERATIONS",
    "PATIENCE",
    "READS",
    "REFUSED",
    "RELATIONS",
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
    "Reply",
    "Request",
    "Serve",
    "Server",
    "Session",
    "Slice",
    "Step",
    "View",
    "begin",
    "begin_leaving",
    "call_at_once",
    "finish",
    "finish_at_once",
    "give_up",
    "hear",
    "method",
    "recall",
    "run_steps",
    "serve",
    "speak",
    "step_result",
    "writes",
]
