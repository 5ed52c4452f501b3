-- Keeps the dead letters of a partition within their bytes: a quarter of them goes, oldest first, until they are.
--
-- KEYS  dead, state
-- ARGV  most bytes, most bytes of one event
-- Returns how many were removed, which the state counts as `letters_dropped`. A server that does not say what a key takes keeps as many
-- as fit at their largest.
local dead, bytes, removed = KEYS[1], tonumber(ARGV[1]), 0
for _ = 1, 64 do
  local ok, taken = pcall(redis.call, 'MEMORY', 'USAGE', dead, 'SAMPLES', 0)
  local count = redis.call('XLEN', dead)
  local most = math.floor(count * 3 / 4)
  if not ok or type(taken) ~= 'number' then
    most = math.floor(bytes / tonumber(ARGV[2]))
  elseif taken <= bytes then
    break
  end
  if count <= 1 or count <= most then break end
  removed = removed + redis.call('XTRIM', dead, 'MAXLEN', math.max(1, most))
end
if removed > 0 then redis.call('HINCRBY', KEYS[2], 'letters_dropped', removed) end
return removed
