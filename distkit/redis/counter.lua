-- The server side of the counter: one request of one instance, on any number of counters.
-- spec/PROTOCOL.md defines every key, field, argument and reply; R1, R2, ... are the rules of spec/RULES.md.
--
-- KEYS  1 instances   2 keys   3.. one counter each
-- ARGV  1 instance  2 session (0: open one; n: a request; +n: one that puts slices back; -n: leave it)
--       3 seq  4 acked  5 threshold ms  6 promise ms (0: none)  7 wall ms ('': TIME)
--       8.. four for each counter: remembered epoch, count, seq; steps
--       (to open: 8 the instance's last session, 0 if it had none  9 its label)
-- Reply {1, session} opened, {1} left, {0} no session, {-1, seq} late, {-2, layout} Redis holds another layout,
--       {1, then for each counter the view before its steps: the total's high and low part, epoch, count; or
--       four nils: not a counter}
--
-- The properties this file keeps, beyond the rules:
--   * It reads everything before it writes anything, and what can fail comes first: an error changes nothing.
--   * A request costs a constant number of commands. A counter's slices are searched only if one of them may be
--     dead or old: T has reached the counter's `expires`, a session was closed since the last search, or the
--     caller's own slice is of another session. Leases only get longer, so the earliest is a lower bound.
--   * The work is bounded, too, but for what expires: an open looks at FEW sessions, and as long as T has not
--     reached `expires`, a search looks only at the slices of those whose sessions were closed since the last one.
--   * Numbers are exact. A count fits a double; a total may not, because deaths and returns move it without a
--     step. It is kept as high * 2^53 + low, both of one sign; it is in range if and only if high is 0.
--   * It is fast, because all callers wait for it. Formatting a number costs a third of a command, and making a
--     function a sixth. So a field stays the text that was read as long as nothing is computed with it, what
--     only some requests need is made in `rare` when it is needed, and the usual request makes no function.
--   * It runs on Lua 5.1 and 5.4.

local LAYOUT = 1
local MAX = 9007199254740991
local SPAN = 9007199254740992
local HEAD = ':' -- reserved in every hash: no instance id contains a colon
local CLOSINGS = ':closed' -- in `instances`: the last FEW sessions that were closed
local FEW = 64
local HERE = '0' -- in `keys`: the counter's hash is there; any other number: it is gone, and had this epoch
local OK, NO_SESSION, LATE, OTHER_LAYOUT = 1, 0, -1, -2

-- The i-th counter is KEYS[OWN + i]. Its arguments begin at ARGV[FOUR * i + ARGS], its part of the reply at
-- FOUR * i + REPLY.
local OWN, FOUR, ARGS, REPLY = 2, 4, 4, -2

local call, match, format, tonumber = redis.call, string.match, string.format, tonumber
local me, session, seq, threshold = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])

-- The clock and the caller's session ----------------------------------------------------------------------

local instances = call('HMGET', KEYS[1], HEAD, me)
local wall_text = ARGV[7]
if wall_text == '' then
  local time = call('TIME')
  wall_text = time[1] .. string.sub('00000' .. time[2], -6, -4)
end

local wall = tonumber(wall_text)
local now, now_text, opened, closed, due = wall, wall_text, '0', nil, '0'
if instances[1] then
  local last_now, last_wall
  last_now, last_wall, opened, closed, due = match(instances[1], '^1 ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+)$')
  if not due then
    local other = match(instances[1], '^%d+ %-?%d+ %d+ %d+$') and 0 or tonumber(match(instances[1], '^%d+'))
    if other and other ~= LAYOUT then
      return { OTHER_LAYOUT, other }
    end
    return redis.error_reply('ERR ' .. KEYS[1] .. ' holds something else')
  end
  local passed = wall - last_wall
  if passed > 0 then -- R3: only steps forward count
    now = last_now + passed
    now_text = now ~= wall and format('%.0f', now) or wall_text
  else
    now, now_text = tonumber(last_now), last_now
  end
  if due ~= '0' and now > tonumber(due) then -- R19: nobody was heard who had promised to be
    now, due = math.max(tonumber(last_now), tonumber(due)), '0'
    now_text = format('%.0f', now)
  end
end

