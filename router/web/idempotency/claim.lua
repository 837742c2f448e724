-- Claim a place, or say what is there.
-- KEYS: the place. ARGV: the body's digest, the claim's id, the lease in ms.
-- Returns {'claimed'}, {'under_way'}, {'other_body'} or {'kept', result}.
local digest, claim, result = unpack(redis.call('HMGET', KEYS[1], 'digest', 'claim', 'result'))
if not digest then
  redis.call('HSET', KEYS[1], 'digest', ARGV[1], 'claim', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {'claimed'}
end
if digest ~= ARGV[1] then return {'other_body'} end
if result then return {'kept', result} end
if claim == ARGV[2] then return {'claimed'} end
return {'under_way'}
