"""Defects to be planted in a copy of the script, one at a time: the suite must find each of them.

The first five are what was measured in another implementation (spec/SPEC.md has the histories);
the others are one per idea that the script depends on. A defect is a piece of the script and what
stands in its place.
"""

from __future__ import annotations

from typing import NamedTuple

from distkit.transport import COUNTER, Script


class Mutant(NamedTuple):
    name: str
    was: str
    becomes: str

    def script(self) -> Script:
        assert COUNTER.text.count(self.was) == 1, f"{self.name}: the script has changed under it"
        return Script(COUNTER.text.replace(self.was, self.becomes))


MUTANTS = [
    Mutant(
        "a dead stale slice is subtracted from the total",
        "if tonumber(epoch) == c.epoch then\n      c.high",
        "if true then\n      c.high",
    ),
    Mutant(
        "a read adopts the epoch and revives the stale slice",
        "  put_back(c)\n  c.before =",
        "  put_back(c)\n  if c.steps == '' and c.seq > 0 and c.made_in ~= c.epoch then\n"
        "    c.made_in, c.changed, c.slice_changed = c.epoch, true, true\n  end\n  c.before =",
    ),
    Mutant(
        "only positive slices are put back",
        "c.memory_epoch == c.epoch and c.memory_count or 0",
        "c.memory_epoch == c.epoch and math.max(0, c.memory_count) or 0",
    ),
    Mutant(
        "counts beyond 2^53 are taken",
        "if new_high == 0 and math.abs(new_count) <= MAX then",
        "if true then",
    ),
    Mutant(
        "an unbounded list is unpacked",
        "local CHUNK = 1000",
        "local CHUNK = 1000000",
    ),
    Mutant(
        "dead only past the threshold, not at it",
        "clock.now - heartbeat >= threshold then",
        "clock.now - heartbeat > threshold then",
    ),
    Mutant(
        "the scan starts only past the threshold",
        "age < threshold and",
        "age <= threshold and",
    ),
    Mutant(
        "a late copy is executed",
        "if mine.seq > seq then\n    write_clock()\n    return { LATE, mine.seq }\n  end\n  local counters",
        "if false then\n    write_clock()\n    return { LATE, mine.seq }\n  end\n  local counters",
    ),
    Mutant("a retry is executed again", "retry = {}, mine.seq == seq", "retry = {}, false"),
    Mutant(
        "any session will do", "if not mine or mine.session ~= session then", "if not mine then"
    ),
    Mutant(
        "a slice is put back over a newer epoch",
        "c.memory_epoch == c.epoch and c.memory_count or 0",
        "c.memory_count",
    ),
    Mutant(
        "an older epoch is kept against the owner's memory",
        "if c.memory_epoch > c.epoch then",
        "if false then",
    ),
    Mutant(
        "the owner's memory loses to an equal copy",
        "c.seq > c.memory_seq",
        "c.seq >= c.memory_seq",
    ),
    Mutant(
        "the owner's memory wins over a newer slice",
        "if c.seq > c.memory_seq then",
        "if false then",
    ),
    Mutant(
        "a read is no heartbeat",
        "  write_entry(session, seq)\n  return reply",
        "  local reads = true\n  for _, c in ipairs(counters) do\n    reads = reads and c.steps == ''\n"
        "  end\n  if reads and #counters > 0 then\n    write_clock()\n  else\n"
        "    write_entry(session, seq)\n  end\n  return reply",
    ),
    Mutant(
        "the clock runs backwards",
        "clock.now = now + math.max(0, wall - last)",
        "clock.now = now + wall - last",
    ),
    Mutant(
        "the sessions of the dead stay open",
        "  if closing > 0 then",
        "  if false then",
    ),
    Mutant(
        "lost writes close no session",
        "  if mine.seq < acked then\n    close_every_session()\n    write_clock()\n    return { NO_SESSION }",
        "  if false then\n    return { NO_SESSION }",
    ),
    Mutant("set leaves the epoch", "0, n, epoch + 1, n", "0, n, epoch, n"),
    Mutant("delete leaves the epoch", "high, 0, epoch + 1, 0", "high, 0, epoch, 0"),
    Mutant("the caller may be dead to itself", "all[i] ~= HEAD and all[i] ~= me", "all[i] ~= HEAD"),
    Mutant(
        "the oldest heartbeat is forgotten",
        "elseif heartbeat < oldest then",
        "elseif false then",
    ),
    Mutant(
        "a closed session starts no scan",
        " and c.closed == clock.closed) then",
        ") then",
    ),
    Mutant("a total beyond 2^53 loses a unit", "low - SPAN + n", "low - MAX + n"),
    Mutant(
        "a late copy of an open takes the session",
        "if mine and mine.seq > seq then",
        "if false then",
    ),
    Mutant(
        "a retried open gets another session",
        "if mine and mine.seq == seq then",
        "if false then",
    ),
    Mutant(
        "a refused step takes the others with it",
        "      high, low, epoch, count = new_high, new_low, new_epoch, new_count\n    end",
        "      high, low, epoch, count = new_high, new_low, new_epoch, new_count\n    else\n"
        "      break\n    end",
    ),
    Mutant("a new counter is not listed", "redis.call('SADD'", "redis.call('SISMEMBER'"),
]
