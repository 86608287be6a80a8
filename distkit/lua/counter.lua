-- The counter's server side: one request of one instance, on any number of counters.
-- spec/PROTOCOL.md names every key, field, argument and reply; the rules (R1...) are SPEC.md's.
--
-- KEYS  1 instances   2 keys   3.. a counter each
-- ARGV  1 instance  2 session (0: open one)  3 seq  4 acked  5 threshold ms  6 wall ms ('': TIME)
--       7.. four for each counter: remembered epoch, count, seq; steps
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

local MAX = 9007199254740991
local SPAN = 9007199254740992
local HEAD = ':' -- reserved in every hash: no instance id contains a colon
local CHUNK = 1000 -- fields in one HMGET or HDEL: Lua's stack ends near 8,000
local OK, NO_SESSION, LATE = 1, 0, -1

local me, session = ARGV[1], ARGV[2]
local seq, acked, threshold = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local clock, mine -- the head of the instances, and this instance's entry
local dead = {} -- owners found dead: their sessions are closed at the end
local closing = 0

-- Exact totals --------------------------------------------------------------------------------------

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

-- Fields --------------------------------------------------------------------------------------------

local function read_instances()
  local found = redis.call('HMGET', KEYS[1], HEAD, me)
  local wall = tonumber(ARGV[6])
  if not wall then
    local time = redis.call('TIME')
    wall = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  -- Where only this hash was lost, what counters know of closed sessions must not seem current.
  clock = { now = wall, wall = wall, opened = 0, closed = wall }
  if found[1] then -- R3: only steps forward count
    local now, last, opened, closed = string.match(found[1], '^(%S+) (%S+) (%S+) (%S+)$')
    clock.now = now + math.max(0, wall - last)
    clock.opened, clock.closed = tonumber(opened), tonumber(closed)
  end
  if found[2] then
    local heartbeat, number, last = string.match(found[2], '^(%S+) (%S+) (%S+)$')
    mine = { heartbeat = tonumber(heartbeat), session = number, seq = tonumber(last) }
  end
end

local function clock_text()
  return string.format('%.0f %.0f %.0f %.0f', clock.now, clock.wall, clock.opened, clock.closed)
end

local function write_clock()
  redis.call('HSET', KEYS[1], HEAD, clock_text())
end

-- R4: the heartbeat goes with the clock, in one write.
local function write_entry(number, last)
  redis.call('HSET', KEYS[1], HEAD, clock_text(),
    me, string.format('%.0f %s %.0f', clock.now, number, last))
end

-- R10: Redis has lost writes. Each instance is to find out, and to put its slices back.
local function close_every_session()
  redis.call('DEL', KEYS[1])
  clock.closed = clock.closed + 1
end

