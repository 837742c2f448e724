-- Keep a claim from expiring. KEYS: the place. ARGV: the claim's id, the lease in ms.
if redis.call('HGET', KEYS[1], 'claim') ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
