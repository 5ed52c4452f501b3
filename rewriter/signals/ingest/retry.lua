-- Moves due waiting entries back to the end of their stream, each as a new entry with the id of the first one.
--
-- KEYS  lease, stream, waiting
-- ARGV  token, lease_ms, entries at once
-- Renews the lease, and returns the number of moved entries, or -1 if another worker holds the lease.
local unfit = refused('XADD ZREM')
if unfit then return unfit end
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
  else -- not written by a worker: the next worker makes it a dead letter with a reason
    redis.call('XADD', stream, '*', 'first', '', 'event', member)
  end
  redis.call('ZREM', waiting, member)
end
return #due
