-- Ends another session, if its counter still is what the caller saw.
-- KEYS[1] partition; ARGV[1] session, [2] generation seen, [3] highest token seen, [4] events acknowledged,
--   [5] the other session, [6] its counter
-- RETURNS {OK, GONE | MORE | ALIVE, unsettled mutexes..} | {NOSESS} | {NEWGEN, generation, recovering 0 | 1}
local dead = ARGV[5]
read_ahead({'g', 'f', 'ss', 's:' .. caller, 's:' .. dead})
local ended = admit()
if ended then
  commit()
  return ended
end
listen()
local s = session(dead)
local reply
-- One that is marked dead can renew no more, so there is nothing to compare.
if s and s.life == 'a' and text(s.counter) ~= ARGV[6] then
  reply = {'OK', 'ALIVE'}
else
  reply = {'OK', end_session(dead)}
  for _, name in ipairs(unsettled()) do reply[#reply + 1] = name end
end
commit()
return reply
