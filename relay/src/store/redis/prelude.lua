-- What every script shares: reads through a cache, one write at the end, and the rules of the queue.
-- KEYS[1] partition: one hash, so that one slot has it all and its loss or eviction is all or nothing.
--
-- Fields of the hash (numbers are decimal text; a ref is "session:slot"; "-" is none; names and ids have no control
-- characters, so line breaks separate):
--   v            schema version, number of partitions
--   g            generation number, 1 if recovering else 0, master_replid of the server that it was made on
--   f            last fencing token
--   ss           ids of all sessions
--   s:<session>  life (a alive, d dead), counter, last event, last acknowledged event, entries, slots ever used, last batch,
--                first slot that a reap has not yet emptied
--   r:<session>  what the last batch was answered: outcomes, line break, unsettled mutexes
--   u:<session>:<n>  unacknowledged event n: slot, kind (g granted, x stolen), token, lock id
--   m:<mutex>    mode of the holders, 1 if a theft goes on, then first and last of: holders, robbed holders, waiters; waiters
--   e:<session>:<slot>  entry: lock id, state (h holds, r holds and was told of a theft, w waits), mode, token, previous and
--                next in its list, mutex, metadata with a leading 1, or 0 without
local key = KEYS[1]
local BOUND = 500
local CHUNK = 3000 -- arguments of one redis.call; Lua's stack takes 8,000
local cache, written, raised = {}, {}, {}

-- '..' and tostring print 14 digits and would corrupt a token.
local function text(n) return string.format('%.0f', n) end

