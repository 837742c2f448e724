-- Put a result where it was claimed, and make room for it.
-- KEYS: the place, the index of what is kept, its size in bytes.
-- ARGV: the claim's id, the result, for how many ms, the most results, the most bytes of all together.
-- A member of the index is SIZE:PLACE, its score the time at which it was kept, in ms.
if redis.call('HGET', KEYS[1], 'claim') ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local function forget(member)
  redis.call('ZREM', KEYS[2], member)
  return redis.call('DECRBY', KEYS[3], string.match(member, '^%d+'))
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now_ms - ARGV[3])) do
  forget(member)
end
redis.call('HDEL', KEYS[1], 'claim')
redis.call('HSET', KEYS[1], 'result', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[2], now_ms, #ARGV[2] .. ':' .. KEYS[1])
local bytes = redis.call('INCRBY', KEYS[3], #ARGV[2])
while redis.call('ZCARD', KEYS[2]) > tonumber(ARGV[4]) or bytes > tonumber(ARGV[5]) do
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  if not oldest then break end
  bytes = forget(oldest)
  redis.call('DEL', string.match(oldest, '^%d+:(.*)$'))
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return 1
