-- Takes from every tally and every bucket, or from none.
-- ARGV: now_ms, epoch, id, expires_ms, amount, booked, forced, tallies, buckets,
--       then of each tally: name, limit ('-' for a soft one), forget_at_ms; then of each bucket: name, count, per_minute.
-- Gives {1, spent, held, ...} held; {0, spent, held, ...} short; {2, index, wait_ms} too fast; {-1} counters lost.
if lost then
  return {-1}
end
local now_ms, id, amount = tonumber(ARGV[1]), ARGV[3], ARGV[5]
local asked, forced = tonumber(amount), ARGV[7] == '1'
local tallies, buckets = tonumber(ARGV[8]), tonumber(ARGV[9])
reclaim()
local before = redis.call('HEXISTS', KEYS[2], id) == 1

local reply, names, short, inexact = {1}, {}, false, nil
for index = 1, tallies do
  local at = 7 + index * 3
  local name, limit = ARGV[at], ARGV[at + 1]
  local found = redis.call('HMGET', TALLY .. name, 'spent', 'held')
  local spent, held = number(found[1]), number(found[2])
  if asked > 0 and not forced and limit ~= '-' and asked > tonumber(limit) - spent - held then
    short = true
  end
  names[index], reply[index * 2], reply[index * 2 + 1] = name, spent, held
  if asked > EXACT - spent - held then
    inexact = name
  end
end
if before then
  return reply
end
if short then
  reply[1] = 0
  return reply
end
if inexact then
  return redis.error_reply('FARTHING a tally would pass 2^53 nUSD, up to which it is exact: ' .. inexact)
end

local draws = {}
for index = 1, buckets do
  local at = 7 + (tallies + index) * 3
  local name, count, per_minute = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local debt, at_ms, jumped = drained(name, per_minute, now_ms)
  if jumped then
    -- It drains from now on.
    redis.call('HSET', BUCKET .. name, 'at', ARGV[1])
  end
  local excess = over(debt, count, per_minute)
  if excess > 0 and not forced then
    return {2, index - 1, math.ceil(excess / per_minute)}
  end
  draws[index] = {name, debt + count * 60000, at_ms, per_minute, ARGV[at + 1]}
end

local drawn = {}
for index, draw in ipairs(draws) do
  local key = BUCKET .. draw[1]
  redis.call('HSET', key, 'debt', string.format('%.0f', draw[2]), 'at', string.format('%.0f', draw[3]))
  redis.call('PEXPIRE', key, string.format('%.0f', math.ceil(draw[2] / draw[4]) + 60000))
  drawn[index] = draw[1] .. ' ' .. draw[5]
end
for index = 1, tallies do
  local key = TALLY .. names[index]
  redis.call('HINCRBY', key, 'held', amount)
  redis.call('PEXPIREAT', key, ARGV[9 + index * 3])
  reply[index * 2 + 1] = reply[index * 2 + 1] + asked
end
redis.call('HSET', KEYS[2], id, 'H ' .. amount .. ' ' .. ARGV[6] .. ' '
  .. table.concat(names, ' ') .. '|' .. table.concat(drawn, ' '))
redis.call('ZADD', KEYS[3], ARGV[4], id)
return reply
