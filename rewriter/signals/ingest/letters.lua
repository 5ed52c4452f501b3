-- Trims the dead letters of a partition to a byte limit: removes the oldest quarter until the limit is met.
--
-- KEYS  dead, state
-- ARGV  most bytes, most bytes of one event
-- Returns the number of removed letters, which the state counts as `letters_dropped`. Without MEMORY USAGE, as many letters are kept as
-- fit at their maximal size.
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
