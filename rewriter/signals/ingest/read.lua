-- Reads the next entries of a stream, bounded in number and in bytes.
--
-- KEYS  stream
-- ARGV  position, most entries, most bytes, most bytes of one field
-- Returns entries as XRANGE does, with the fields `event` and `first` alone, each cut to one byte more than the most: the reader sees
-- that it was longer. The first entry is returned whatever it takes, so that reading goes on.
local stream, position = KEYS[1], ARGV[1]
local count, bytes, longest = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local found, taken = {}, 0
while #found < count do
  local some = redis.call('XRANGE', stream, '(' .. position, '+', 'COUNT', math.min(8, count - #found))
  if #some == 0 then break end
  for _, entry in ipairs(some) do
    local kept, size = {}, 0
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 'event' or entry[2][i] == 'first' then
        local text = string.sub(entry[2][i + 1], 1, longest + 1)
        kept[#kept + 1], kept[#kept + 2] = entry[2][i], text
        size = size + #text
      end
    end
    if #found > 0 and taken + size > bytes then return found end
    found[#found + 1], taken, position = { entry[1], kept }, taken + size, entry[1]
  end
end
return found
