-- Replaces the counters under a base, unless they were changed since they were read.
--
-- KEYS  base:z, base:m, the new base:z (or no such key)
-- ARGV  ttl_s, the time of erasure that the new counters respect,
--       n, (field, text) × n: the watermarks of each partition at the read,   (field, text) × n of the new base:m
-- Returns 1; 0 if more was applied since, -1 if the subject was erased since: then nothing was changed.
local z, m, fresh = unpack(KEYS)
local at = 2
local function take() at = at + 1; return ARGV[at] end

local looked_at, left = {}, tonumber(take())
for _ = 1, left do
  local name = take()
  looked_at[name] = take()
end
local known, forgotten = redis.call('HGETALL', m), nil
for i = 1, #known, 2 do
  local name, text = known[i], known[i + 1]
  if name == 'forgotten' then forgotten = text end
  if string.match(name, '^watermark:') or string.match(name, '^part:') then
    if looked_at[name] ~= text then left = -1 break end
    left = left - 1
  end
end
local is_forgotten = forgotten and (tonumber(forgotten) or 0) > tonumber(ARGV[2])
if left ~= 0 or is_forgotten then
  redis.call('UNLINK', fresh)
  return is_forgotten and -1 or 0
end

local meta = {}
while at < #ARGV do meta[#meta + 1] = take() end
if forgotten then
  meta[#meta + 1] = 'forgotten'
  meta[#meta + 1] = forgotten
end
redis.call('UNLINK', z, m)
if redis.call('EXISTS', fresh) == 1 then
  redis.call('RENAME', fresh, z)
  redis.call('EXPIRE', z, ARGV[1])
end
redis.call('HSET', m, unpack(meta))
redis.call('EXPIRE', m, ARGV[1])
return 1