-- The caller's lease and promise, once it is heard.
local expires_text = format('%.0f', now + threshold)
local due_if_heard = due
if ARGV[6] ~= '0' and (due == '0' or now + ARGV[6] > tonumber(due)) then
  due_if_heard = format('%.0f', now + ARGV[6])
end

local my_session, fresh, my_seq, label -- fresh: 1 if it has only been opened
if instances[2] then
  my_session, fresh, my_seq, label = match(instances[2], '^[^ ]+ [^ ]+ ([^ ]+) ([^ ]+) ([^ ]+)(.*)$')
end

-- The usual request ---------------------------------------------------------------------------------------

-- One inc, or the same inc k times, by the owner of a current slice, on a counter that needs no search. The
-- rest of this file would do the same; this does it without making a function.
local found -- what was read of the first counter
if my_session == session and my_seq == ARGV[4] and #KEYS == OWN + 1 then
  local key, at = KEYS[OWN + 1], FOUR + ARGS
  local remembered_in, remembered, as_of, steps = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local by = tonumber(steps)
  if not by then
    local n, times = match(steps, '^%+(%-?%d+)%*(%d+)$')
    by = n and n * times
  end
  if by and by <= MAX and by >= -MAX then
    found = redis.pcall('HMGET', key, HEAD, me)
    if found[1] and found[2] then
      local epoch, low, expires, looked = match(found[1], '^1 ([^ ]+) 0 ([^ ]+) ([^ ]+) ([^ ]+)$')
      local count, made_in, last, of = match(found[2], '^([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+)')
      local written_by = tonumber(last)
      if looked == closed and of == session and made_in == epoch and remembered_in == epoch
        and written_by <= tonumber(my_seq) and (remembered == count or written_by > tonumber(as_of))
        and (remembered ~= '0' or epoch ~= '0' or redis.pcall('HGET', KEYS[2], match(key, '[^:]*$')) == HERE) then
        local bound, new_low, new_count = tonumber(expires), low + by, count + by
        if now < bound and bound <= now + threshold and new_low <= MAX and new_low >= -MAX
          and new_count <= MAX and new_count >= -MAX then
          call('HSET', key,
            HEAD, '1 ' .. epoch .. ' 0 ' .. format('%.0f', new_low) .. ' ' .. expires .. ' ' .. looked,
            me, format('%.0f', new_count) .. ' ' .. epoch .. ' ' .. ARGV[3] .. ' ' .. session
              .. ' 0 ' .. low .. ' ' .. epoch .. ' ' .. count)
          call('HSET', KEYS[1],
            HEAD, '1 ' .. now_text .. ' ' .. wall_text .. ' ' .. opened .. ' ' .. closed .. ' ' .. due_if_heard,
            me, expires_text .. ' ' .. ARGV[5] .. ' ' .. session .. ' 0 ' .. ARGV[3] .. label)
          return { OK, 0, tonumber(low), tonumber(epoch), tonumber(count) }
        end
      end
    end
  end
end

-- All other requests: tools -------------------------------------------------------------------------------

-- high * 2^53 + low, plus n, for |n| <= MAX: no intermediate result leaves the exact range.
local function add(high, low, n)
  if n > 0 and low > MAX - n then
    high, low = high + 1, low - SPAN + n
  elseif n < 0 and low < -MAX - n then
    high, low = high - 1, low + SPAN + n
  else
    low = low + n
  end
  if high > 0 and low < 0 then
    high, low = high - 1, low + SPAN
  elseif high < 0 and low > 0 then
    high, low = high + 1, low - SPAN
  end
  return high, low
end

