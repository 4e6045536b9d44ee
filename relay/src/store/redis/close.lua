-- Ends the caller's own session, whatever its counter.
-- KEYS[1] partition; ARGV[1] session
-- RETURNS {OK, GONE | MORE, unsettled mutexes..}
read_ahead({'g', 'f', 'ss', 's:' .. caller})
if not get('g') or not session(caller) then return {'OK', 'GONE'} end
-- What is freed is handed on, so the generation must be known even here.
meet(0, 0)
local reply = {'OK', end_session(caller)}
for _, name in ipairs(unsettled()) do reply[#reply + 1] = name end
commit()
return reply