-- R5: for a list of names, whether each is dead, and the oldest heartbeat of the others.
local function look_at(names)
  local is_dead, oldest = {}, clock.now
  for first = 1, #names, CHUNK do
    local last = math.min(first + CHUNK - 1, #names)
    local entries = redis.call('HMGET', KEYS[1], unpack(names, first, last))
    for i = first, last do
      local entry = entries[i - first + 1]
      local heartbeat = entry and tonumber(string.match(entry, '^%S+'))
      if not heartbeat or clock.now - heartbeat >= threshold then
        is_dead[names[i]] = true
        if entry and not dead[names[i]] then
          dead[names[i]] = true
          closing = closing + 1
        end
      elseif heartbeat < oldest then
        oldest = heartbeat
      end
    end
  end
  return is_dead, oldest
end

local function delete_fields(key, names)
  for first = 1, #names, CHUNK do
    redis.call('HDEL', key, unpack(names, first, math.min(first + CHUNK - 1, #names)))
  end
end

local function names_of(set)
  local names = {}
  for name in pairs(set) do
    names[#names + 1] = name
  end
  return names
end

-- R8: whoever was found dead learns of it on its next request.
local function close_dead_sessions()
  if closing > 0 then
    delete_fields(KEYS[1], names_of(dead))
    clock.closed = clock.closed + closing
  end
end

-- Opening a session ---------------------------------------------------------------------------------

-- R14: an open closes the sessions of the dead, so that entries do not pile up.
local function sweep()
  local all, names = redis.call('HKEYS', KEYS[1]), {}
  for _, name in ipairs(all) do
    if name ~= HEAD and name ~= me then
      names[#names + 1] = name
    end
  end
  look_at(names)
  close_dead_sessions()
end

local function open()
  if mine and mine.seq > seq then
    write_clock()
    return { LATE, mine.seq }
  end
  if mine and mine.seq == seq then
    write_entry(mine.session, seq)
    return { OK, tonumber(mine.session) }
  end
  if mine and mine.seq < acked then
    close_every_session()
  end
  sweep()
  clock.opened = clock.opened + 1
  write_entry(string.format('%.0f', clock.opened), seq)
  return { OK, clock.opened }
end

-- One counter ---------------------------------------------------------------------------------------

-- What is read of one counter. A table made whole is several times cheaper than one that grows.
local function read_counter(i)
  local at = 7 + (i - 1) * 4
  local key, steps = KEYS[i + 2], ARGV[at + 3]
  local found = redis.pcall('HMGET', key, HEAD, me)
  local epoch, high, low, oldest, closed = 0, 0, 0, clock.now, clock.closed
  local foreign = found.err ~= nil -- not one of ours: this counter is refused, the others go on
  if not foreign and found[1] then
    epoch, high, low, oldest, closed =
      string.match(found[1], '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
    foreign = closed == nil
  elseif not foreign then
    foreign = redis.call('EXISTS', key) == 1
  end
  if foreign then
    return { key = key, steps = steps, foreign = true }
  end
  local count, made_in, last, record -- of the caller's slice; the record is read by a retry alone
  if found[2] then
    count, made_in, last, record = string.match(found[2], '^(%S+) (%S+) (%S+) (.*)$')
  end
  return {
    key = key, steps = steps, foreign = false, exists = found[1],
    memory_epoch = tonumber(ARGV[at]), memory_count = tonumber(ARGV[at + 1]),
    memory_seq = tonumber(ARGV[at + 2]),
    epoch = tonumber(epoch), high = tonumber(high), low = tonumber(low),
    oldest = tonumber(oldest), closed = tonumber(closed),
    count = tonumber(count or 0), made_in = tonumber(made_in or -1), seq = tonumber(last or -1),
    record = record, before = false, gone = false,
    changed = false, slice_changed = false,
  }
end

-- A slice that is stale, or not there, counts as 0.
local function count_of(c)
  return c.made_in == c.epoch and c.count or 0
end

-- R8: take out the slices of the dead; of the total, only what was current.
local function remove_dead(c)
  local age = clock.now - c.oldest
  if not c.exists or (age >= 0 and age < threshold and c.closed == clock.closed) then
    return
  end
  local all, names, slices = redis.call('HGETALL', c.key), {}, {}
  for i = 1, #all, 2 do
    if all[i] ~= HEAD and all[i] ~= me then
      names[#names + 1] = all[i]
      slices[all[i]] = all[i + 1]
    end
  end
  local is_dead, oldest = look_at(names)
  for name in pairs(is_dead) do
    local count, epoch = string.match(slices[name], '^(%S+) (%S+)')
    if tonumber(epoch) == c.epoch then
      c.high, c.low = add(c.high, c.low, -count)
    end
  end
  c.gone, c.oldest, c.changed = names_of(is_dead), oldest, true
end

-- R10: the owner's memory wins over an older or equal copy, unless the epoch has moved on. What
-- already counts the same is left as it is.
local function put_back(c)
  if c.memory_epoch > c.epoch then
    c.epoch, c.high, c.low, c.changed = c.memory_epoch, 0, 0, true
  end
  if c.seq > c.memory_seq then
    return
  end
  local have = count_of(c)
  local want = c.memory_epoch == c.epoch and c.memory_count or 0
  if want ~= have then
    c.high, c.low = add(c.high, c.low, -have)
    c.high, c.low = add(c.high, c.low, want)
    c.count, c.made_in, c.seq, c.record = want, c.epoch, c.memory_seq, '0 0 0 0'
    c.changed, c.slice_changed = true, true
  end
end

-- R9 and R2. Each step is a letter and a number: + inc, = set_on_instance, ! set, ~ delete.
local function run_steps(c)
  local high, low, epoch, count = c.high, c.low, c.epoch, count_of(c)
  for op, digits in string.gmatch(c.steps, '([+=!~])(%-?%d*)') do
    local n = tonumber(digits)
    local new_high, new_low, new_epoch, new_count
    if op == '+' then
      new_high, new_low = add(high, low, n)
      new_epoch, new_count = epoch, count + n
    elseif op == '=' then
      new_high, new_low = add(high, low, -count)
      new_high, new_low = add(new_high, new_low, n)
      new_epoch, new_count = epoch, n
    elseif op == '!' then
      new_high, new_low, new_epoch, new_count = 0, n, epoch + 1, n
    else -- its reply is the total before, which must be in range
      new_high, new_low, new_epoch, new_count = high, 0, epoch + 1, 0
    end
    if new_high == 0 and math.abs(new_count) <= MAX then
      high, low, epoch, count = new_high, new_low, new_epoch, new_count
    end
  end
  c.high, c.low, c.epoch = high, low, epoch
  c.count, c.made_in, c.seq = count, epoch, seq
  c.record = string.format('%.0f %.0f %.0f %.0f', unpack(c.before))
  c.changed, c.slice_changed = true, true
end

local function execute(c, retry)
  if c.foreign then
    c.before = { false, false, false, false }
    return
  end
  if retry and c.steps ~= '' then -- R11: the completion record answers
    local high, low, epoch, count = string.match(c.record, '^(%S+) (%S+) (%S+) (%S+)$')
    c.before = { tonumber(high), tonumber(low), tonumber(epoch), tonumber(count) }
    return
  end
  remove_dead(c)
  put_back(c)
  c.before = { c.high, c.low, c.epoch, count_of(c) }
  if c.steps ~= '' then
    run_steps(c)
  end
end

local function write_counter(c)
  if not c.changed then
    return
  end
  if c.gone then -- all slices were looked at, now
    c.closed = clock.closed
    delete_fields(c.key, c.gone)
  end
  local head = string.format('%.0f %.0f %.0f %.0f %.0f', c.epoch, c.high, c.low, c.oldest, c.closed)
  if c.slice_changed then
    redis.call('HSET', c.key, HEAD, head, me,
      string.format('%.0f %.0f %.0f %s', c.count, c.made_in, c.seq, c.record))
  else
    redis.call('HSET', c.key, HEAD, head)
  end
end

-- A request -----------------------------------------------------------------------------------------

-- The session says that this request was executed and a slice does not: Redis has lost writes.
local function lacks_a_record(counters)
  for _, c in ipairs(counters) do
    if not c.foreign and c.steps ~= '' and c.seq ~= seq then
      return true
    end
  end
  return false
end

local function request()
  if not mine or mine.session ~= session then
    write_clock()
    return { NO_SESSION }
  end
  if mine.seq < acked then
    close_every_session()
    write_clock()
    return { NO_SESSION }
  end
  if mine.seq > seq then
    write_clock()
    return { LATE, mine.seq }
  end
  local counters, retry = {}, mine.seq == seq
  for i = 1, #KEYS - 2 do
    counters[i] = read_counter(i)
  end
  if retry and lacks_a_record(counters) then
    close_every_session()
    write_clock()
    return { NO_SESSION }
  end
  local reply = { OK }
  for i, c in ipairs(counters) do
    execute(c, retry)
    for j = 1, 4 do
      reply[(i - 1) * 4 + 1 + j] = c.before[j]
    end
  end
  for _, c in ipairs(counters) do
    if c.changed and not c.exists then
      redis.call('SADD', KEYS[2], string.match(c.key, '[^:]*$'))
    end
  end
  close_dead_sessions()
  for _, c in ipairs(counters) do
    write_counter(c)
  end
  write_entry(session, seq)
  return reply
end

read_instances()
if session == '0' then
  return open()
end
return request()
