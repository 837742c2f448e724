-- Turns a hold into a charge, once. ARGV: now_ms, epoch, id, charge, used tokens ('-' leaves them), void.
-- Gives 1 settled, 0 nothing to do, -1 counters lost. A void id that does not hold yet never will: its hold may still
-- be on its way.
if lost then
  return -1
end
local id, charge, used = ARGV[3], ARGV[4], tonumber(ARGV[5])
local record = redis.call('HGET', KEYS[2], id)
if not record then
  if ARGV[6] == '1' then
    redis.call('HSET', KEYS[2], id, 'V 0 0 |')
    redis.call('ZADD', KEYS[3], tonumber(ARGV[1]) + LATE_MS, id)
  end
  return 0
end
local state, amount, booked, rest = string.match(record, '^(%a) (%d+) (%d+) (.*)$')
if state == 'V' then
  return 0
end
local tallies, draws = string.match(rest, '^(.*)|(.*)$')
for tally in string.gmatch(tallies, '%S+') do
  if state == 'H' then
    add(tally, 'held', negative(amount))
  else
    add(tally, 'spent', negative(booked))
  end
  add(tally, 'spent', charge)
end
if used then
  for bucket, drawn in string.gmatch(draws, '(%S+) (%d+)') do
    local key = BUCKET .. bucket
    if string.sub(bucket, -7) == ':tokens' and redis.call('EXISTS', key) == 1 then
      local debt = math.max(0, number(redis.call('HGET', key, 'debt')) + (used - tonumber(drawn)) * 60000)
      redis.call('HSET', key, 'debt', string.format('%.0f', debt))
    end
  end
end
redis.call('HDEL', KEYS[2], id)
redis.call('ZREM', KEYS[3], id)
return 1
