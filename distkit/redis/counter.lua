-- The counter's server side: one request of one instance, on any number of counters.
-- spec/PROTOCOL.md names every key, field, argument and reply; spec/RULES.md has the rules (R1...).
--
-- KEYS  1 instances   2 keys   3.. a counter each
-- ARGV  1 instance  2 session (0: open one; negative: leave it)  3 seq  4 acked  5 threshold ms
--       6 wall ms ('': TIME)   7.. four for each counter: remembered epoch, count, seq; steps
--       (to open: 7 the session that the instance had last, 0: none)
-- Reply {0} no session, {-1, seq} late, {1, session} opened, or {1, then for each counter the state
--       before its steps: total's high and low part, epoch, count; or four nils: not a counter}.
--
-- What this file keeps, beyond the rules:
--   * All is read before anything is written, and what can fail comes first: an error changes nothing.
--   * A call costs a constant number of commands. A counter's slices are looked through only when one
--     of them may be dead: when its oldest heartbeat has reached the threshold, or a session was
--     closed since the last look. Heartbeats only grow, so the oldest is a lower bound.
--   * Numbers are exact. A count fits a double; a total may not, since deaths and returns move it
--     without a step. It is kept as high * 2^53 + low, both of one sign; in range means high = 0.
--   * It is fast, since everybody's calls wait for it. To format a number costs a third of a command,
--     and to make a function a sixth: so a field stays the text that was read for as long as it is not
--     computed with, and what only some requests need is made in `rare`, when it is needed.

local MAX = 9007199254740991
local SPAN = 9007199254740992
local HEAD = ':' -- reserved in every hash: no instance id contains a colon
local OK, NO_SESSION, LATE = 1, 0, -1

local call, match, format, tonumber = redis.call, string.match, string.format, tonumber
local me, session = ARGV[1], ARGV[2]
local seq, acked, threshold = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

-- The clock and this instance's entry -------------------------------------------------------------

local instances = call('HMGET', KEYS[1], HEAD, me)
local wall = tonumber(ARGV[6])
if not wall then
  local time = call('TIME')
  wall = time[1] * 1000 + math.floor(time[2] / 1000)
end
local wall_text = format('%.0f', wall)

-- Where only this hash was lost, what counters know of closed sessions must not seem current.
local now, now_text, opened, closed = wall, wall_text, '0', wall_text
if instances[1] then -- R3: only steps forward count
  local last_now, last_wall
  last_now, last_wall, opened, closed = match(instances[1], '^(%S+) (%S+) (%S+) (%S+)$')
  now = last_now + math.max(0, wall - last_wall)
  if now ~= wall then
    now_text = format('%.0f', now)
  end
end

local my_session, my_seq
if instances[2] then
  my_session, my_seq = match(instances[2], '^%S+ (%S+) (%S+)$')
  my_seq = tonumber(my_seq)
end

-- R4: the heartbeat goes with the clock, in one write. Without a number, the clock alone.
local function write_instances(number, last)
  local clock = now_text .. ' ' .. wall_text .. ' ' .. opened .. ' ' .. closed
  if number then
    call('HSET', KEYS[1], HEAD, clock, me, now_text .. ' ' .. number .. ' ' .. last)
  else
    call('HSET', KEYS[1], HEAD, clock)
  end
end

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

-- The head of a counter, as five texts; or nothing: what stands there is not one of ours.
local function read_head(key, found)
  if found.err then
    return nil
  elseif found[1] then
    return match(found[1], '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  elseif call('EXISTS', key) == 0 then
    return '0', '0', '0', now_text, closed
  end
end

-- What only some requests need ----------------------------------------------------------------------

local function rare()
  local CHUNK = 1000 -- fields in one HMGET or HDEL: Lua's stack ends near 8,000
  local tools = {}
  local dead, closing = {}, {} -- owners found dead: as a set, and in order

  local function close(number_of_sessions)
    closed = format('%.0f', closed + number_of_sessions)
  end

  -- R5: which of these names are dead, and the oldest heartbeat of the others.
  local function look_at(names)
    local found, oldest = {}, now
    for first = 1, #names, CHUNK do
      local last = math.min(first + CHUNK - 1, #names)
      local entries = call('HMGET', KEYS[1], unpack(names, first, last))
      for i = first, last do
        local name, entry = names[i], entries[i - first + 1]
        local heartbeat = entry and tonumber(match(entry, '^%S+'))
        if not heartbeat or now - heartbeat >= threshold then
          found[#found + 1] = name
          if entry and not dead[name] then
            dead[name] = true
            closing[#closing + 1] = name
          end
        elseif heartbeat < oldest then
          oldest = heartbeat
        end
      end
    end
    return found, oldest
  end

  function tools.delete_fields(key, names)
    for first = 1, #names, CHUNK do
      call('HDEL', key, unpack(names, first, math.min(first + CHUNK - 1, #names)))
    end
  end

  -- R8: whoever was found dead learns of it on its next request.
  function tools.close_dead_sessions()
    if #closing > 0 then
      tools.delete_fields(KEYS[1], closing)
      close(#closing)
    end
  end

  -- R10: Redis has lost writes. Each instance is to find out, and to put its slices back.
  function tools.close_every_session()
    call('DEL', KEYS[1])
    close(1)
  end

  function tools.close_this_session()
    call('HDEL', KEYS[1], me)
    close(1)
  end

  -- R14: an open closes the sessions of the dead, so that entries do not pile up.
  function tools.sweep()
    local names = {}
    for _, name in ipairs(call('HKEYS', KEYS[1])) do
      if name ~= HEAD and name ~= me then
        names[#names + 1] = name
      end
    end
    look_at(names)
    tools.close_dead_sessions()
  end

  -- R8: the counter without the slices of the dead; of the total, only what was current goes.
  -- Returns the names that are gone, the total without them, and the oldest heartbeat that is left.
  function tools.remove_dead(key, epoch, high, low)
    local fields, names, slices = call('HGETALL', key), {}, {}
    for i = 1, #fields, 2 do
      local name = fields[i]
      if name ~= HEAD and name ~= me then
        names[#names + 1] = name
        slices[name] = fields[i + 1]
      end
    end
    local gone, oldest = look_at(names)
    high, low = tonumber(high), tonumber(low)
    for _, name in ipairs(gone) do
      local count, made_in = match(slices[name], '^(%S+) (%S+)')
      if made_in == epoch then
        high, low = add(high, low, -count)
      end
    end
    return gone, format('%.0f', high), format('%.0f', low), format('%.0f', oldest)
  end

  -- R11: a retry's reply to what it wrote is the state before, kept in the slice. Returns what is to
  -- be answered for each such counter; nothing, if a slice does not know this request, although
  -- the session does: then Redis has lost writes.
  function tools.read_records()
    local records = {}
    for i = 1, #KEYS - 2 do
      local found = redis.pcall('HMGET', KEYS[i + 2], HEAD, me)
      if ARGV[6 + 4 * i] ~= '' and read_head(KEYS[i + 2], found) then
        local last, high, low, epoch, count =
          match(found[2] or '', '^%S+ %S+ (%S+) (%S+) (%S+) (%S+) (%S+)$')
        if last ~= ARGV[3] then
          return nil
        end
        records[i] = { tonumber(high), tonumber(low), tonumber(epoch), tonumber(count) }
      end
    end
    return records
  end

  return tools
end

local tools -- once they were needed

-- A session: opened, and left ------------------------------------------------------------------------

if session == '0' then
  if my_seq and my_seq > seq then
    write_instances()
    return { LATE, my_seq }
  end
  if my_seq == seq then
    write_instances(my_session, ARGV[3])
    return { OK, tonumber(my_session) }
  end
  tools = rare()
  -- Not if a late copy of an earlier open has made it: then its session is a newer one.
  if my_seq and my_seq < acked and tonumber(my_session) <= tonumber(ARGV[7]) then
    tools.close_every_session()
  end
  tools.sweep()
  opened = format('%.0f', opened + 1)
  write_instances(opened, ARGV[3])
  return { OK, tonumber(opened) }
end

local leaving = string.sub(session, 1, 1) == '-'
if leaving then
  session = string.sub(session, 2)
end
if my_session ~= session then
  write_instances()
  return { NO_SESSION }
end
if my_seq < acked then
  rare().close_every_session()
  write_instances()
  return { NO_SESSION }
end
if my_seq > seq then
  write_instances()
  return { LATE, my_seq }
end
if leaving then -- R16
  rare().close_this_session()
  write_instances()
  return { OK }
end

-- One counter ---------------------------------------------------------------------------------------

-- R9, R15 and R2: the steps on (high, low, epoch, count). Each is a letter and a number: + inc,
-- = set_on_instance, ! set, ~ delete; before it, if it has a condition: l, g, e or n, and a number.
local function run(steps, high, low, epoch, count)
  local at, size = 1, #steps
  local alone = tonumber(steps) -- "+1" is a number as it stands: the usual step needs no parsing
  while at <= size do
    local test, operand, op, digits, after = '', nil, '+', alone, size + 1
    if not alone then
      op, digits, after = match(steps, '^([+=!~])(%-?%d+)()', at)
      if not op then
        test, operand, op, digits, after = match(steps, '^([lgen])(%-?%d+)([+=!])(%-?%d+)()', at)
      end
    end
    local n, holds = tonumber(digits), test == ''
    local sum_low, sum_count = low + n, count + n
    if not holds and high == 0 then -- its reply is the total before, which must be in range
      local subject, than = op == '=' and count or low, tonumber(operand)
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
    at = after
  end
  return high, low, epoch, count
end

local writes = {} -- for each counter that has changed: key, head, slice, and the dead in it
local created -- the keys of those that are new

-- Executes the steps on the i-th counter: returns the state before, and notes what is to be written.
local function visit(i)
  local key, at = KEYS[i + 2], 3 + 4 * i
  local found = redis.pcall('HMGET', key, HEAD, me)
  local epoch, high, low, oldest, looked = read_head(key, found)
  if not looked then
    return false, false, false, false
  end
  local age, gone, slice, changed = now - oldest, nil, nil, false
  if found[1] and (age >= threshold or age < 0 or looked ~= closed) then
    tools = tools or rare()
    gone, high, low, oldest = tools.remove_dead(key, epoch, high, low)
    changed = true
  end

  -- R10: the owner's memory wins over an older or equal copy, unless the epoch has moved on. What
  -- already counts the same is left as it is.
  local count, made_in, last = '0', '', -1
  if found[2] then
    count, made_in, last = match(found[2], '^(%S+) (%S+) (%S+)')
  end
  local remembered_in, have, want = ARGV[at], '0', '0' -- a stale slice counts as 0
  if remembered_in ~= epoch and tonumber(remembered_in) > tonumber(epoch) then
    epoch, high, low, changed = remembered_in, '0', '0', true
  end
  if made_in == epoch then
    have = count
  end
  if remembered_in == epoch then
    want = ARGV[at + 1]
  end
  if want ~= have and tonumber(last) <= tonumber(ARGV[at + 2]) then
    local high_then, low_then = add(tonumber(high), tonumber(low), -have)
    high_then, low_then = add(high_then, low_then, tonumber(want))
    high, low, have = format('%.0f', high_then), format('%.0f', low_then), want
    slice = have .. ' ' .. epoch .. ' ' .. ARGV[at + 2] .. ' 0 0 0 0'
    changed = true
  end

  local high_before, low_before, epoch_before, count_before =
    tonumber(high), tonumber(low), tonumber(epoch), tonumber(have)
  local steps = ARGV[at + 3]
  if steps ~= '' then
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
    slice = format('%.0f', count_after) .. ' ' .. epoch .. ' ' .. ARGV[3] .. ' ' .. record
    changed = true
  end
  if changed then
    if not found[1] then
      created = created or {}
      created[#created + 1] = key
    end
    if gone then -- all slices were looked at now: whoever is closed below, too
      looked = ''
    end
    local head = epoch .. ' ' .. high .. ' ' .. low .. ' ' .. oldest .. ' ' .. looked
    writes[#writes + 1] = { key, head, slice, gone }
  end
  return high_before, low_before, epoch_before, count_before
end

-- A request -----------------------------------------------------------------------------------------

local reply, records = { OK }, nil
if my_seq == seq then
  tools = rare()
  records = tools.read_records()
  if not records then
    tools.close_every_session()
    write_instances()
    return { NO_SESSION }
  end
end
for i = 1, #KEYS - 2 do
  local at = 4 * i - 2
  if records and records[i] then
    reply[at], reply[at + 1], reply[at + 2], reply[at + 3] = unpack(records[i])
  else
    reply[at], reply[at + 1], reply[at + 2], reply[at + 3] = visit(i)
  end
end

for i = 1, created and #created or 0 do
  call('SADD', KEYS[2], match(created[i], '[^:]*$'))
end
if tools then
  tools.close_dead_sessions()
end
for i = 1, #writes do
  local key, head, slice, gone = unpack(writes[i], 1, 4)
  if gone then
    tools.delete_fields(key, gone)
    head = head .. closed
  end
  if slice then
    call('HSET', key, HEAD, head, me, slice)
  else
    call('HSET', key, HEAD, head)
  end
end
write_instances(session, ARGV[3])
return reply
