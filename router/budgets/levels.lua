-- Reads tallies, all at one moment. ARGV: now_ms, epoch, then their names.
-- Gives {1, spent, held, ...}, or {-1} where the counters are lost.
if lost then
  return {-1}
end
reclaim()
local reply = {1}
for index = 3, #ARGV do
  local found = redis.call('HMGET', TALLY .. ARGV[index], 'spent', 'held')
  reply[#reply + 1] = number(found[1])
  reply[#reply + 1] = number(found[2])
end
return reply
