-- Applies the entries of one partition to the counters of one subject and scope: each entry once, whatever is sent again.
--
-- KEYS  base:z, base:m
-- ARGV  partition, ttl_s, keep, default half-life, shortest half-life, n, (field, half-life) × n,
--       then for each entry, in the order of the stream: its id, time (s), weight, n, member × n
-- Returns the number of entries that were new.
--
-- An entry is known by the watermark: the last id applied here from its partition. The result depends on the sequence of entries
-- alone and not on how they were batched, so everything (moving the landmark, pruning) happens per entry. A number that is handed
-- to a command keeps its 17 digits; one that Lua makes a text of itself would lose three.
local z, m, call = KEYS[1], KEYS[2], redis.call
local at = 0
local function take() at = at + 1; return ARGV[at] end
local function exact(number) return string.format('%.17g', number) end
local function sound(text)
  local number = tonumber(text)
  if number and number >= 0 and number <= 1e100 then return number end
end

local partition, ttl_s, keep = take(), take(), tonumber(take())
local default, shortest = tonumber(take()), tonumber(take())
local half_lives = {}
for _ = 1, tonumber(take()) do
  local name = take()
  half_lives[name] = tonumber(take())
end
local function growth(from, to, field)
  return 2 ^ math.max(-1000, math.min(1000, (to - from) / (half_lives[field] or default)))
end
local fields = {}
local function field_of(member)
  local field = fields[member]
  if not field then
    field = string.sub(member, 1, string.find(member, '\31', 1, true) - 1)
    fields[member] = field
  end
  return field
end

local meta, totals = {}, {}
local known = call('HGETALL', m)
for i = 1, #known, 2 do
  meta[known[i]] = known[i + 1]
  if string.sub(known[i], 1, 6) == 'total:' then totals[string.sub(known[i], 7)] = sound(known[i + 1]) end
end
local landmark = sound(meta.landmark)
local last_event, events, lag = sound(meta.last_event) or 0, sound(meta.events) or 0, sound(meta.lag) or 0
local now = call('TIME')
local visible = now[1] + now[2] / 1e6

local mark = meta['watermark:' .. partition]
local mark_ms, mark_seq = string.match(mark or '', '^(%d+)-(%d+)$')
mark_ms, mark_seq = tonumber(mark_ms) or -1, tonumber(mark_seq) or -1

-- Beyond a quarter of the shortest half-life the order by rank would drift from the order by weight, and later the floats overflow.
local function age(to)
  local factors = {}
  local function factor(field)
    if not factors[field] then factors[field] = growth(to, landmark, field) end
    return factors[field]
  end
  local members = call('ZRANGE', z, 0, -1, 'WITHSCORES')
  for i = 1, #members, 2 do
    local has_field = string.find(members[i], '\31', 1, true)
    local weight = has_field and (sound(members[i + 1]) or 0) * factor(field_of(members[i])) or 0
    if weight > 1e-9 then call('ZADD', z, weight, members[i]) else call('ZREM', z, members[i]) end
  end
  for field, total in pairs(totals) do totals[field] = total * factor(field) end
  landmark = to
end

local applied = 0
while at < #ARGV do
  local id, time, weight, count = take(), tonumber(take()), tonumber(take()), tonumber(take())
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  ms, seq = tonumber(ms), tonumber(seq)
  if ms < mark_ms or (ms == mark_ms and seq <= mark_seq) then
    at = at + count
  else
    mark, mark_ms, mark_seq = id, ms, seq
    applied = applied + 1
    if not landmark then
      call('DEL', z)
      landmark, totals = time, {}
    elseif time - landmark > shortest / 4 then
      age(time)
    end
    local grown = {}
    for i = at + 1, at + count do
      local member = ARGV[i]
      local field = field_of(member)
      grown[field] = grown[field] or growth(landmark, time, field)
      local worth = weight * grown[field]
      if worth > 0 then
        call('ZINCRBY', z, worth, member)
      else
        local before = tonumber(call('ZSCORE', z, member) or 0)
        worth = math.max(worth, -before)
        if before + worth > 0 then
          call('ZADD', z, before + worth, member)
        elseif before > 0 then
          call('ZREM', z, member)
        end
      end
      totals[field] = math.max(0, (totals[field] or 0) + worth)
    end
    at = at + count
    call('ZREMRANGEBYRANK', z, 0, -(keep + 1))
    events = events + 1
    if time >= last_event then last_event, lag = time, math.max(0, visible - time) end
  end
end
if applied == 0 then return 0 end

local out = {
  'landmark', exact(landmark), 'last_event', exact(last_event), 'events', exact(events), 'lag', string.format('%.3f', lag),
  'watermark:' .. partition, mark,
}
for field, total in pairs(totals) do
  out[#out + 1] = 'total:' .. field
  out[#out + 1] = exact(total)
end
call('HSET', m, unpack(out))
call('EXPIRE', z, ttl_s)
call('EXPIRE', m, ttl_s)
return applied