-- What only some requests need.
local function rare()
  local CHUNK = 1000 -- fields in one command: Lua's stack ends near 8,000
  local unpack = table.unpack or unpack
  local tools = {}

  -- R3: whatever the outcome, the clock has moved.
  function tools.write_clock()
    call('HSET', KEYS[1], HEAD, '1 ' .. now_text .. ' ' .. wall_text .. ' ' .. opened .. ' ' .. closed .. ' ' .. due)
  end

  -- R4: the lease and the clock are written at once; here, those of an open.
  function tools.open(number)
    call('HSET', KEYS[1],
      HEAD, '1 ' .. now_text .. ' ' .. wall_text .. ' ' .. opened .. ' ' .. closed .. ' ' .. due_if_heard,
      me, expires_text .. ' ' .. ARGV[5] .. ' ' .. number .. ' 1 ' .. ARGV[3] .. label)
  end

  local dead, closing = {}, {} -- instances found dead: as a set, and in order
  local listed -- what `keys` says of each counter of this request
  local listings, unlisted = {}, {} -- what it is to say; whom it is to forget
  local missing = {} -- those that it says are here, and are not

  -- A number that no earlier one reaches, whatever Redis has lost: the server's own time, in microseconds.
  function tools.stamp(last)
    local time = call('TIME')
    return format('%.0f', math.max(last + 1, time[1] * 1000000 + time[2]))
  end

  local function in_chunks(command, key, words)
    for first = 1, #words, CHUNK do
      call(command, key, unpack(words, first, math.min(first + CHUNK - 1, #words)))
    end
  end

  -- The values of these fields; nothing, if the key cannot be read as a hash.
  local function read_all(key, fields)
    local values = {}
    for first = 1, #fields, CHUNK do
      local some = redis.pcall('HMGET', key, unpack(fields, first, math.min(first + CHUNK - 1, #fields)))
      if some.err then
        return nil
      end
      for i = 1, #some do
        values[first + i - 1] = some[i]
      end
    end
    return values
  end

  function tools.delete_fields(key, names)
    in_chunks('HDEL', key, names)
  end

  -- The last closings are kept as ":stamp::id:stamp::id:stamp": the value of `closed` before them; then whose session
  -- was closed, and the value that `closed` got. They hold only if they end at the present value. Only an id has two
  -- colons before it, and none contains any: so ":stamp::" is a stamp.
  local function last_closings()
    local text = call('HGET', KEYS[1], CLOSINGS)
    return text and string.sub(text, -#closed - 1) == ':' .. closed and text or ':' .. closed
  end

  -- The sessions of these instances are closed: `closed` is renewed, and says so. If there are too many, all
  -- slices will be searched.
  function tools.note_closed(names)
    local stamp, text = tools.stamp(closed), last_closings()
    for i = 1, #names <= FEW and #names or 0 do
      text = text .. '::' .. names[i] .. ':' .. stamp
    end
    local _, number = string.gsub(text, '::', '')
    for _ = FEW + 1, number do
      text = match(text, '^:[^:]*::[^:]*(.*)$')
    end
    closed = stamp
    call('HSET', KEYS[1], CLOSINGS, #names <= FEW and text or ':' .. stamp)
  end

  -- Whose sessions were closed since `closed` had this value; nothing, if that is too long ago.
  local function closed_since(looked)
    local text, names = last_closings(), {}
    local start = string.find(text, ':' .. looked .. '::', 1, true)
    if not start then
      return looked == closed and names or nil
    end
    for name in string.gmatch(string.sub(text, start), '::([^:]*)') do
      names[#names + 1] = name
    end
    return names
  end

  -- What `keys` says of a counter: nothing, HERE or an epoch. A set is the layout without a number.
  function tools.listed(key)
    if not listed then
      local names = {}
      for i = 3, #KEYS do
        names[i - 2] = match(KEYS[i], '[^:]*$')
      end
      listed = {}
      local epochs = read_all(KEYS[2], names)
      if not epochs and call('TYPE', KEYS[2]).ok == 'set' then
        tools.refused = 0
        return false
      end
      for i, epoch in ipairs(epochs or call('HMGET', KEYS[2], HEAD)) do -- what it is, the error says
        listed[KEYS[i + 2]] = epoch
      end
    end
    return listed[key]
  end

  -- What is left of a counter that is not there: its epoch. Whether it is lost: then `keys` says it is here.
  function tools.trace_of(key)
    local epoch = tools.listed(key)
    if epoch == HERE then
      missing[#missing + 1] = match(key, '[^:]*$')
    end
    return epoch or '0', epoch == HERE
  end

  -- This epoch, or the one that `keys` has kept, if it is later.
  function tools.later_epoch(key, epoch)
    local kept = tools.listed(key)
    return kept and tonumber(kept) > tonumber(epoch) and kept or epoch
  end

  -- What `keys` is to say of a counter: HERE or an epoch; or nothing.
  function tools.list(key, epoch)
    local name = match(key, '[^:]*$')
    if epoch then
      listings[#listings + 1], listings[#listings + 2] = name, epoch
    else
      unlisted[#unlisted + 1] = name
    end
  end

  function tools.write_keys()
    in_chunks('HSET', KEYS[2], listings)
    in_chunks('HDEL', KEYS[2], unlisted)
  end

  -- Whether this counter, which was not read as one of this layout, is missing. If something else is there, it
  -- may be a counter of another layout.
  function tools.is_missing(key, texts)
    if texts[1] then
      local old = match(texts[1], '^%d+ %-?%d+ %-?%d+ %d+ %d+$') and 0
      local other = old or tonumber(match(texts[1], '^%d+'))
      if other ~= LAYOUT then
        tools.refused = other or tools.refused
      end
      return false
    end
    return not texts.err and call('EXISTS', key) == 0
  end

  -- R11: the reply to a retry is the view before, as the slice keeps it.
  function tools.record(slice)
    local high, low, epoch, count = match(slice or '', '^[^ ]+ [^ ]+ [^ ]+ [^ ]+ ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+)$')
    return tonumber(high), tonumber(low), tonumber(epoch), tonumber(count)
  end

  -- R5, R17: which of these slices do not count: those of the dead, and those of an earlier session of their
  -- owner; and the earliest expiry of the others. The dead are to be closed.
  function tools.search(names, sessions)
    local gone, earliest = {}, nil
    local entries = read_all(KEYS[1], names)
    for i, name in ipairs(names) do
      local expires, of = match(entries[i] or '', '^([^ ]+) [^ ]+ ([^ ]+)')
      if not expires or now >= tonumber(expires) then
        gone[#gone + 1] = name
        if expires and not dead[name] then
          dead[name] = true
          closing[#closing + 1] = name
        end
      elseif sessions and sessions[name] ~= of then
        gone[#gone + 1] = name
      elseif not earliest or tonumber(expires) < tonumber(earliest) then
        earliest = expires
      end
    end
    return gone, earliest
  end

  -- R8: whoever was found dead learns of it with its next request.
  function tools.close_dead_sessions()
    if #closing > 0 then
      tools.delete_fields(KEYS[1], closing)
      tools.note_closed(closing)
    end
  end

  -- R10: Redis has lost writes. Each instance is to find out, and to put its slices back.
  function tools.close_every_session()
    in_chunks('HDEL', KEYS[2], missing) -- each is found lost once
    call('DEL', KEYS[1])
    closed = tools.stamp(closed)
    tools.write_clock()
  end

  -- R14: an open closes sessions of the dead, so that entries do not pile up: it draws FEW, and three more,
  -- because two fields are no sessions, and one may be its own.
  function tools.sweep()
    local names = {}
    for _, name in ipairs(call('HRANDFIELD', KEYS[1], FEW + 3) or {}) do -- fakeredis: false, not nothing
      if name ~= HEAD and name ~= CLOSINGS and name ~= me then
        names[#names + 1] = name
      end
    end
    tools.search(names)
    tools.close_dead_sessions()
  end

  -- All slices of a counter but the caller's, and that one; or, as long as nobody can have expired, only those
  -- whose sessions were closed since the last search.
  local function slices_to_search(key, expires, looked)
    local names, slices = {}, {}
    local suspects = now < tonumber(expires) and closed_since(looked)
    local function take(name, slice)
      if slice and not slices[name] then
        slices[name] = slice
        if name ~= HEAD and name ~= me then
          names[#names + 1] = name
        end
      end
    end
    if suspects then
      suspects[#suspects + 1] = me
      local found = read_all(key, suspects)
      for i, name in ipairs(suspects) do
        take(name, found[i])
      end
    else
      local fields = call('HGETALL', key)
      for i = 1, #fields, 2 do
        take(fields[i], fields[i + 1])
      end
    end
    local mine = slices[me]
    slices[me], slices[HEAD] = nil, nil
    return names, slices, mine, suspects
  end

  -- R8, R17: the counter without the slices that no longer count; of the total, only what was current goes.
  -- Returns the names that are gone, the total without them, the earliest expiry, and how many slices of others
  -- are left.
  function tools.remove_dead(key, epoch, high, low, expires, looked)
    local names, slices, mine, partly = slices_to_search(key, expires, looked)
    local sessions = {}
    for name, slice in pairs(slices) do
      sessions[name] = match(slice, '^[^ ]+ [^ ]+ [^ ]+ ([^ ]+)')
    end
    local gone, earliest = tools.search(names, sessions)
    local others = #names - #gone
    if partly then
      others, earliest = call('HLEN', key) - 1 - #gone - (mine and 1 or 0), expires
    end
    if mine and match(mine, '^[^ ]+ [^ ]+ [^ ]+ ([^ ]+)') == session then
      if not earliest or now + threshold < tonumber(earliest) then
        earliest = expires_text
      end
    elseif mine then
      gone[#gone + 1], slices[me] = me, mine
    end
    high, low = tonumber(high), tonumber(low)
    for _, name in ipairs(gone) do
      local count, made_in = match(slices[name], '^([^ ]+) ([^ ]+)')
      if made_in == epoch then
        high, low = add(high, low, -count)
      end
    end
    return gone, format('%.0f', high), format('%.0f', low), earliest, others
  end

  return tools
end

local tools -- once they were needed
if not closed then -- What counters know of closed sessions must not seem current if only this hash was lost.
  tools = rare()
  closed = tools.stamp(0)
end
my_seq = tonumber(my_seq)
local acked = tonumber(ARGV[4])

-- A session: opened, and left ------------------------------------------------------------------------------

local first = string.byte(session)
local opening, restoring, leaving = session == '0', first == 43, first == 45 -- '+', '-'
if restoring or leaving then
  session = string.sub(session, 2)
end
if opening then
  tools = tools or rare()
  if my_seq and (my_seq > seq or my_seq == seq and fresh == '0') then -- R17: of an earlier life of its id
    tools.write_clock()
    return { LATE, my_seq }
  end
  if my_seq == seq then
    tools.open(my_session)
    return { OK, tonumber(my_session) }
  end
  if my_seq then
    -- Not lost writes if a late copy of an earlier open has made the entry: then its session is a newer one.
    if my_seq < acked and tonumber(my_session) <= tonumber(ARGV[8]) then
      call('DEL', KEYS[1])
      closed = tools.stamp(closed)
    else
      tools.note_closed({ me })
    end
  end
  tools.sweep()
  opened, label = tools.stamp(opened), ' ' .. ARGV[9]
  tools.open(opened)
  return { OK, tonumber(opened) }
end
if my_session ~= session then
  rare().write_clock()
  return { NO_SESSION }
end
if my_seq < acked then
  rare().close_every_session()
  return { NO_SESSION }
end
if my_seq > seq then
  rare().write_clock()
  return { LATE, my_seq }
end
if leaving then -- R16; R19: whoever leaves takes its promise back
  local expires, silence = match(instances[2], '^([^ ]+) ([^ ]+)')
  if ARGV[6] ~= '0' and tonumber(due) == expires - silence + ARGV[6] then
    due = '0'
  end
  tools = rare()
  call('HDEL', KEYS[1], me)
  tools.note_closed({ me })
  tools.write_clock()
  return { OK }
end

-- The counters ----------------------------------------------------------------------------------------------

-- R9, R15 and R2: the steps on (high, low, epoch, count). Each is a letter and a number: + inc,
-- = set_on_instance, ! set, ~ delete; before it, if it has a condition: l, g, e or n, and a number; after it,
-- if it is to run more than once: * and how often.
local function run(steps, high, low, epoch, count)
  local at, size = 1, #steps
  local alone = tonumber(steps) -- "+1" is a number as it stands: the usual step needs no parsing
  while at <= size do
    local test, operand, op, digits, times, after = '', nil, '+', alone, '', size + 1
    if not alone then
      op, digits, times, after = match(steps, '^([+=!~])(%-?%d+)%*?(%d*)()', at)
      if not op then
        test, operand, op, digits, after = match(steps, '^([lgen])(%-?%d+)([+=!])(%-?%d+)()', at)
      end
    end
    local n, than = tonumber(digits), tonumber(operand)
    for _ = 1, tonumber(times) or 1 do
      local sum_low, sum_count, holds = low + n, count + n, test == ''
      if not holds and high == 0 then -- its reply is the total before, which must be in range
        local subject = op == '=' and count or low
        holds = test == 'l' and subject < than or test == 'g' and subject > than
          or test == 'e' and subject == than or test == 'n' and subject ~= than
      end
      local new_high, new_low, new_epoch, new_count = high, low, epoch, count
      if not holds then -- nothing changes
      elseif op == '+' and high == 0 and sum_low <= MAX and sum_low >= -MAX then
        new_low, new_count = sum_low, sum_count -- the usual case of what follows
      elseif op == '+' then
        new_high, new_low = add(high, low, n)
        new_count = sum_count
      elseif op == '=' then
        new_high, new_low = add(high, low, -count)
        new_high, new_low = add(new_high, new_low, n)
        new_count = n
      elseif op == '!' then
        new_high, new_low, new_epoch, new_count = 0, n, epoch + 1, n
      else -- its reply is the total before, too
        new_low, new_epoch, new_count = 0, epoch + 1, 0
      end
      if new_high == 0 and new_count <= MAX and new_count >= -MAX then
        high, low, epoch, count = new_high, new_low, new_epoch, new_count
      end
    end
    at = after
  end
  return high, low, epoch, count
end

-- For each counter: its view before the steps, and what is to be written. (It is a loop without functions
-- because a function costs as much as half a command here.)
local reply, writes, lost, retry = { OK }, {}, false, my_seq == seq
for i = 1, #KEYS - OWN do
  local key, at = KEYS[OWN + i], FOUR * i + ARGS
  local remembered_in, remembered, as_of, steps = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local looking, dropping = steps == '?', steps == 'x' -- the instance's own steps, which write no slice
  local writing = steps ~= '' and not looking and not dropping
  if looking or dropping then
    tools = tools or rare()
  end

  -- The counter, and the caller's slice in it, if it is one of this session; a stale one counts as 0.
  local texts = found or redis.pcall('HMGET', key, HEAD, me)
  local there, ours, epoch, high, low, expires, looked = texts[1], true, '0', '0', '0', nil, nil
  if there then
    epoch, high, low, expires, looked = match(there, '^1 ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+)$')
  end
  if not looked then
    tools = tools or rare()
    epoch, ours = '0', tools.is_missing(key, texts)
    if ours then
      local is_lost
      epoch, is_lost = tools.trace_of(key)
      lost = lost or is_lost and not restoring and not dropping
    end
  end
  local count, made_in, last, of
  if texts[2] then
    count, made_in, last, of = match(texts[2], '^([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+)')
  end
  local mine, have, want = of == session, '0', '0'
  if mine and made_in == epoch then
    have = count
  end

  -- R10: does the caller remember it like that? If not, Redis has lost writes; unless a request that was given
  -- up has run. No slice is newer than the session to which it belongs. And a counter of which the caller
  -- remembers nothing has no slices that count unless it is listed.
  if remembered_in == epoch then
    want = remembered
  end
  local newer = remembered_in ~= epoch and tonumber(remembered_in) > tonumber(epoch)
  local ran = retry and writing
  if ours and ran then
    lost = lost or not mine or last ~= ARGV[3]
  elseif not ours or restoring or dropping then -- nothing is proved
  elseif newer or mine and tonumber(last) > my_seq
    or want ~= have and not (mine and tonumber(last) > tonumber(as_of)) then
    lost = true
  elseif there and remembered_in == '0' and remembered == '0' then
    tools = tools or rare()
    if tools.listed(key) ~= HERE then
      local _, _, _, _, others = tools.remove_dead(key, epoch, high, low, expires, looked)
      lost = lost or others > 0 or mine and now < tonumber(match(instances[2], '^[^ ]+'))
    end
  end

  local high_before, low_before, epoch_before, count_before = false, false, false, false
  if ran and ours then
    tools = tools or rare()
    high_before, low_before, epoch_before, count_before = tools.record(texts[2])
  elseif ours and not lost then
    local gone, others = nil, there and -1 or 0 -- -1: not counted
    if there and (now >= tonumber(expires) or looked ~= closed or of and not mine) then
      tools = tools or rare()
      gone, high, low, expires, others = tools.remove_dead(key, epoch, high, low, expires, looked)
      looked = nil
      if others == 0 and not mine then -- it is not there any more: `keys` may know its epoch better
        epoch = tools.later_epoch(key, epoch)
        newer = tonumber(remembered_in) > tonumber(epoch)
        want = remembered_in == epoch and remembered or '0'
      end
    end

    -- R10: the owner's memory wins over any copy, unless the epoch has moved on.
    local slice
    if restoring and (remembered_in ~= '0' or remembered ~= '0') then
      if newer then
        epoch, high, low, have, want = remembered_in, '0', '0', '0', remembered
      end
      local high_then, low_then = add(tonumber(high), tonumber(low), -have)
      high_then, low_then = add(high_then, low_then, tonumber(want))
      high, low, have = format('%.0f', high_then), format('%.0f', low_then), want
      slice = have .. ' ' .. epoch .. ' ' .. as_of .. ' ' .. session .. ' 0 0 0 0'
    end

    high_before, low_before, epoch_before, count_before =
      tonumber(high), tonumber(low), tonumber(epoch), tonumber(have)
    -- R18: the caller's slice goes. (If the caller remembers a count, a request that it gave up has run. It
    -- learns of the 0 now and lets go with a later look: a retry of this one would miss the slice.)
    local goes = (mine or slice) and (dropping or looking and have == '0' and want == '0')
    if writing then
      local high_after, low_after, epoch_after, count_after =
        run(steps, high_before, low_before, epoch_before, count_before)
      local record = high .. ' ' .. low .. ' ' .. epoch .. ' ' .. have
      if high_after ~= high_before then
        high = format('%.0f', high_after)
      end
      if epoch_after ~= epoch_before then
        epoch = format('%.0f', epoch_after)
      end
      low = format('%.0f', low_after)
      slice = format('%.0f', count_after) .. ' ' .. epoch .. ' ' .. ARGV[3] .. ' ' .. session .. ' ' .. record
    elseif goes then -- R18
      if have ~= '0' then
        local high_after, low_after = add(high_before, low_before, -count_before)
        high, low = format('%.0f', high_after), format('%.0f', low_after)
      end
      gone, slice = gone or {}, nil
      gone[#gone + 1] = me
      if others < 0 then
        others = call('HLEN', key) - 2
      end
    end

    -- R18: a counter without slices is not there: what is left of it is its epoch, if that is not 0.
    local vanishes = there and others == 0 and not slice and (goes or not mine)
    if vanishes then
      tools = tools or rare()
      epoch = tools.later_epoch(key, epoch)
      tools.list(key, epoch ~= '0' and epoch)
      writes[#writes + 1] = { key }
    elseif slice or there and gone then
      if slice and (not expires or now + threshold < tonumber(expires)) then
        expires = expires_text
      end
      local head = '1 ' .. epoch .. ' ' .. high .. ' ' .. low .. ' ' .. expires .. ' '
      writes[#writes + 1] = { key, head, looked or false, slice or false, gone }
    end
    if slice and others == 0 and not mine or looking and there and not vanishes and tools.listed(key) ~= HERE then
      tools.list(key, HERE)
    end
  end
  local place = FOUR * i + REPLY
  reply[place], reply[place + 1], reply[place + 2], reply[place + 3] =
    high_before, low_before, epoch_before, count_before
end

-- The request -----------------------------------------------------------------------------------------------

if tools and tools.refused then
  return { OTHER_LAYOUT, tools.refused }
end
if lost then
  tools = tools or rare()
  tools.close_every_session()
  return { NO_SESSION }
end
if tools then
  tools.write_keys()
  tools.close_dead_sessions()
end
for i = 1, #writes do
  local write = writes[i]
  local key, head, looked, slice, gone = write[1], write[2], write[3], write[4], write[5]
  if not head then
    call('DEL', key)
  else
    if gone then
      tools.delete_fields(key, gone)
    end
    head = head .. (looked or closed) -- all slices were searched: of whoever was closed just now, too
    if slice then
      call('HSET', key, HEAD, head, me, slice)
    else
      call('HSET', key, HEAD, head)
    end
  end
end
call('HSET', KEYS[1],
  HEAD, '1 ' .. now_text .. ' ' .. wall_text .. ' ' .. opened .. ' ' .. closed .. ' ' .. due_if_heard,
  me, expires_text .. ' ' .. ARGV[5] .. ' ' .. session .. ' 0 ' .. ARGV[3] .. label)
return reply
