-- Fills tallies from the ledger. ARGV: now_ms, epoch, new epoch, how, tallies, then of each tally: name, spent,
-- forget_at_ms; then of each hold that the ledger knows: id, expires_ms, amount, booked, its tallies with blanks between.
-- how: 'lost' starts anew while there is no epoch; 'claimed' does so under the caller's claim; 'lift' raises what is
-- spent and held together. To start anew is to forget every hold, for the ledger knows them, to raise what is spent to
-- what the ledger says is, and to make a new epoch, so that each process tells what it holds. All at once, lest a hold is
-- settled before it is told.
-- Gives 1 where it did so.
local how, tallies = ARGV[4], tonumber(ARGV[5])
local anew = how ~= 'lift'
if how == 'lost' and redis.call('EXISTS', KEYS[1]) == 1 or how == 'claimed' and lost then
  return 0
end
if anew then
  redis.call('DEL', KEYS[2], KEYS[3])
end
for at = 6, 3 + tallies * 3, 3 do
  local key = TALLY .. ARGV[at]
  if anew then
    redis.call('HSET', key, 'held', '0')
  end
  local found = redis.call('HMGET', key, 'spent', 'held')
  local missing = tonumber(ARGV[at + 1]) - number(found[1]) - number(found[2])
  if missing > 0 then
    redis.call('HINCRBY', key, 'spent', string.format('%.0f', missing))
  end
  redis.call('PEXPIREAT', key, ARGV[at + 2])
end
if anew then
  for at = 6 + tallies * 3, #ARGV, 5 do
    local id = ARGV[at]
    for tally in string.gmatch(ARGV[at + 4], '%S+') do
      redis.call('HINCRBY', TALLY .. tally, 'held', ARGV[at + 2])
    end
    redis.call('HSET', KEYS[2], id, 'H ' .. ARGV[at + 2] .. ' ' .. ARGV[at + 3] .. ' ' .. ARGV[at + 4] .. '|')
    redis.call('ZADD', KEYS[3], ARGV[at + 1], id)
  end
  redis.call('SET', KEYS[1], ARGV[3])
end
return 1
