-- Replaces the counters under a base, unless they were changed since they were read.
--
-- KEYS  base:z, base:m, the new base:z, base:c, the new base:c (or no such keys)
-- ARGV  ttl_s, until when the subject was forgotten as far as the new counters know,
--       n, (field, text) × n: how far each partition had been applied when it was looked at,   (field, text) × n of the new base:m
-- Returns 1; 0 where more was applied since, -1 where the subject was forgotten since: nothing was changed then.
local unfit = refused('HGETALL UNLINK EXISTS RENAME EXPIRE HSET')
if unfit then return unfit end
local z, m, fresh, c, fresh_c = unpack(KEYS)
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
  redis.call('UNLINK', fresh, fresh_c)
  return is_forgotten and -1 or 0
end

local meta = {}
while at < #ARGV do meta[#meta + 1] = take() end
if forgotten then
  meta[#meta + 1] = 'forgotten'
  meta[#meta + 1] = forgotten
end
redis.call('UNLINK', z, m, c)
for new, old in pairs({ [fresh] = z, [fresh_c] = c }) do
  if redis.call('EXISTS', new) == 1 then
    redis.call('RENAME', new, old)
    redis.call('EXPIRE', old, ARGV[1])
  end
end
redis.call('HSET', m, unpack(meta))
redis.call('EXPIRE', m, ARGV[1])
return 1
