-- Notes the entries beyond the position that are not applied while later ones are, if `token` still holds the lease.
-- KEYS lease, state. ARGV token, the entries' ids. Returns whether it does.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], 'unapplied', ARGV[2])
return 1
