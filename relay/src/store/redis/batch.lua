-- Carries out a batch: applied as a whole and in order; the same one again changes nothing and is answered the same.
-- KEYS[1] partition; ARGV[1] session, [2] generation seen, [3] highest token seen, [4] events acknowledged, [5] batch number,
--   then each operation:
--   A slot lock-id mutex mode(x|s) admission(q queue | i if available | s steal) metadata with a leading 1, or 0
--   C slot lock-id mutex mode(x|s) token metadata as above: a lock of an older generation is claimed
--   R slot lock-id
--   S mutex
-- RETURNS {OK, outcomes, events..} | {NOSESS} | {NEWGEN, generation, recovering 0 | 1} | {REFUSED, why}
--   outcomes: a line of G<token> granted | Q<ahead> queued | U unavailable | F refused | R released | C cancelled | N not held |
--   S settled | L lost, then a line for each unsettled mutex; event: number slot kind token lock-id
local WORDS = {A = 7, C = 7, R = 3, S = 2}
local ops, i = {}, 6
local fields = {'g', 'f', 's:' .. caller, 'r:' .. caller}
while ARGV[i] do
  local words = WORDS[ARGV[i]]
  ops[#ops + 1] = i
  if ARGV[i] ~= 'S' then fields[#fields + 1] = 'e:' .. caller .. ':' .. ARGV[i + 1] end
  if ARGV[i] == 'A' or ARGV[i] == 'C' then fields[#fields + 1] = 'm:' .. ARGV[i + 3] end
  if ARGV[i] == 'S' then fields[#fields + 1] = 'm:' .. ARGV[i + 1] end
  i = i + words
end
read_ahead(fields)

replies_with_events = true
local ended = admit()
if ended then
  commit()
  return ended
end
if #ops > BOUND then return {'REFUSED', text(#ops) .. ' operations; at most 500 go in a batch'} end
local seq = tonumber(ARGV[5])
local me = session(caller)
if seq < me.batch then
  return {'REFUSED', 'batch ' .. text(seq) .. ' is older than the last one, ' .. text(me.batch)}
end
if seq == me.batch then
  -- A repetition. Not even its acknowledgement is taken: whoever sends it will say it again.
  local reply = {'OK', get('r:' .. caller) or ''}
  add_events(reply, caller, tonumber(ARGV[4]))
  commit()
  return reply
end
listen()

-- The mutexes of what is removed are known only now.
fields = {}
for _, at in ipairs(ops) do
  if ARGV[at] == 'R' then
    local e = entry(caller .. ':' .. ARGV[at + 1])
    if e then fields[#fields + 1] = 'm:' .. e.mutex end
  end
end
if #fields > 0 then read_ahead(fields) end

-- What is answered whose slot is taken.
local function present_state(there, id)
  if there.id ~= id then return 'F' end
  if there.state ~= 'w' then return 'G' .. text(there.token) end
  -- An upper bound: counting those ahead would walk the queue.
  return 'Q' .. text(mutex_of(there.mutex).waiting - 1)
end

local function acquire(slot, id, name, mode, admission, metadata)
  local ref = caller .. ':' .. slot
  local there = entry(ref)
  if there then return present_state(there, id) end
  local steals = admission == 's'
  if steals and mode == 's' then return 'F' end
  local m = mutex_of(name)
  local first = steals or not m or m.w.head == '-'
  local at_once = first and not recovering and (not m or admits(m, mode))
  if not at_once and admission == 'i' then return 'U' end

  m = m or new_mutex(name)
  entries[ref] = {id = id, state = 'w', mode = mode, token = 0, prev = '-', next = '-', mutex = name, metadata = metadata}
  local ahead = first and 0 or m.waiting
  if first then push_front(m, ref) else push_back(m, ref) end
  m.waiting = m.waiting + 1
  me.entries = me.entries + 1
  me.slots = math.max(me.slots, tonumber(slot) + 1)
  put_entry(ref)
  put_mutex(name)
  if at_once then return 'G' .. text(grant(ref)) end
  if steals then
    m.theft = true
    put_mutex(name)
    settle(name)
  end
  return 'Q' .. text(ahead)
end

-- The holders beside whom a claim cannot stay, as far as the bound lets one look, and whether it must give way.
local function in_the_way(name, mode, id, token)
  local m = mutex_of(name)
  local found, later = {}, false
  if not m or admits(m, mode) then return found, later end
  for _, list in ipairs({'h', 'r'}) do
    local ref = m[list].head
    while ref ~= '-' and #found <= BOUND do
      local e = entry(ref)
      found[#found + 1] = ref
      later = later or (e.id ~= id and e.token > token)
      ref = e.next
    end
  end
  return found, later
end

local function reassert(slot, id, name, mode, token, metadata)
  local ref = caller .. ':' .. slot
  token = tonumber(token)
  local there = entry(ref)
  if there then return present_state(there, id) end
  if not recovering then return 'L' end
  local found, later = in_the_way(name, mode, id, token)
  if later or #found > budget then return 'L' end
  for _, other in ipairs(found) do
    spend()
    if entry(other).id ~= id then tell(other, 'l') end
    take_out(other)
  end
  if token > tonumber(get('f') or '0') then put('f', text(token)) end
  local m = mutex_of(name) or new_mutex(name)
  entries[ref] = {id = id, state = 'h', mode = mode, token = token, prev = '-', next = '-', mutex = name, metadata = metadata}
  m.mode = mode
  push_back(m, ref)
  me.entries = me.entries + 1
  me.slots = math.max(me.slots, tonumber(slot) + 1)
  put_entry(ref)
  put_mutex(name)
  -- A theft may be under way already.
  settle(name)
  return 'G' .. text(token)
end

local function remove(slot, id)
  local ref = caller .. ':' .. slot
  local e = entry(ref)
  if not e or e.id ~= id then return 'N' end
  take_out(ref)
  settle(e.mutex)
  return e.state == 'w' and 'C' or 'R'
end

local outcomes = {}
for n, at in ipairs(ops) do
  local kind = ARGV[at]
  if kind == 'A' then
    outcomes[n] = acquire(unpack(ARGV, at + 1, at + 6))
  elseif kind == 'C' then
    outcomes[n] = reassert(unpack(ARGV, at + 1, at + 6))
  elseif kind == 'R' then
    outcomes[n] = remove(ARGV[at + 1], ARGV[at + 2])
  else
    settle(ARGV[at + 1])
    outcomes[n] = 'S'
  end
end
local answer = table.concat(outcomes, ' ')
for _, name in ipairs(unsettled()) do answer = answer .. '\n' .. name end
me.batch = seq
put_session(caller)
put('r:' .. caller, answer)
local reply = {'OK', answer}
add_events(reply, caller, tonumber(ARGV[4]))
commit()
return reply