local function read_ahead(fields)
  for from = 1, #fields, CHUNK do
    local to = math.min(from + CHUNK - 1, #fields)
    local values = redis.call('HMGET', key, unpack(fields, from, to))
    for i = from, to do
      if cache[fields[i]] == nil then cache[fields[i]] = values[i - from + 1] end
    end
  end
end

local function get(field)
  local value = cache[field]
  if value == nil then
    value = redis.call('HGET', key, field)
    cache[field] = value
  end
  return value
end

-- A value of false deletes the field.
local function put(field, value)
  cache[field] = value
  written[field] = true
end

-- Writes what was put, and sends the hints. The last thing that a script does.
local function commit()
  local sets, dels = {}, {}
  for field in pairs(written) do
    local value = cache[field]
    if value then
      sets[#sets + 1] = field
      sets[#sets + 1] = value
    else
      dels[#dels + 1] = field
    end
  end
  for from = 1, #sets, CHUNK do redis.call('HSET', key, unpack(sets, from, math.min(from + CHUNK - 1, #sets))) end
  for from = 1, #dels, CHUNK do redis.call('HDEL', key, unpack(dels, from, math.min(from + CHUNK - 1, #dels))) end
  for session, events in pairs(raised) do redis.call('PUBLISH', key .. ':' .. session, table.concat(events, '\n')) end
end

-- Generation ---------------------------------------------------------------------------------------------------------------

local generation, recovering = 0, true

local function put_generation(replid)
  put('g', text(generation) .. ' ' .. (recovering and '1' or '0') .. ' ' .. replid)
end

local function server_replid()
  return string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
end

-- A restart, a failover or a loss of data changes the replication id, and may have lost the last writes; so does a caller
-- that has seen a newer generation show that they are lost. Then a new generation begins, in which nothing is granted until
-- every older lease must have run out, and tokens go on above anything that may have been given.
local function meet(seen, highest)
  local replid = server_replid()
  local stored_replid
  local g = get('g')
  if g then
    local n, r
    n, r, stored_replid = string.match(g, '^(%d+) (%d) (%w+)$')
    generation, recovering = tonumber(n), r == '1'
  end
  if stored_replid ~= replid or seen > generation then
    generation, recovering = math.max(generation, seen) + 1, true
    put_generation(replid)
    local now = redis.call('TIME')
    local micros = tonumber(now[1]) * 1000000 + tonumber(now[2])
    put('f', text(math.max(tonumber(get('f') or '0'), highest, micros)))
  end
end

-- Sessions -----------------------------------------------------------------------------------------------------------------

local sessions = {}

local function session(id)
  local found = sessions[id]
  if found == nil then
    local value = get('s:' .. id)
    found = false
    if value then
      local life, counter, last, acked, entries, slots, batch, from =
        string.match(value, '^(%a) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
      found = {
        life = life, counter = tonumber(counter), last = tonumber(last), acked = tonumber(acked),
        entries = tonumber(entries), slots = tonumber(slots), batch = tonumber(batch), from = tonumber(from),
      }
    end
    sessions[id] = found
  end
  return found
end

local function alive(id)
  local found = session(id)
  return found and found.life == 'a'
end

local function put_session(id)
  local s = sessions[id]
  put('s:' .. id, table.concat({
    s.life, text(s.counter), text(s.last), text(s.acked), text(s.entries), text(s.slots), text(s.batch),
    text(s.from),
  }, ' '))
end

-- Forgets events up to this number, at most BOUND in a call; the next acknowledgement goes on.
local function acknowledge(id, number)
  local s = session(id)
  local to = math.min(number, s.last, s.acked + BOUND)
  if to > s.acked then
    for n = s.acked + 1, to do put('u:' .. id .. ':' .. text(n), false) end
    s.acked = to
    put_session(id)
  end
end

-- Adds the unacknowledged events after this number to a reply, at most BOUND.
local function add_events(reply, id, after)
  local s = session(id)
  local from = math.max(after, s.acked) + 1
  local to = math.min(s.last, from + BOUND - 1)
  local fields = {}
  for n = from, to do fields[#fields + 1] = 'u:' .. id .. ':' .. text(n) end
  read_ahead(fields)
  for n = from, to do reply[#reply + 1] = text(n) .. ' ' .. cache['u:' .. id .. ':' .. text(n)] end
end

-- Whose call it is: ARGV[1] session, ARGV[2] generation seen, ARGV[3] highest token seen, ARGV[4] events acknowledged.
-- Returns nothing, or the reply that ends the call.
local caller = ARGV[1]
-- Whether the reply carries the caller's events. Where it does not, the caller gets hints as everybody else.
local replies_with_events = false

local function admit()
  local seen, highest = tonumber(ARGV[2]), tonumber(ARGV[3])
  meet(seen, highest)
  if seen ~= generation then return {'NEWGEN', text(generation), recovering and '1' or '0'} end
  if not alive(caller) then return {'NOSESS'} end
end

local function listen()
  local highest = tonumber(ARGV[3])
  if highest > tonumber(get('f') or '0') then put('f', text(highest)) end
  acknowledge(caller, tonumber(ARGV[4]))
end

-- Entries and their lists --------------------------------------------------------------------------------------------------

local entries, mutexes = {}, {}

local function entry(ref)
  local found = entries[ref]
  if found == nil then
    local value = get('e:' .. ref)
    found = false
    if value then
      local id, state, mode, token, prev, next, mutex, metadata =
        string.match(value, '^([^\n]*)\n(%a)\n(%a)\n(%d+)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
      found = {
        id = id, state = state, mode = mode, token = tonumber(token), prev = prev, next = next, mutex = mutex,
        metadata = metadata,
      }
    end
    entries[ref] = found
  end
  return found
end

local function put_entry(ref)
  local e = entry(ref)
  put('e:' .. ref, e and table.concat({
    e.id, e.state, e.mode, text(e.token), e.prev, e.next, e.mutex, e.metadata,
  }, '\n'))
end

local function mutex_of(name)
  local found = mutexes[name]
  if found == nil then
    local value = get('m:' .. name)
    found = false
    if value then
      local mode, theft, hh, ht, rh, rt, wh, wt, waiting =
        string.match(value, '^(%a) (%d) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%d+)$')
      found = {
        mode = mode, theft = theft == '1', waiting = tonumber(waiting),
        h = {head = hh, tail = ht}, r = {head = rh, tail = rt}, w = {head = wh, tail = wt},
      }
    end
    mutexes[name] = found
  end
  return found
end

-- A mutex that nobody holds or waits for leaves nothing behind.
local function put_mutex(name)
  local m = mutexes[name]
  if m and m.h.head == '-' and m.r.head == '-' and m.w.head == '-' then
    m = false
    mutexes[name] = false
  end
  put('m:' .. name, m and table.concat({
    m.mode, m.theft and '1' or '0', m.h.head, m.h.tail, m.r.head, m.r.tail, m.w.head, m.w.tail, text(m.waiting),
  }, ' '))
end

local function new_mutex(name)
  mutexes[name] = {
    mode = 'x', theft = false, waiting = 0,
    h = {head = '-', tail = '-'}, r = {head = '-', tail = '-'}, w = {head = '-', tail = '-'},
  }
  return mutexes[name]
end

local function push_back(m, ref)
  local e = entry(ref)
  local list = m[e.state]
  e.prev, e.next = list.tail, '-'
  if list.tail == '-' then
    list.head = ref
  else
    entry(list.tail).next = ref
    put_entry(list.tail)
  end
  list.tail = ref
end

local function push_front(m, ref)
  local e = entry(ref)
  local list = m[e.state]
  e.prev, e.next = '-', list.head
  if list.head == '-' then
    list.tail = ref
  else
    entry(list.head).prev = ref
    put_entry(list.head)
  end
  list.head = ref
end

local function unlink(m, ref)
  local e = entry(ref)
  local list = m[e.state]
  if e.prev == '-' then
    list.head = e.next
  else
    entry(e.prev).next = e.next
    put_entry(e.prev)
  end
  if e.next == '-' then
    list.tail = e.prev
  else
    entry(e.next).prev = e.prev
    put_entry(e.next)
  end
end

local function admits(m, mode)
  return (m.h.head == '-' and m.r.head == '-') or (m.mode == 's' and mode == 's')
end

-- Removes an entry and nothing else: the caller settles its mutex.
local function take_out(ref)
  local e = entry(ref)
  local m = mutex_of(e.mutex)
  unlink(m, ref)
  if e.state == 'w' then m.waiting = m.waiting - 1 end
  put_mutex(e.mutex)
  entries[ref] = false
  put_entry(ref)
  local id = string.match(ref, '^(.*):')
  local s = session(id)
  s.entries = s.entries - 1
  put_session(id)
  return e
end

-- Turns a waiter into a holder.
local function grant(ref)
  local token = tonumber(get('f') or '0') + 1
  put('f', text(token))
  local e = entry(ref)
  local m = mutex_of(e.mutex)
  unlink(m, ref)
  m.waiting = m.waiting - 1
  e.state, e.token = 'h', token
  push_back(m, ref)
  m.mode, m.theft = e.mode, false
  put_entry(ref)
  put_mutex(e.mutex)
  return token
end

-- Appends to the stream of the entry's session. The dead hear nothing: their stream goes when they go.
local function tell(ref, kind)
  local id, slot = string.match(ref, '^(.*):(%d+)$')
  local s = session(id)
  if s.life ~= 'a' then return end
  local e = entry(ref)
  s.last = s.last + 1
  put_session(id)
  local event = table.concat({slot, kind, text(e.token), e.id}, ' ')
  put('u:' .. id .. ':' .. text(s.last), event)
  if id ~= caller or not replies_with_events then
    raised[id] = raised[id] or {}
    table.insert(raised[id], text(s.last) .. ' ' .. event)
  end
end

local budget, cut = BOUND, {}

local function spend()
  if budget == 0 then return false end
  budget = budget - 1
  return true
end

-- What a mutex needs next to come to rest: s skip a dead session's waiter, g grant, x tell of the theft; and to whom.
local function next_step(name)
  local m = mutex_of(name)
  if not m then return nil end
  local head = m.w.head
  if head ~= '-' then
    if not alive(string.match(head, '^(.*):')) then return 's', head end
    if not recovering and admits(m, entry(head).mode) then return 'g', head end
  end
  if m.theft and m.h.head ~= '-' then return 'x', m.h.head end
end

-- Hands a mutex on and tells of thefts until nothing is left to do, or the budget is used up.
local function settle(name)
  local step, ref = next_step(name)
  while step do
    if not spend() then
      cut[name] = true
      return
    end
    if step == 's' then
      take_out(ref)
    elseif step == 'g' then
      grant(ref)
      tell(ref, 'g')
    else
      local m = mutex_of(name)
      unlink(m, ref)
      entry(ref).state = 'r'
      push_back(m, ref)
      put_entry(ref)
      put_mutex(name)
      tell(ref, 'x')
    end
    step, ref = next_step(name)
  end
end

-- Those mutexes that the bound cut short and that still have something to be done.
local function unsettled()
  local names = {}
  for name in pairs(cut) do
    if next_step(name) then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

-- Frees as many of a session's entries as the bound allows, and deletes the session when none is left. It is marked dead
-- first, so that nothing is handed to it on the way.
local function end_session(id)
  local s = session(id)
  if not s then return 'GONE' end
  s.life = 'd'
  put_session(id)
  local looked = 0
  while s.entries > 0 do
    if looked >= 20 * BOUND then return 'MORE' end
    local fields = {}
    local to = math.min(s.from + BOUND, s.slots)
    for n = s.from, to - 1 do fields[#fields + 1] = 'e:' .. id .. ':' .. text(n) end
    read_ahead(fields)
    for n = s.from, to - 1 do
      local ref = id .. ':' .. text(n)
      if entry(ref) then
        if not spend() then
          put_session(id)
          return 'MORE'
        end
        settle(take_out(ref).mutex)
      end
      s.from = n + 1
    end
    put_session(id)
    looked = looked + BOUND
  end
  -- Its stream may be long if it stood still while it was handed much.
  local to = math.min(s.last, s.acked + 4 * BOUND)
  for n = s.acked + 1, to do put('u:' .. id .. ':' .. text(n), false) end
  s.acked = to
  if to < s.last then
    put_session(id)
    return 'MORE'
  end
  put('s:' .. id, false)
  put('r:' .. id, false)
  sessions[id] = false
  local others = {}
  for other in string.gmatch(get('ss') or '', '%S+') do
    if other ~= id then others[#others + 1] = other end
  end
  put('ss', #others > 0 and table.concat(others, ' '))
  return 'GONE'
end
