-- Moves what waited long enough back to the end of its stream, as a new entry that names its first one.
--
-- KEYS  lease, stream, waiting
-- ARGV  token, lease_ms, entries at once
-- Renews the lease, and returns the number of entries moved, or -1 where the lease is another's.
local lease, stream, waiting = unpack(KEYS)
if redis.call('GET', lease) ~= ARGV[1] then return -1 end
redis.call('PEXPIRE', lease, ARGV[2])
local time = redis.call('TIME')
local now_ms = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
local due = redis.call('ZRANGEBYSCORE', waiting, '-inf', now_ms, 'LIMIT', 0, ARGV[3])
for _, member in ipairs(due) do
  local cut = string.find(member, '\31', 1, true)
  if cut then
    redis.call('XADD', stream, '*', 'first', string.sub(member, 1, cut - 1), 'event', string.sub(member, cut + 1))
  else -- nobody who waits looks like this: it is set aside with the reason
    redis.call('XADD', stream, '*', 'first', '', 'event', member)
  end
  redis.call('ZREM', waiting, member)
end
return #due
