"""Defects that are planted in a copy of the script, one at a time. The suite must find each of
them.

The first five were measured in another implementation (spec/UPSTREAM.md has the histories). The
others break one idea each that the script depends on. A defect is a piece of the script and its
replacement.
"""

from __future__ import annotations

from distkit.redis.script import COUNTER, Script


class Mutant:
    """A defect: pieces of the script and what stands in their place."""

    def __init__(self, name: str, was: str, becomes: str, *more: tuple[str, str]) -> None:
        self.name = name
        self._edits = ((was, becomes), *more)

    def script(self) -> Script:
        text = COUNTER.text
        for was, becomes in self._edits:
            assert text.count(was) == 1, f"{self.name}: the script has changed under it: {was}"
            text = text.replace(was, becomes)
        return Script(text)


MUTANTS = [
    Mutant(
        "a dead stale slice is subtracted from the total",
        "if made_in == epoch then\n        high, low",
        "if true then\n        high, low",
    ),
    Mutant(
        "a read adopts the epoch and revives the stale slice",
        "  if mine and made_in == epoch then\n    have = count\n",
        "  if mine and (made_in == epoch or steps == '') then\n    have, want = count, count\n",
    ),
    Mutant(
        "only positive slices are restored",
        "      high, low, have = format('%.0f', high_then), format('%.0f', low_then), want",
        "      want = tonumber(want) > 0 and want or '0'\n"
        "      high, low, have = format('%.0f', high_then), format('%.0f', low_then), want",
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
        "now >= tonumber(expires) then\n        gone",
        "now > tonumber(expires) then\n        gone",
    ),
    Mutant(
        "the search for the dead starts only past the threshold",
        "(now >= tonumber(expires) or",
        "(now > tonumber(expires) or",
    ),
    Mutant(
        "a late copy is executed",
        "\nif my_seq > seq then",
        "\nif false then",
    ),
    Mutant("a retry is executed again", "false, my_seq == seq\n", "false, false\n"),
    Mutant(
        "the number of the session is not compared",
        "if my_session ~= session then",
        "if not my_session then",
    ),
    Mutant(
        "a slice is put back although the epoch has moved on",
        "  if remembered_in == epoch then\n    want = remembered",
        "  if remembered_in == epoch or restoring then\n    want = remembered",
    ),
    Mutant(
        "an older epoch wins over the instance's memory",
        "      if newer then\n",
        "      if false then\n",
    ),
    Mutant(
        "a slice in Redis wins over an equally old memory",
        "tonumber(last) > tonumber(as_of)) then\n    lost",
        "tonumber(last) >= tonumber(as_of)) then\n    lost",
    ),
    Mutant(
        "an instance's memory wins over a newer slice",
        "not (mine and tonumber(last) > tonumber(as_of)) then",
        "true then",
    ),
    Mutant(
        "a read is not a heartbeat",
        "call('HSET', KEYS[1],\n  HEAD,",
        "local reads = #KEYS > OWN\nfor i = 1, #KEYS - OWN do\n"
        "  reads = reads and ARGV[FOUR * i + ARGS + 3] == ''\nend\nif reads then\n"
        "  rare().write_clock()\n  return reply\nend\ncall('HSET', KEYS[1],\n  HEAD,",
    ),
    Mutant(
        "the server's time follows the wall clock back",
        "  if passed > 0 then",
        "  if true then",
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
        "the earliest expiry is not recorded",
        "elseif not earliest or tonumber(expires) < tonumber(earliest) then",
        "elseif not earliest then",
    ),
    Mutant(
        "a closed session does not start a search for the dead",
        " or looked ~= closed or of",
        " or of",
        ("if looked == closed and of", "if of"),
    ),
    Mutant("a total beyond 2^53 loses a unit", "low - SPAN + n", "low - MAX + n"),
    Mutant(
        "a late copy of an open takes the session",
        "if my_seq and (my_seq > seq or",
        "if my_seq and (false or",
    ),
    Mutant(
        "a late copy of an open is taken for lost writes",
        " and tonumber(my_session) <= tonumber(ARGV[8]) then",
        " then",
    ),
    Mutant(
        "a retried open gets another session",
        "  if my_seq == seq then",
        "  if false then",
    ),
    Mutant(
        "a refused step stops the steps after it",
        "        high, low, epoch, count = new_high, new_low, new_epoch, new_count\n      end",
        "        high, low, epoch, count = new_high, new_low, new_epoch, new_count\n      else\n"
        "        after = size + 1\n        break\n      end",
    ),
    Mutant(
        "a new counter is not listed",
        "if slice and others == 0 and not mine or looking",
        "if looking",
    ),
    Mutant(
        "steps run whether or not their conditions hold",
        "count + n, test == ''",
        "count + n, true",
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
        "  call('HDEL', KEYS[1], me)\n",
        "  call('HLEN', KEYS[1])\n",
    ),
    Mutant(
        "a leave does not start a search for the dead",
        "call('HDEL', KEYS[1], me)\n  tools.note_closed({ me })",
        "call('HDEL', KEYS[1], me)",
    ),
    Mutant(
        "a late copy of a leave closes the next session",
        "if my_session ~= session then",
        "if my_session ~= session and not (leaving and my_session) then",
    ),
    # R10: losses
    Mutant(
        "session numbers start again after a loss",
        "  opened, label = tools.stamp(opened),",
        "  opened, label = format('%.0f', opened + 1),",
    ),
    Mutant(
        "a counter that is lost alone is taken for a new one",
        "lost = lost or is_lost and not restoring",
        "lost = lost or false",
    ),
    Mutant(
        "a counter that is not as its owner remembers it is taken as it is",
        "have and not (mine and tonumber(last) > tonumber(as_of)) then\n    lost = true",
        "have and not (mine and tonumber(last) > tonumber(as_of)) then\n    lost = lost",
        ("(remembered == count or written_by > tonumber(as_of))", "true"),
    ),
    Mutant(
        "an epoch that is older than its owner remembers is taken as it is",
        "elseif newer or mine",
        "elseif mine",
    ),
    Mutant(
        "a retry that finds no record is executed",
        "lost = lost or not mine or last ~= ARGV[3]",
        "lost = lost",
    ),
    Mutant(
        "a lost counter is found lost by everybody who comes",
        "    in_chunks('HDEL', KEYS[2], missing)",
        "    in_chunks('HLEN', KEYS[2], {})",
    ),
    Mutant(
        "a look does not list its counter again",
        "or looking and there and not vanishes and tools.listed(key) ~= HERE then",
        "then",
    ),
    Mutant(
        "counters seem searched after the loss of the sessions",
        "  closed = tools.stamp(0)",
        "  closed = match(redis.call('HGET', KEYS[3] or KEYS[1], HEAD) or '', '[^ ]+$') or '0'",
    ),
    Mutant(
        "a drop of what was put back is taken for lost writes",
        "restoring or dropping then",
        "restoring then",
    ),
    Mutant(
        "a slice may be newer than its session",
        "  elseif newer or mine and tonumber(last) > my_seq\n    or want",
        "  elseif newer or want",
        ("        and written_by <= tonumber(my_seq) and (", "        and ("),
    ),
    Mutant(
        "a look removes a slice of 0 that its owner remembers otherwise",
        " and have == '0' and want == '0')",
        " and have == '0')",
    ),
    Mutant(
        "a counter counts although it is not listed",
        "    if tools.listed(key) ~= HERE then\n      local",
        "    if false then\n      local",
    ),
    Mutant(
        "the usual request takes a counter that is not listed",
        "or redis.pcall('HGET', KEYS[2], match(key, '[^:]*$')) == HERE) then",
        "or true) then",
    ),
    Mutant(
        "a later epoch that was kept is lost to an old copy",
        "        epoch = tools.later_epoch(key, epoch)\n        newer",
        "        newer",
        ("      epoch = tools.later_epoch(key, epoch)\n      tools.list", "      tools.list"),
    ),
    # R17: a slice belongs to a session
    Mutant(
        "slices of an earlier session count",
        "elseif sessions and sessions[name] ~= of then",
        "elseif false then",
    ),
    Mutant(
        "an instance takes over the slices of its earlier session",
        "    elseif mine then\n      gone[#gone + 1], slices[me] = me, mine",
        "    elseif false then\n      gone[#gone + 1], slices[me] = me, mine",
    ),
    Mutant(
        "an open that replaces a session does not start a search",
        "      tools.note_closed({ me })\n    end\n  end\n  tools.sweep()",
        "    end\n  end\n  tools.sweep()",
    ),
    Mutant(
        "a request of an earlier life is taken for this open",
        "my_seq == seq and fresh == '0'",
        "false",
    ),
    Mutant(
        "an instance's label is lost with its next call",
        ".. ' 0 ' .. ARGV[3] .. label)\nreturn reply",
        ".. ' 0 ' .. ARGV[3] .. ' ')\nreturn reply",
    ),
    # R5: leases
    Mutant(
        "the caller's threshold judges the others",
        "if not expires or now >= tonumber(expires) then",
        "local _, lease = match(entries[i] or '', '^([^ ]+) ([^ ]+)')\n"
        "      if not expires or now >= expires - lease + threshold then",
    ),
    Mutant(
        "a new slice with a shorter lease does not bring the search forward",
        "if slice and (not expires or now + threshold < tonumber(expires)) then",
        "if slice and not expires then",
    ),
    Mutant(
        "the caller's own lease does not bring the search forward",
        "if not earliest or now + threshold < tonumber(earliest) then",
        "if not earliest then",
    ),
    # R19: an outage is not silence
    Mutant(
        "a broken promise does not stop the time",
        "if due ~= '0' and now > tonumber(due) then",
        "if false then",
    ),
    Mutant(
        "a broken promise stops the time for ever",
        "    now, due = math.max(tonumber(last_now), tonumber(due)), '0'\n",
        "    now = math.max(tonumber(last_now), tonumber(due))\n",
        ("if ARGV[6] ~= '0' and (due", "if now < tonumber(due) and (due"),
    ),
    Mutant(
        "a shorter promise replaces a longer one",
        "(due == '0' or now + ARGV[6] > tonumber(due))",
        "true",
    ),
    Mutant(
        "an instance that leaves still promises to be heard",
        "tonumber(due) == expires - silence + ARGV[6] then",
        "false then",
    ),
    Mutant(
        "an instance that leaves takes back the promises of others",
        "tonumber(due) == expires - silence + ARGV[6] then",
        "true then",
    ),
    # R18: counters vanish
    Mutant(
        "a counter that everybody has left stays",
        "local vanishes = there and",
        "local vanishes = false and",
    ),
    Mutant(
        "a counter vanishes although others count in it",
        "others = call('HLEN', key) - 2",
        "others = 0",
    ),
    Mutant(
        "a counter that was set vanishes with its epoch",
        "tools.list(key, epoch ~= '0' and epoch)",
        "tools.list(key, false)",
    ),
    Mutant(
        "a counter that has vanished stays listed",
        "      unlisted[#unlisted + 1] = name",
        "      listings[#listings + 1], listings[#listings + 2] = name, HERE",
    ),
    Mutant(
        "a new counter has not the epoch that the vanished one had",
        "return epoch or '0', epoch == HERE",
        "return '0', epoch == HERE",
    ),
    Mutant(
        "a look removes a slice that counts",
        "(dropping or looking and have == '0' and want == '0')",
        "(dropping or looking)",
    ),
    Mutant(
        "a look leaves a slice of 0",
        "(dropping or looking and have == '0' and want == '0')",
        "(dropping)",
    ),
    Mutant(
        "a drop leaves a slice that counts",
        "(dropping or looking and have == '0' and want == '0')",
        "((dropping or looking) and have == '0')",
    ),
    Mutant(
        "a dropped slice still counts",
        "        local high_after, low_after = add(high_before, low_before, -count_before)",
        "        local high_after, low_after = high_before, low_before",
    ),
    # The usual request
    Mutant(
        "the usual request starts no search",
        "if now < bound and",
        "if",
    ),
    Mutant(
        "the usual request takes a retry for a new one",
        "if my_session == session and my_seq == ARGV[4] and",
        "if my_session == session and",
    ),
    Mutant(
        "the usual request revives a stale slice",
        "if looked == closed and of == session and made_in == epoch and remembered_in == epoch",
        "if looked == closed and of == session",
    ),
    Mutant(
        "the usual request leaves the range",
        "new_low <= MAX and new_low >= -MAX\n",
        "true\n",
    ),
    Mutant(
        "the same inc many times counts once",
        "by = n and n * times",
        "by = n and n * 1",
    ),
    Mutant(
        "the same inc many times counts once where slices are searched",
        "for _ = 1, tonumber(times) or 1 do",
        "for _ = 1, 1 do",
    ),
    # Bounded work
    Mutant(
        "a closing does not say whose session it was",
        "text = text .. '::' .. names[i] .. ':' .. stamp",
        "text = text .. ':::' .. stamp",
    ),
    Mutant(
        "of several closings only the last is looked at",
        "'::([^:]*)') do\n      names[#names + 1] = name",
        "'::([^:]*)') do\n      names[1] = name",
    ),
    Mutant(
        "closings are believed after the stamp was renewed without them",
        "return text and string.sub(text, -#closed - 1) == ':' .. closed and text or ':' .. closed",
        "return text or ':' .. closed",
    ),
    Mutant(
        "only those whose sessions were closed are searched although somebody may have expired",
        "now < tonumber(expires) and closed_since(looked)",
        "closed_since(looked)",
    ),
    Mutant(
        "a search of a few knows the earliest expiry of all",
        "      others, earliest = call('HLEN', key) - 1 - #gone - (mine and 1 or 0), expires",
        "      others = call('HLEN', key) - 1 - #gone - (mine and 1 or 0)",
    ),
    Mutant(
        "whoever was just removed is one of the others",
        "call('HLEN', key) - 1 - #gone - (mine and 1 or 0)",
        "call('HLEN', key) - 1 - (mine and 1 or 0)",
    ),
    Mutant(
        "the caller is one of the others",
        "call('HLEN', key) - 1 - #gone - (mine and 1 or 0)",
        "call('HLEN', key) - 1 - #gone",
    ),
]
