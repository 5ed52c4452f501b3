-- Removes the counters of one subject and scope, and writes a tombstone, so that earlier events in flight are not counted here.
--
-- KEYS  base:z, base:m, base:aged, base:sessions
-- ARGV  the time up to which the subject is erased (s), ttl_s of the tombstone
-- Returns { whether there were counters, the sessions listed with a profile }.
--
-- The tombstone is the field `forgotten` of base:m. The watermarks stay, so that a repeated batch is still recognized.
local z, m, aged, sessions = unpack(KEYS)
local until_s, ttl_s = tonumber(ARGV[1]), ARGV[2]

local named = redis.pcall('ZRANGE', sessions, 0, -1)
local known = redis.pcall('HGETALL', m)
local found, kept = redis.call('EXISTS', z), {}
for i = 1, #known, 2 do
  local name, text = known[i], known[i + 1]
  if name == 'landmark' then found = 1 end
  if name == 'forgotten' then until_s = math.max(until_s, tonumber(text) or 0) end
  if string.match(name, '^watermark:') or string.match(name, '^part:') then
    kept[#kept + 1] = name
    kept[#kept + 1] = text
  end
end
redis.call('UNLINK', z, m, aged, sessions)
redis.call('HSET', m, 'forgotten', string.format('%.17g', until_s), unpack(kept))
redis.call('EXPIRE', m, ttl_s)
return { found, named.err and {} or named }
