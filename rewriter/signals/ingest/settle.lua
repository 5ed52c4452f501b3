-- Ends a batch of one partition: moves the position, counts, sets entries aside, trims, renews the lease. All of it or nothing.
--
-- KEYS  lease, state, stream, dead, waiting, ids
-- ARGV  token, lease_ms, position before, position after, oldest id to keep, lowest event id score to keep, dead letters kept,
--       n, (counter, increment) × n,   n, (entry id, reason, event) × n dead letters,   n, (due_ms, member) × n waiting
-- Returns 1; 0 where the lease is another's; -1 where the position is not the one before (this was done already).
local lease, state, stream, dead, waiting, ids = unpack(KEYS)
local at = 0
local function take() at = at + 1; return ARGV[at] end

if redis.call('GET', lease) ~= take() then return 0 end
local lease_ms, before, after, oldest, lowest, letters = take(), take(), take(), take(), take(), take()
if (redis.call('HGET', state, 'position') or '0-0') ~= before then return -1 end

redis.call('HSET', state, 'position', after)
for _ = 1, tonumber(take()) do
  local name = take()
  redis.call('HINCRBY', state, name, take())
end
for _ = 1, tonumber(take()) do
  redis.call('XADD', dead, 'MAXLEN', '~', letters, '*', 'entry', take(), 'reason', take(), 'event', take())
end
for _ = 1, tonumber(take()) do
  local due_ms = take()
  redis.call('ZADD', waiting, due_ms, take())
end
redis.call('XTRIM', stream, 'MINID', '~', oldest)
redis.call('ZREMRANGEBYSCORE', ids, '-inf', '(' .. lowest)
redis.call('PEXPIRE', lease, lease_ms)
return 1
