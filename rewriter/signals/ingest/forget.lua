-- Removes the counters of one subject and scope, and writes a tombstone, so that earlier events in flight are not counted here.
--
-- KEYS  base:z, base:m, base:aged, base:sessions, base:c, and base:fresh, base:fresh:c, which a killed backfill may have left
-- ARGV  the time up to which the subject is forgotten (s), ttl_s of the tombstone
-- Returns { whether there were counters, the sessions that were noted with a profile }.
--
-- The tombstone is the field `forgotten` of base:m, beside the watermarks: a batch that is sent again is still known.
local unfit = refused('EXISTS UNLINK HSET EXPIRE')
if unfit then return unfit end
local z, m, aged, sessions, classes, fresh, fresh_classes = unpack(KEYS)
local until_s, ttl_s = tonumber(ARGV[1]), ARGV[2]

local named = redis.pcall('ZRANGE', sessions, 0, -1)
local known = redis.pcall('HGETALL', m)
for _, reply in ipairs({ named, known }) do -- a key of another kind holds nothing, but one that the role may not read does
  if reply.err and not string.find(reply.err, 'WRONGTYPE', 1, true) then return reply end
end
local found, kept = math.min(1, redis.call('EXISTS', z, classes)), {}
for i = 1, #known, 2 do
  local name, text = known[i], known[i + 1]
  if name == 'landmark' then found = 1 end
  if name == 'forgotten' then until_s = math.max(until_s, tonumber(text) or 0) end
  if string.match(name, '^watermark:') or string.match(name, '^part:') then
    kept[#kept + 1] = name
    kept[#kept + 1] = text
  end
end
redis.call('UNLINK', z, m, aged, sessions, classes, fresh, fresh_classes)
redis.call('HSET', m, 'forgotten', string.format('%.17g', until_s), unpack(kept))
redis.call('EXPIRE', m, ttl_s)
return { found, named.err and {} or named }
