-- A page of a session's entries.
-- KEYS[1] partition; ARGV[1] session, [2] first slot
-- RETURNS {next slot or '', slot, entry, slot, entry..}; an entry is as in the hash
local reply = {''}
local s = session(caller)
if not s then return reply end
local slot, found, looked = tonumber(ARGV[2]), 0, 0
while slot < s.slots do
  if looked >= 20 * BOUND then
    reply[1] = text(slot)
    return reply
  end
  local fields = {}
  local to = math.min(slot + BOUND, s.slots)
  for n = slot, to - 1 do fields[#fields + 1] = 'e:' .. caller .. ':' .. text(n) end
  read_ahead(fields)
  for n = slot, to - 1 do
    local value = cache['e:' .. caller .. ':' .. text(n)]
    if value then
      if found == BOUND then
        reply[1] = text(n)
        return reply
      end
      found = found + 1
      reply[#reply + 1] = text(n)
      reply[#reply + 1] = value
    end
  end
  looked = looked + to - slot
  slot = to
end
return reply
