-- Enters a session, or finds it entered already.
-- KEYS[1] partition; ARGV[1] session, [2] highest generation seen, [3] highest token seen, [4] unused,
--   [5] schema version and number of partitions, [6] 1 if an absent partition is certainly a first start
-- RETURNS {OK, generation, recovering 0 | 1, last token} | {UNFIT, version and partitions found} | {REFUSED, why}
local id, seen, highest = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
read_ahead({'v', 'g', 'f', 'ss', 's:' .. id})
local version = get('v')
if version and version ~= ARGV[5] then return {'UNFIT', version} end
local s = session(id)
if s and s.life == 'd' then return {'REFUSED', 'the session is being ended; open another'} end

local first = not get('g') and ARGV[6] == '1' and seen == 0
meet(seen, highest)
if first then
  recovering = false
  put_generation(server_replid())
end
if not version then put('v', ARGV[5]) end
if highest > tonumber(get('f') or '0') then put('f', text(highest)) end
if not s then
  sessions[id] = {life = 'a', counter = 0, last = 0, acked = 0, entries = 0, slots = 0, batch = 0, from = 0}
  put_session(id)
  local all = get('ss')
  put('ss', all and all .. ' ' .. id or id)
end
local token = get('f')
commit()
return {'OK', text(generation), recovering and '1' or '0', token}
