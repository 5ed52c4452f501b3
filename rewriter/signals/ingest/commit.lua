-- Commits a run of one partition's entries: moves the position, counts, writes dead letters, trims, renews the lease. All or nothing.
--
-- KEYS  lease, state, stream, dead, waiting, ids
-- ARGV  token, lease_ms, position before, position after, id of the first entry or '', retention_ms, lowest event id score to keep,
--       dead letters kept, retry_ms,
--       n, (counter, increment) × n,   n, (entry id, reason, event) × n dead letters,   n, member × n waiting
-- Returns { 1, the server's time in ms }; { 0, … } if another worker holds the lease; { -1, … } if the position is not the expected
-- one; an error if a key has another type. Types are checked before any change, since a failed script is not rolled back.
--
-- All times are the server's, as are the entries' ids, since a worker's clock may be wrong. One call trims a bounded number of entries.
local unfit = refused('TYPE HMGET HSET HINCRBY XLEN XADD ZADD XTRIM ZCOUNT ZREMRANGEBYRANK PEXPIRE')
if unfit then return unfit end
local lease, state, stream, dead, waiting, ids = unpack(KEYS)
local at = 0
local function take() at = at + 1; return ARGV[at] end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

if redis.call('GET', lease) ~= take() then return { 0, now_ms } end
for i, kind in ipairs({ 'hash', 'stream', 'stream', 'zset', 'zset' }) do
  local found = redis.call('TYPE', KEYS[i + 1]).ok
  if found ~= kind and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i + 1] .. ' holds a ' .. found .. ' and not a ' .. kind .. ': delete it')
  end
end
local lease_ms, before, after, first, retention_ms = take(), take(), take(), take(), tonumber(take())
local lowest, letters, retry_ms = take(), take(), tonumber(take())
local known = redis.call('HMGET', state, 'position', 'lag', 'lag_at')
if (known[1] or '0-0') ~= before then return { -1, now_ms } end

redis.call('HSET', state, 'position', after)
if first ~= '' then
  local lag = math.max(0, now_ms - tonumber(string.match(first, '^%d+')))
  if now_ms - (tonumber(known[3]) or 0) < 2000 then lag = math.max(lag, tonumber(known[2]) or 0) end
  redis.call('HSET', state, 'lag', string.format('%d', lag), 'lag_at', string.format('%d', now_ms))
end
local function more(name, count)
  local reply = redis.pcall('HINCRBY', state, name, count)
  if type(reply) == 'table' and reply.err then redis.call('HSET', state, name, count) end -- the old value was no number
end
for _ = 1, tonumber(take()) do more(take(), take()) end
local own = tonumber(take())
local kept = own > 0 and redis.call('XLEN', dead) or 0
for _ = 1, own do
  redis.call('XADD', dead, 'MAXLEN', '~', letters, 'LIMIT', 1000, '*', 'entry', take(), 'reason', take(), 'event', take())
end
local dropped = own > 0 and kept + own - redis.call('XLEN', dead) or 0
if dropped > 0 then more('letters_dropped', dropped) end
for _ = 1, tonumber(take()) do
  redis.call('ZADD', waiting, string.format('%d', now_ms + retry_ms), take())
end

-- Unread entries are never trimmed, however old they are.
local oldest_ms = math.max(0, now_ms - retention_ms)
local after_ms = tonumber(string.match(after, '^%d+'))
local oldest = oldest_ms <= after_ms and string.format('%d', oldest_ms) or after
-- Ids that lie far ahead tell no age, and would be kept until their time comes.
if after_ms - now_ms > retention_ms then oldest = after end
redis.call('XTRIM', stream, 'MINID', '~', oldest, 'LIMIT', 2000)
local old = redis.call('ZCOUNT', ids, '-inf', '(' .. lowest)
if old > 0 then redis.call('ZREMRANGEBYRANK', ids, 0, math.min(old, 2000) - 1) end
redis.call('PEXPIRE', lease, lease_ms)
return { 1, now_ms }
