-- Applies entries of one partition to the counters of one subject and scope: each entry once, even if it is sent again.
--
-- KEYS  base:z, base:m, base:sessions, and base:c where counters are kept by class (see classes.lua)
-- ARGV  default half-life, shortest half-life, n, (field, half-life) × n   (read by decay.lua)
--       partition, ttl_s, keep, the position that the call before reached or '', n, session × n, session_ttl_s,
--       n, field × n: combinations that begin with the class, which are kept by class alone, as items with a class are,
--       n, (item's member, n, (neighbour, strength) × n) × n: neighbours that count with an item, kept by class alone,
--       then for each entry, in the order of the stream: its id, time (s), weight, part, n, member × n
-- Returns { number of new entries, the time up to which the subject was erased or '', dropped sessions: the caller removes their keys };
--         { -1, '' } if the previous call was not applied: send that first;
--         { -2, time } if the key must first be aged to that time by age.lua: send this call again afterwards.
--
-- Calls are small, so that the server is blocked for a millisecond or two: the sender splits a batch, and an entry of many members
-- into parts 1, 2 … and 0, the last. A position is the id of an entry that was applied completely, or `id/part`. The key's watermark
-- is the last completely applied entry; the position within the next entry is kept beside it. So a repeated call changes nothing, a
-- call out of turn is refused, and no call is lost.
--
-- The result depends only on the sequence of entries, not on their batches, so moving the landmark and pruning happen per part. A
-- number that is passed to a command keeps its 17 digits; Lua's own conversion to text would lose three.
local AGED_AT_ONCE, PRUNED_AT_ONCE = 256, 512
-- Sessions noted with a profile, for its erasure. A session that is not noted would outlive it, so of more the oldest are dropped.
local SESSIONS_KEPT, ENDED_AT_ONCE = 1000, 16
local ITEM_OF_CLASS = '^item\31([^\31]*)\31([^\31]*)$'
local z, m, sessions = KEYS[1], KEYS[2], KEYS[3]

local partition, ttl_s, keep, before = take(), tonumber(take()), tonumber(take()), take()
local named = {}
for i = 1, tonumber(take()) do named[i] = take() end
local session_ttl_s = take()
local combined = {}
for _ = 1, tonumber(take()) do combined[take()] = true end
local near = {}
for _ = 1, tonumber(take()) do
  local others = {}
  near[take()] = others
  for i = 1, tonumber(take()) do others[i] = { take(), tonumber(take()) } end
end
local watermark, part_of = 'watermark:' .. partition, 'part:' .. partition

local function position(text)
  local ms, seq, part = string.match(text, '^(%d+)-(%d+)/?(%d*)$')
  return tonumber(ms) or -1, tonumber(seq) or -1, tonumber(part) or math.huge
end
local mark_ms, mark_seq, mark_part = position(meta[part_of] or meta[watermark] or '')
local function reached(ms, seq, part)
  if ms ~= mark_ms then return ms < mark_ms end
  if seq ~= mark_seq then return seq < mark_seq end
  return part <= mark_part
end
if before ~= '' and not reached(position(before)) then return { -1, '' } end
local aging_to = meta.aging and string.match(meta.aging, '^%S+')
if sound(aging_to) then return { -2, aging_to } end

local last_event, events, lag = sound(meta.last_event) or 0, sound(meta.events) or 0, sound(meta.lag) or 0
local forgotten = sound(meta.forgotten)
local now = call('TIME')
local visible = now[1] + now[2] / 1e6
local card = call('ZCARD', z)

local fields = {}
local function field_of(member)
  local field = fields[member]
  if not field then
    field = string.sub(member, 1, string.find(member, '\31', 1, true) - 1)
    fields[member] = field
  end
  return field
end

local function age(to)
  local members = call('ZRANGE', z, 0, -1, 'WITHSCORES')
  local kept = aged(to, members)
  call('UNLINK', z)
  if #kept > 0 then call('ZADD', z, unpack(kept)) end
  card = #kept / 2
  for field, total in pairs(totals) do totals[field] = total * factor(to, field) end
  landmark, factors = to, {}
end

-- Adds what is kept by class, and returns the members that are kept for all classes together.
local function add_by_class(time, weight, members)
  local rest = {}
  for _, member in ipairs(members) do
    local field = field_of(member)
    if combined[field] then
      local class, values = string.match(member, '^[^\31]*\31([^\31]*)\31(.*)$')
      add_to_class(class, false, field, values, time, weight)
    else
      local item, class = string.match(member, ITEM_OF_CLASS)
      if item then
        add_to_class(class, false, 'item', item, time, weight, rounded(weight))
        for _, other in ipairs(near[member] or {}) do
          add_to_class(class, true, 'neighbour', other[1], time, weight * other[2])
        end
      else
        rest[#rest + 1] = member
      end
    end
  end
  return rest
end

local function add(time, weight, members)
  if KEYS[4] then members = add_by_class(time, weight, members) end
  if #members == 0 then return end
  local grown, changed, gone, strength = {}, {}, {}, rounded(weight)
  local scores = call('ZMSCORE', z, unpack(members))
  for i, member in ipairs(members) do
    local field = field_of(member)
    grown[field] = grown[field] or growth(landmark, time, field)
    local had = tonumber(scores[i] or 0)
    local worth = weight * grown[field]
    if worth <= 0 then worth = math.max(worth, -had) end
    local now = had + worth
    if now <= had / BITS then now = 0 end -- what is left is less than a counter with a strength is exact to
    if now > 0 and field == 'item' then now = marked(now, math.max(strength, scores[i] and strength_in(had) or 0)) end
    if now > 0 then
      changed[#changed + 1] = now
      changed[#changed + 1] = member
    elseif scores[i] then
      gone[#gone + 1] = member
    end
    totals[field] = math.max(0, (totals[field] or 0) + worth)
  end
  if #changed > 0 then card = card + call('ZADD', z, unpack(changed)) end
  if #gone > 0 then card = card - call('ZREM', z, unpack(gone)) end
  if card > keep then
    card = card - call('ZREMRANGEBYRANK', z, 0, math.min(card - keep, PRUNED_AT_ONCE) - 1)
  end
end

-- Profiles of the layout before have items with a class in base:z too: they leave it with the first entry. A longer set than searches
-- use is pruned first, so that the server is not blocked.
local moves = KEYS[4] and not meta.items_by_class
if moves and landmark and card > keep then
  card = card - call('ZREMRANGEBYRANK', z, 0, math.min(card - keep, PRUNED_AT_ONCE) - 1)
  moves = card <= keep
end
if moves and landmark and card > 0 then
  local left = false
  local members, gone = call('ZRANGE', z, 0, -1, 'REV', 'WITHSCORES'), {}
  for i = 1, #members, 2 do
    local item, class = string.match(members[i], ITEM_OF_CLASS)
    if item then
      gone[#gone + 1] = members[i]
      take_item(class, item, landmark, sound(members[i + 1]) or 0)
    else
      left = left or string.sub(members[i], 1, 5) == 'item\31'
    end
  end
  for i = 1, #gone, PRUNED_AT_ONCE do card = card - call('ZREM', z, unpack(gone, i, math.min(#gone, i + PRUNED_AT_ONCE - 1))) end
  if not left then
    totals.item = nil
    call('HDEL', m, 'total:item')
  end
end

local applied, whole, status = 0, meta[watermark], nil
local partial = meta[part_of]
while at < #ARGV do
  local id, time, weight, part, count = take(), tonumber(take()), tonumber(take()), tonumber(take()), tonumber(take())
  local ms, seq = position(id)
  local rank = part == 0 and math.huge or part
  if reached(ms, seq, rank) then
    at = at + count
  else
    if not (forgotten and time <= forgotten) then
      if not landmark then
        call('UNLINK', z, KEYS[4] or z)
        landmark, totals, card = time, {}, 0
      elseif time - landmark > shortest / 4 then
        if card > AGED_AT_ONCE then
          status = { -2, exact(time) }
          break
        end
        age(time)
      end
      local members = {}
      for i = 1, count do members[i] = ARGV[at + i] end
      if count > 0 then add(time, weight, members) end
      if part == 0 then
        events = events + 1
        if time >= last_event then last_event, lag = time, math.max(0, visible - time) end
      end
    end
    at = at + count
    mark_ms, mark_seq, mark_part = ms, seq, rank
    if part == 0 then
      applied, whole, partial = applied + 1, id, nil
    else
      partial = id .. '/' .. part
    end
  end
end

if KEYS[4] then
  write_classes()
  call('EXPIRE', KEYS[4], ttl_s)
end
local out = {}
if whole and whole ~= meta[watermark] then out = { watermark, whole } end
if partial and partial ~= meta[part_of] then
  out[#out + 1] = part_of
  out[#out + 1] = partial
end
if moves then
  out[#out + 1] = 'items_by_class'
  out[#out + 1] = 1
end
local dropped = {}
if #out > 0 then
  if landmark then
    for _, pair in ipairs({
      { 'landmark', exact(landmark) }, { 'last_event', exact(last_event) }, { 'events', exact(events) },
      { 'lag', string.format('%.3f', lag) },
    }) do
      out[#out + 1] = pair[1]
      out[#out + 1] = pair[2]
    end
    for field, total in pairs(totals) do
      out[#out + 1] = 'total:' .. field
      out[#out + 1] = exact(total)
    end
  end
  call('HSET', m, unpack(out))
  if meta[part_of] and not partial then call('HDEL', m, part_of) end
  call('EXPIRE', z, ttl_s)
  if not forgotten or call('TTL', m) < ttl_s then call('EXPIRE', m, ttl_s) end
  if #named > 0 and landmark then
    for _, session in ipairs(named) do call('ZADD', sessions, visible, session) end
    local oldest, ended = call('ZRANGE', sessions, 0, ENDED_AT_ONCE - 1, 'WITHSCORES'), {}
    for i = 1, #oldest, 2 do -- twice, since a session may go on after its last event of this user
      if tonumber(oldest[i + 1]) < visible - 2 * session_ttl_s then ended[#ended + 1] = oldest[i] end
    end
    if #ended > 0 then call('ZREM', sessions, unpack(ended)) end
    dropped = call('ZRANGE', sessions, 0, -SESSIONS_KEPT - 1)
    if #dropped > 0 then call('ZREM', sessions, unpack(dropped)) end
    call('EXPIRE', sessions, session_ttl_s)
  end
end
return status or { applied, forgotten and exact(forgotten) or '', dropped }
