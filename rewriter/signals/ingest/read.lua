-- Reads the next entries of a stream, bounded in number and in bytes.
--
-- KEYS  stream
-- ARGV  position, most entries, most bytes, most bytes of one field
-- Returns { the server's time in ms, entries }: entries as of XRANGE, with only the fields `event`, `first` and `replay`, each truncated
-- to one byte more than the limit, so that the reader recognizes a longer one. The first entry is returned whatever its size, so that
-- reading always advances. The byte limit counts the bytes read, not those returned: steps are small while entries are large.
local stream, position = KEYS[1], ARGV[1]
local count, bytes, longest = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local found, taken, step = {}, 0, 1
while #found < count do
  local some, before = redis.call('XRANGE', stream, '(' .. position, '+', 'COUNT', math.min(step, count - #found)), taken
  if #some == 0 then break end
  for _, entry in ipairs(some) do
    local kept, size = {}, 0
    for i = 1, #entry[2], 2 do
      local name, text = entry[2][i], entry[2][i + 1]
      size = size + #text
      if name == 'event' or name == 'first' or name == 'replay' then
        kept[#kept + 1], kept[#kept + 2] = name, #text > longest and string.sub(text, 1, longest + 1) or text
      end
    end
    if #found > 0 and taken + size > bytes then return { now_ms, found } end
    found[#found + 1], taken, position = { entry[1], kept }, taken + size, entry[1]
  end
  step = math.max(1, math.min(64, 4 * step, math.floor(longest * #some / math.max(1, taken - before))))
end
return { now_ms, found }
