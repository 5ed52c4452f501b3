-- Moves the landmark of one key's counters in steps: ageing 20,000 members at once would block the server for 50 ms.
--
-- KEYS  base:z, base:m, base:aged
-- ARGV  default half-life, shortest half-life, n, (field, half-life) × n   (read by decay.lua)
--       the new landmark, ttl_s, members per step
-- Returns the number of members left to age; 0 once the landmark has moved.
--
-- Aged members are staged in base:aged, which replaces base:z at the end: readers see the old counters or the new ones. Until then
-- base:m has the field `aging`: the new landmark, the numbers of members seen, kept and present, and a digest of the totals. While it
-- exists apply.lua changes nothing; after a change by another writer, ageing starts again.
local z, m, shadow = KEYS[1], KEYS[2], KEYS[3]
local to, ttl_s, at_once = take(), take(), tonumber(take())

if not landmark then
  call('HDEL', m, 'aging')
  return 0
end
if not meta.aging and tonumber(to) - landmark <= shortest / 4 then return 0 end

local card = call('ZCARD', z)
local names = {}
for field in pairs(totals) do names[#names + 1] = field end
table.sort(names)
local text = meta.landmark
for _, field in ipairs(names) do text = text .. ' ' .. field .. ' ' .. meta['total:' .. field] end
local digest = redis.sha1hex(text)

local seen, kept_before = 0, 0
if meta.aging then
  local its_to, its_seen, its_kept, its_card, its_digest = string.match(meta.aging, '^(%S+) (%d+) (%d+) (%d+) (%S+)$')
  to = sound(its_to) and its_to or to
  if its_digest == digest and tonumber(its_card) == card and call('ZCARD', shadow) == tonumber(its_kept) then
    seen, kept_before = tonumber(its_seen), tonumber(its_kept)
  end
end
if seen == 0 then call('UNLINK', shadow) end

local kept = aged(tonumber(to), call('ZRANGE', z, seen, seen + at_once - 1, 'WITHSCORES'))
if #kept > 0 then call('ZADD', shadow, unpack(kept)) end
seen, kept_before = seen + at_once, kept_before + #kept / 2
if seen < card then
  call('HSET', m, 'aging', string.format('%s %d %d %d %s', to, seen, kept_before, card, digest))
  call('EXPIRE', shadow, 3600)
  return card - seen
end

call('UNLINK', z)
if kept_before > 0 then
  call('RENAME', shadow, z)
  call('EXPIRE', z, ttl_s)
end
local out = { 'landmark', exact(tonumber(to)) }
for field, total in pairs(totals) do
  out[#out + 1] = 'total:' .. field
  out[#out + 1] = exact(total * factor(tonumber(to), field))
end
call('HSET', m, unpack(out))
call('HDEL', m, 'aging')
return 0
