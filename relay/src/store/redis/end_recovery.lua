-- Lets a recovering generation grant again.
-- KEYS[1] partition; ARGV[1] session, [2] generation seen, [3] highest token seen, [4] events acknowledged
-- RETURNS {OK} | {NOSESS} | {NEWGEN, generation, recovering 0 | 1}
read_ahead({'g', 'f', 's:' .. caller})
local ended = admit()
if ended then
  commit()
  return ended
end
listen()
if recovering then
  recovering = false
  put_generation(server_replid())
end
commit()
return {'OK'}
