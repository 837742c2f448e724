-- Fills tallies from the ledger. ARGV: now_ms, epoch, new epoch, how, tallies, then of each tally: name, spent,
-- forget_at_ms; then of each hold that the ledger knows: id, expires_ms, amount, booked, its tallies with blanks between.
-- how: 'lost' fills them only while there is no epoch, and makes it; 'late' raises what is spent to what the ledger says
-- is; 'lift' raises what is spent and held together. All at once, lest a hold is settled before it is told.
-- Gives 1 where it did so.
local how, tallies = ARGV[4], tonumber(ARGV[5])
if how == 'lost' and redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
for at = 6, 3 + tallies * 3, 3 do
  local key = TALLY .. ARGV[at]
  local found = redis.call('HMGET', key, 'spent', 'held')
  local missing = tonumber(ARGV[at + 1]) - number(found[1])
  if how == 'lift' then
    missing = missing - number(found[2])
  end
  if missing > 0 or how == 'lost' then
    redis.call('HINCRBY', key, 'spent', string.format('%.0f', missing))
    redis.call('PEXPIREAT', key, ARGV[at + 2])
  end
end
for at = 6 + tallies * 3, #ARGV, 5 do
  local id = ARGV[at]
  if how == 'lost' and redis.call('HEXISTS', KEYS[2], id) == 0 then
    for tally in string.gmatch(ARGV[at + 4], '%S+') do
      redis.call('HINCRBY', TALLY .. tally, 'held', ARGV[at + 2])
    end
    redis.call('HSET', KEYS[2], id, 'H ' .. ARGV[at + 2] .. ' ' .. ARGV[at + 3] .. ' ' .. ARGV[at + 4] .. '|')
    redis.call('ZADD', KEYS[3], ARGV[at + 1], id)
  end
end
if how == 'lost' then
  redis.call('SET', KEYS[1], ARGV[3])
end
return 1
