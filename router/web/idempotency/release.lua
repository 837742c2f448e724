-- Give a claim up. KEYS: the place. ARGV: the claim's id.
if redis.call('HGET', KEYS[1], 'claim') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
