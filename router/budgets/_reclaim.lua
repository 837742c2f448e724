-- Stands before every other script: what they share. KEYS[1] the epoch, KEYS[2] the holds by id, KEYS[3] their times.
-- ARGV[1] is the time in milliseconds, ARGV[2] the epoch in which the caller made its holds.
-- The epoch is a random name that the counters were given when they were last filled from the ledger. Without it they
-- are lost; with another one than the caller's they were, and the caller must tell what it holds before it goes on.
-- A hold's record: "state amount booked tally tally ... | bucket drawn bucket drawn ..." where the state is H (held)
-- or X (expired and booked). Amounts stay text, for a Lua number is printed with 14 digits only; it is exact up to 2^53.
local TALLY, BUCKET = '{farthing}:tally:', '{farthing}:bucket:'
local EXACT = 9007199254740992
local LATE_MS = 86400000
local lost = redis.call('GET', KEYS[1]) ~= ARGV[2]

-- Adds to a tally that is still there; one whose window is long over is gone, and stays so.
local function add(tally, field, amount)
  if redis.call('EXISTS', TALLY .. tally) == 1 then
    redis.call('HINCRBY', TALLY .. tally, field, amount)
  end
end

local function negative(amount)
  return amount == '0' and '0' or '-' .. amount
end

-- Books holds past their time as spent, and forgets those that have been booked for a day.
local function reclaim()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[1], 'LIMIT', 0, 32)) do
    local record = redis.call('HGET', KEYS[2], id)
    local state, amount, booked, rest = string.match(record or '', '^(%a) (%d+) (%d+) (.*)$')
    if state == 'H' then
      for tally in string.gmatch(string.match(rest, '^(.*)|'), '%S+') do
        add(tally, 'held', negative(amount))
        add(tally, 'spent', booked)
      end
      redis.call('HSET', KEYS[2], id, 'X' .. string.sub(record, 2))
      redis.call('ZINCRBY', KEYS[3], LATE_MS, id)
    else
      redis.call('HDEL', KEYS[2], id)
      redis.call('ZREM', KEYS[3], id)
    end
  end
end

local function number(text)
  return tonumber(text or '0') or 0
end

-- Gives what is drawn of a bucket and not drained by now, since when, and whether some clock had jumped ahead.
local function drained(bucket, per_minute, now_ms)
  local found = redis.call('HMGET', BUCKET .. bucket, 'debt', 'at')
  local debt, at_ms = number(found[1]), number(found[2])
  if at_ms - now_ms > 60000 then
    return debt, now_ms, true
  elseif now_ms > at_ms then
    return math.max(0, debt - (now_ms - at_ms) * per_minute), now_ms, false
  end
  return debt, at_ms, false
end

-- Gives by how much a draw is too much for a bucket; 0 or less where there is room.
local function over(debt, count, per_minute)
  return debt + (math.min(count, per_minute) - per_minute) * 60000
end
