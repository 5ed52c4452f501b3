-- Reads what shows whether entries of a stream are gone that nobody has read.
--
-- KEYS  state, stream
-- Returns { entries ever added, present entries, entries passed, unread entries }, or nothing without a stream, or where the role
-- may not read it. -1 stands for added entries that the server does not count, and for unread entries that were not counted here:
-- they are counted where that is cheap, which is where there are none, and up to MOST of them in a stream that was begun anew.
local MOST = 100
local state, stream = unpack(KEYS)
local known = redis.call('HMGET', state, 'position', 'passed')
local passed = tonumber(known[2]) or 0
local info = redis.pcall('XINFO', 'STREAM', stream)
if info.err then
  local kind = redis.call('TYPE', stream).ok
  if kind == 'none' or kind == 'stream' then return {} end -- a role without XINFO cannot tell
  return info
end
local added, length = -1, 0
for i = 1, #info, 2 do
  if info[i] == 'entries-added' then added = info[i + 1] end
  if info[i] == 'length' then length = info[i + 1] end
end
local most = added < passed and MOST + 1 or 1
local unread = #redis.call('XRANGE', stream, '(' .. (known[1] or '0-0'), '+', 'COUNT', most)
return { added, length, passed, unread < most and unread or -1 }
