-- Raises the caller's counter, and tells what happened meanwhile.
-- KEYS[1] partition; ARGV[1] session, [2] generation seen, [3] highest token seen, [4] events acknowledged
-- RETURNS {OK, entries, recovering 0 | 1, last token, number of sessions, session, counter.., events..} | {NOSESS} |
--   {NEWGEN, generation, recovering 0 | 1}
read_ahead({'g', 'f', 'ss', 's:' .. caller})
replies_with_events = true
local ended = admit()
if ended then
  commit()
  return ended
end
listen()
local me = session(caller)
me.counter = me.counter + 1
put_session(caller)

local ids, fields = {}, {}
for id in string.gmatch(get('ss') or '', '%S+') do
  ids[#ids + 1] = id
  fields[#fields + 1] = 's:' .. id
end
read_ahead(fields)
local reply = {'OK', text(me.entries), recovering and '1' or '0', get('f') or '0', text(#ids)}
for _, id in ipairs(ids) do
  reply[#reply + 1] = id
  reply[#reply + 1] = text(session(id).counter)
end
add_events(reply, caller, tonumber(ARGV[4]))
commit()
return reply
