-- Counters by class: what apply.lua keeps in base:c, one packed value for each class. `rewriter.signals.class_counters` describes it.
--
-- Everything happens per part of an entry, so that the result depends on the sequence of entries alone: weights are doubles, which a
-- call leaves and another one finds as they were, and a class beyond its bound loses its lightest value at once.
local VALUES, CLASSES, EVICTED = 64, 256, 16
local HEAD, WEIGHED, MAX_MEMBER = 25, 10, 1024
local MAX_PACKED = HEAD + VALUES * (WEIGHED + MAX_MEMBER)
local opened, changed, class_count = {}, {}, nil
local fields_of_a_class = 1 -- 2 where neighbours are kept as well, under the class's name, U+001F and near

-- The bytes may be anybody's. A class that cannot be read begins anew: an error here would stop the partition for all of its people.
local function read_class(raw)
  if #raw < HEAD or #raw > MAX_PACKED or string.byte(raw) ~= 1 then return end
  local _, landmark, last, total, next_at = struct.unpack('<Bddd', raw)
  landmark, last, total = sound(landmark), sound(last), sound(total)
  if not (landmark and last and total) then return end
  local one = { weights = {}, count = 0, total = total, last = last, landmark = landmark }
  while next_at <= #raw do
    if next_at + WEIGHED > #raw + 1 then return end
    local weight, size = struct.unpack('<dI2', raw, next_at)
    next_at = next_at + WEIGHED + size
    if next_at > #raw + 1 then return end
    local value = string.sub(raw, next_at - size, next_at - 1)
    if sound(weight) and size <= MAX_MEMBER and string.find(value, '^[^\31]+\31.') and not one.weights[value] then
      one.weights[value] = weight
      one.count = one.count + 1
      if one.count == VALUES then break end
    end
  end
  return one
end

local function open_class(name)
  local one = opened[name]
  if one then return one end
  local raw = call('HGET', KEYS[4], name)
  if not raw then class_count = (class_count or call('HLEN', KEYS[4])) + 1 end
  one = raw and read_class(raw) or { weights = {}, count = 0, total = 0, last = 0 }
  opened[name] = one
  return one
end

local function write_classes()
  for name in pairs(changed) do
    local one, ranked = opened[name], {}
    for value, weight in pairs(one.weights) do ranked[#ranked + 1] = { weight, value } end
    table.sort(ranked, function(a, b) return a[1] > b[1] or a[1] == b[1] and a[2] < b[2] end)
    local parts = { struct.pack('<Bddd', 1, one.landmark, one.last, one.total) }
    for _, pair in ipairs(ranked) do parts[#parts + 1] = struct.pack('<dI2', pair[1], #pair[2]) .. pair[2] end
    call('HSET', KEYS[4], name, table.concat(parts))
  end
  changed = {}
end

-- The classes used longest ago go, some at once, since all have to be looked at.
local function evict_classes()
  if not class_count or class_count <= CLASSES * fields_of_a_class + EVICTED then return end
  write_classes()
  local all, ages = call('HGETALL', KEYS[4]), {}
  for i = 1, #all, 2 do
    local last = #all[i + 1] >= HEAD and sound((select(3, struct.unpack('<Bddd', all[i + 1])))) or 0
    ages[#ages + 1] = { last, all[i] }
  end
  table.sort(ages, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
  for i = 1, #ages - CLASSES * fields_of_a_class do
    call('HDEL', KEYS[4], ages[i][2])
    opened[ages[i][2]] = nil
  end
  class_count = CLASSES * fields_of_a_class
end

-- Adds to one value of a class; `totals` says whether it counts in the class's total.
local function add_to_class(name, value, field, time, weight, in_total)
  local one = open_class(name)
  if not one.landmark then
    one.landmark = time
  elseif time - one.landmark > shortest / 4 then
    for known, its in pairs(one.weights) do
      local its_field = string.sub(known, 1, string.find(known, '\31', 1, true) - 1)
      local aged_to = its * growth(time, one.landmark, its_field)
      one.weights[known] = aged_to > 1e-9 and aged_to or nil
      if aged_to <= 1e-9 then one.count = one.count - 1 end
    end
    one.total = one.total * growth(time, one.landmark, 'item')
    one.landmark = time
  end
  local worth, had = weight * growth(one.landmark, time, field), one.weights[value]
  local now = math.max(0, (had or 0) + worth)
  if now > 0 and not had then one.count = one.count + 1 end
  if now == 0 and had then one.count = one.count - 1 end
  one.weights[value] = now > 0 and now or nil
  if in_total then one.total = math.max(0, one.total + worth) end
  one.last = math.max(one.last, time)
  if one.count > VALUES then
    local lightest
    for known, its in pairs(one.weights) do
      local least = lightest and one.weights[lightest]
      if not least or its < least or its == least and known > lightest then lightest = known end
    end
    one.weights[lightest] = nil
    one.count = one.count - 1
  end
  changed[name] = true
  evict_classes()
end
