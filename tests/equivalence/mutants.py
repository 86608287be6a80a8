"""Defects that are planted in a copy of the script, one at a time. The suite must find each of
them.

The first five were measured in another implementation (spec/UPSTREAM.md has the histories). The
others break one idea each that the script depends on. A defect is a piece of the script and its
replacement.
"""

from __future__ import annotations

from typing import NamedTuple

from distkit.redis.script import COUNTER, Script


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
        "if made_in == epoch then\n        high, low",
        "if true then\n        high, low",
    ),
    Mutant(
        "a read adopts the epoch and revives the stale slice",
        "  if want ~= have and",
        "  if ARGV[at + 3] == '' and found[2] and made_in ~= epoch then\n    have = count\n"
        "    slice, changed = count .. ' ' .. epoch .. ' ' .. last .. ' 0 0 0 0', true\n"
        "  elseif want ~= have and",
    ),
    Mutant(
        "only positive slices are restored",
        "    want = ARGV[at + 1]",
        "    want = tonumber(ARGV[at + 1]) > 0 and ARGV[at + 1] or '0'",
    ),
    Mutant(
        "counts beyond 2^53 are accepted",
        "if new_high == 0 and new_count <= MAX and new_count >= -MAX then",
        "if true then",
    ),
    Mutant(
        "an unbounded list is unpacked",
        "local CHUNK = 1000",
        "local CHUNK = 1000000",
    ),
    Mutant(
        "an instance is dead only past the threshold, not at it",
        "now - heartbeat >= threshold then",
        "now - heartbeat > threshold then",
    ),
    Mutant(
        "the search for the dead starts only past the threshold",
        "age >= threshold or",
        "age > threshold or",
    ),
    Mutant(
        "a late copy is executed",
        "\nif my_seq > seq then",
        "\nif false then",
    ),
    Mutant("a retry is executed again", "nil\nif my_seq == seq then", "nil\nif false then"),
    Mutant(
        "the number of the session is not compared",
        "if my_session ~= session then",
        "if not my_session then",
    ),
    Mutant(
        "a slice is put back although the epoch has moved on",
        "if remembered_in == epoch then",
        "if true then",
    ),
    Mutant(
        "an older epoch wins over the instance's memory",
        "if remembered_in ~= epoch and tonumber(remembered_in) > tonumber(epoch) then",
        "if false then",
    ),
    Mutant(
        "a slice in Redis wins over an equally old memory",
        "tonumber(last) <= tonumber(ARGV[at + 2])",
        "tonumber(last) < tonumber(ARGV[at + 2])",
    ),
    Mutant(
        "an instance's memory wins over a newer slice",
        "  if want ~= have and tonumber(last) <= tonumber(ARGV[at + 2]) then",
        "  if want ~= have then",
    ),
    Mutant(
        "a read is not a heartbeat",
        "write_instances(session, ARGV[3])\nreturn reply",
        "local reads = #KEYS > 2\nfor i = 1, #KEYS - 2 do\n  reads = reads and ARGV[6 + 4 * i] == ''\n"
        "end\nif reads then\n  write_instances()\nelse\n  write_instances(session, ARGV[3])\nend\n"
        "return reply",
    ),
    Mutant(
        "the server's time follows the wall clock back",
        "now = last_now + math.max(0, wall - last_wall)",
        "now = last_now + wall - last_wall",
    ),
    Mutant(
        "an open keeps the sessions of the dead",
        "if #closing > 0 then",
        "if false then",
    ),
    Mutant(
        "lost writes close no session",
        "\nif my_seq < acked then",
        "\nif false then",
    ),
    Mutant("set starts no new epoch", "0, n, epoch + 1, n", "0, n, epoch, n"),
    Mutant("delete starts no new epoch", "= 0, epoch + 1, 0", "= 0, epoch, 0"),
    Mutant(
        "the caller may be dead to itself",
        "if name ~= HEAD and name ~= me then\n        names[#names + 1] = name\n        slices",
        "if name ~= HEAD then\n        names[#names + 1] = name\n        slices",
    ),
    Mutant(
        "the oldest heartbeat is not recorded",
        "elseif heartbeat < oldest then",
        "elseif false then",
    ),
    Mutant(
        "a closed session does not start a search for the dead",
        " or looked ~= closed) then",
        ") then",
    ),
    Mutant("a total beyond 2^53 loses a unit", "low - SPAN + n", "low - MAX + n"),
    Mutant(
        "a late copy of an open takes the session",
        "if my_seq and my_seq > seq then",
        "if false then",
    ),
    Mutant(
        "a late copy of an open is taken for lost writes",
        " and tonumber(my_session) <= tonumber(ARGV[7]) then",
        " then",
    ),
    Mutant(
        "a retried open gets another session",
        "  if my_seq == seq then",
        "  if false then",
    ),
    Mutant(
        "a refused step stops the steps after it",
        "      high, low, epoch, count = new_high, new_low, new_epoch, new_count\n    end",
        "      high, low, epoch, count = new_high, new_low, new_epoch, new_count\n    else\n"
        "      break\n    end",
    ),
    Mutant("a new counter is not listed", "call('SADD'", "call('SISMEMBER'"),
    Mutant(
        "steps run whether or not their conditions hold",
        "local n, holds = tonumber(digits), test == ''",
        "local n, holds = tonumber(digits), true",
    ),
    Mutant("lt also holds for equal", "subject < than", "subject <= than"),
    Mutant("gt also holds for equal", "subject > than", "subject >= than"),
    Mutant("the condition of set_on_instance tests the total", "op == '=' and count or low", "low"),
    Mutant(
        "a condition holds on a total that is out of range",
        "if not holds and high == 0 then",
        "if not holds then",
    ),
    Mutant(
        "a leave does not close the session",
        "    call('HDEL', KEYS[1], me)\n",
        "    call('HLEN', KEYS[1])\n",
    ),
    Mutant(
        "a leave does not start a search for the dead",
        "call('HDEL', KEYS[1], me)\n    close(1)",
        "call('HDEL', KEYS[1], me)",
    ),
    Mutant(
        "a late copy of a leave closes the next session",
        "if my_session ~= session then",
        "if my_session ~= session and not (leaving and my_session) then",
    ),
]
