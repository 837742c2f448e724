-- Looks whether buckets have room for draws, and takes nothing. ARGV: now_ms, epoch, then of each bucket: name, count,
-- per_minute.
-- Gives {1} where all have; {2, index, wait_ms} of the first that has none; {-1} counters lost.
if lost then
  return {-1}
end
for at = 3, #ARGV, 3 do
  local count, per_minute = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local excess = over(drained(ARGV[at], per_minute, tonumber(ARGV[1])), count, per_minute)
  if excess > 0 then
    return {2, (at - 3) / 3, math.ceil(excess / per_minute)}
  end
end
return {1}
