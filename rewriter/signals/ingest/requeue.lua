-- Moves dead letters back to the end of their stream, each as a new entry with the id of the original one.
--
-- KEYS  dead, stream
-- ARGV  id of a dead letter, id of its original entry, …
-- Returns the number of moved letters; a missing one was moved or trimmed before.
local unfit = refused('XADD XDEL')
if unfit then return unfit end
local dead, stream = unpack(KEYS)
local moved = 0
for i = 1, #ARGV, 2 do
  local found = redis.call('XRANGE', dead, ARGV[i], ARGV[i])
  if #found == 1 then
    local parts, event = found[1][2], nil
    for at = 1, #parts, 2 do
      if parts[at] == 'event' then event = parts[at + 1] end
    end
    redis.call('XADD', stream, '*', 'first', ARGV[i + 1], 'event', event or '')
    redis.call('XDEL', dead, ARGV[i])
    moved = moved + 1
  end
end
return moved
