-- Deletes entries from one partition's stream without upsetting the count of what was lost.
--
-- KEYS  lease, state, stream
-- ARGV  id …
-- Returns how many were deleted, and how many are left because a worker is still to pass them: it may have them in its hands.
local lease, state, stream = unpack(KEYS)
local ms, seq = string.match(redis.call('HGET', state, 'position') or '0-0', '^(%d+)-(%d+)$')
ms, seq = tonumber(ms), tonumber(seq)
local is_held = redis.call('EXISTS', lease) == 1
local deleted, left = 0, 0
for _, id in ipairs(ARGV) do
  local its_ms, its_seq = string.match(id, '^(%d+)-(%d+)$')
  its_ms, its_seq = tonumber(its_ms), tonumber(its_seq)
  local is_passed = its_ms < ms or (its_ms == ms and its_seq <= seq)
  if not is_passed and is_held then
    left = left + 1
  elseif redis.call('XDEL', stream, id) == 1 then
    deleted = deleted + 1
    if not is_passed then redis.call('HINCRBY', state, 'passed', 1) end
  end
end
return { deleted, left }
