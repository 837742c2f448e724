-- Takes the counters out of use while the caller fills them anew, for so long at most. ARGV: now_ms, epoch, claim, for_ms.
-- Gives 1 where it did so, 0 where they are of another epoch than the caller's.
if lost then
  return 0
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 1
