-- Measures the backlog of one partition by the server's clock, which also gave the entries their ids.
--
-- KEYS  state, stream
-- Returns { uncounted entries, age of the oldest in ms, recent time from append to counters in ms, now in ms }.
local RECENT_MS = 4000
local state, stream = unpack(KEYS)
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HMGET', state, 'position', 'passed', 'lag', 'lag_at')
local lately = now_ms - (tonumber(known[4]) or 0) < RECENT_MS and tonumber(known[3]) or 0

local info = redis.pcall('XINFO', 'STREAM', stream)
if info.err and redis.call('TYPE', stream).ok ~= 'stream' then return { 0, 0, lately, now_ms } end
local added = 0 -- and for a role without XINFO
for i = 1, #info, 2 do
  if info[i] == 'entries-added' then added = info[i + 1] end
end
-- The number alone could be wrong for a while: of entries that were deleted, or in a stream that was begun anew (see gap.lua).
local waiting, age_ms = 0, 0
local first = redis.call('XRANGE', stream, '(' .. (known[1] or '0-0'), '+', 'COUNT', 1)[1]
if first then
  waiting = math.max(1, added - (tonumber(known[2]) or 0))
  age_ms = math.max(0, now_ms - tonumber(string.match(first[1], '^%d+')))
end
return { waiting, age_ms, lately, now_ms }
