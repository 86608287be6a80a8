"""Mutants that change nothing that a rule says. Each was reviewed, and has its reason."""

from __future__ import annotations

from typing import NamedTuple


class Equivalent(NamedTuple):
    """A mutant by its file, its line (without the indentation), the piece and what it becomes; and
    why no test of what the rules promise can tell the two apart. `which` says which one it is of
    those that are alike in all of these, counted from the top of the file."""

    path: str
    line: str
    was: str
    becomes: str
    reason: str
    which: int = 1

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What tells it from every other mutant."""
        return *self[:4], self.which


EQUIVALENT: tuple[Equivalent, ...] = (
    Equivalent(
        "distkit/core/holding.py",
        "LONGEST_PAUSE_S: Final = 0.5",
        "0.5",
        "1.5",
        "R20 promises that the pauses grow to a bound, and names none.",
    ),
    Equivalent(
        "distkit/core/instance.py",
        "if high is None or low is None or epoch is None or count is None:",
        "or",
        "and",
        "The script answers all four numbers of a view, or nothing for all four.",
    ),
    Equivalent(
        "distkit/core/operations.py",
        "def inc_alone(key: object, count: object = 1) -> tuple[Step]:",
        "1",
        "2",
        "Both counters pass the count: nobody uses this default.",
    ),
    Equivalent(
        "distkit/holding/tasks.py",
        "slot.close()",
        "slot.close()",
        "pass",
        "Nobody else knows the slot: when it is forgotten, just after this, it closes itself.",
        2,
    ),
    Equivalent(
        "distkit/port.py",
        'self.admin.restore("distkit:{conform}:nothing", 0, b"this is no dump")',
        "0",
        "1",
        "What is to be restored is no dump: Redis refuses it before it looks at the time to live.",
    ),
    Equivalent(
        "distkit/redis/counter.lua",
        "elseif n < 0 and low < -MAX - n then",
        "<",
        "<=",
        "With n = 0 the second condition cannot hold: low is never below -MAX.",
    ),
    Equivalent(
        "distkit/redis/counter.lua",
        "return nil",
        "nil",
        "false",
        "Both are false, and nothing else is asked of the answer.",
    ),
    Equivalent(
        "distkit/redis/counter.lua",
        "elseif not earliest or tonumber(expires) < tonumber(earliest) then",
        "<",
        "<=",
        "Equal numbers are written alike, so the text of either is the same.",
    ),
    Equivalent(
        "distkit/redis/counter.lua",
        "local names, slices, mine = {}, {}, nil",
        "nil",
        "false",
        "It is only asked whether there is one; nil and false both say no.",
    ),
    Equivalent(
        "distkit/redis/counter.lua",
        "if slice and (not expires or now + threshold < tonumber(expires)) then",
        "<",
        "<=",
        "Equal numbers are written alike: the expiry becomes what it was.",
    ),
    Equivalent(
        "distkit/redis/reading.py",
        "PAGE: Final = 250",
        "250",
        "251",
        "How many counters one command reads: the pages are put together to the same whole.",
    ),
    Equivalent(
        "oracle/check/broken/requests.py",
        "return instance._replace(session=0, "
        "sent=instance.sent._replace(session=0, restores=True))",
        "0",
        "1",
        "The reply says the session, whatever was there before.",
    ),
    Equivalent(
        "oracle/check/broken/slices.py",
        'REUSES._replace(instances=2, kinds=kinds("inc,get")),',
        "2",
        "3",
        "The world in which a fault shows: in a larger one it shows with the same trace.",
    ),
    Equivalent(
        "oracle/check/fast/parts.py",
        "CONTEXT, SERVER, SLOT, PLACE = 22, 24, 20, 3",
        "20",
        "21",
        "A wider field: the numbers of the parts are the same, and there is room for it.",
    ),
    Equivalent(
        "oracle/check/fast/space.py",
        "for now, before in zip(after.slots, worlds.slots, strict=True):",
        "True",
        "False",
        "A world has as many slots before an event as after it.",
    ),
    Equivalent(
        "oracle/conform/play.py",
        "self._wall_ms = walls[0] if walls else 0",
        "0",
        "1",
        "Without times in the history nothing reads it.",
    ),
    Equivalent(
        "oracle/conform/strategies.py",
        "thresholds: st.SearchStrategy[int] = st.sampled_from([30_000, 30_000, 1_000, 3, 1])",
        "30_000",
        "30001",
        "What the tests draw from: one threshold is as good as another.",
        2,
    ),
    Equivalent(
        "oracle/conform/variants.py",
        'op, on_total = "", False',
        "False",
        "True",
        "Both classes that inherit it set both.",
    ),
    Equivalent(
        "oracle/model/housekeeping.py",
        "since: int = 0",
        "0",
        "1",
        "The first request of an instance is an open: what it remembers has a later seq.",
    ),
    Equivalent(
        "oracle/model/instance.py",
        "seq: int = 0",
        "0",
        "1",
        "The first seq is any number; only that it rises is used.",
    ),
    Equivalent(
        "oracle/model/instance.py",
        "outcomes.update(zip(places, answers, strict=True))",
        "True",
        "False",
        "There is one answer for each step.",
    ),
    Equivalent(
        "oracle/model/operations.py",
        'ALWAYS = Condition("always", 0)',
        "0",
        "1",
        "The operand of a condition that always holds is not looked at.",
    ),
)
