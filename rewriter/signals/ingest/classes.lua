-- Counters by class: what apply.lua keeps in base:c, some classes in each of a few buckets. `rewriter.signals.class_layout` describes
-- the bytes. Within a script a counter is its bytes (its field's number, a code and the value), so that only new ones are translated.
--
-- Everything happens per part of an entry, so that the result depends on the sequence of entries alone: a weight is rounded to its
-- number when an entry adds to it, and a class beyond its bounds loses its lightest value at once, a bucket the class used longest ago.
--
-- The bytes may be anybody's. What cannot be read begins anew: an error here would stop the partition for all of its people.
local BUCKETS, IN_BUCKET, VALUES, CLASS_BYTES, UNIT = 16, 24, 64, 16384, 256
local BUCKET_BYTES, LAST_LANDMARK = 1 + IN_BUCKET * (CLASS_BYTES + 10 + 3 * VALUES), 2 ^ 24 * UNIT - 1
local MANY, LEFT_OUT = 32768, 23
local buckets, names, number_of_field, names_changed, digests = {}, nil, {}, false, {}
local byte, sub = string.byte, string.sub

local function weight_of(q) return 2 ^ ((q - MIDDLE) / STEPS) end

local function field_number(field)
  if not names then
    names = {}
    for name in string.gmatch(call('HGET', KEYS[4], '\31') or '', '[^\31]+') do
      names[#names + 1] = name
      number_of_field[name] = number_of_field[name] or #names - 1
    end
  end
  if not number_of_field[field] and #names < 255 then
    names[#names + 1] = field
    number_of_field[field] = #names - 1
    names_changed = true
  end
  return number_of_field[field]
end

-- A counter's bytes: nil for a field beyond the 255th.
local function counter(field, value)
  local number = field_number(field)
  if not number then return nil end
  local head, rest = number * 32, ''
  if number >= 7 then head, rest = 224, string.char(number) end
  if #value <= 14 and string.find(value, '^[1-9]%d*$') then
    local whole, bytes = tonumber(value), {}
    while whole > 0 do
      bytes[#bytes + 1] = string.char(whole % 256)
      whole = math.floor(whole / 256)
    end
    return string.char(head + LEFT_OUT + #bytes) .. rest .. table.concat(bytes)
  end
  if #value > 22 then return string.char(head) .. rest .. struct.pack('<I2', #value) .. value end
  return string.char(head + #value) .. rest .. value
end
local left_out_key
local function left_out()
  if not left_out_key then
    local number = field_number('item')
    left_out_key = number < 7 and string.char(32 * number + LEFT_OUT) or string.char(224 + LEFT_OUT, number)
  end
  return left_out_key
end

-- Length of the counter that begins at a byte, and whether it is one of items that are left out.
local function length_of(raw, from)
  local head = byte(raw, from)
  if not head then return nil end
  local code, before = head % 32, head >= 224 and 2 or 1
  if code > 29 then return nil end
  if code > LEFT_OUT then return before + code - LEFT_OUT end
  if code > 0 then return before + (code == LEFT_OUT and 0 or code), code == LEFT_OUT end
  local low, high = byte(raw, from + before, from + before + 1)
  if high and low + high > 0 then return before + 2 + low + 256 * high end
end
local function field_of_counter(key)
  local head = byte(key)
  return names[(head >= 224 and byte(key, 2) or math.floor(head / 32)) + 1] or ''
end

-- The first bytes of items' counters lie between these.
local items_from, items_to

-- A bucket: its bytes, its classes by digest in the order of their use, and from where to where each one's bytes go.
local function open_bucket(name)
  local one = buckets[name]
  if one then return one end
  local raw = call('HGET', KEYS[4], name) or ''
  local order, starts, bodies, ends = {}, {}, {}, {}
  one = { raw = raw, order = order, starts = starts, bodies = bodies, ends = ends, open = {}, changed = false }
  buckets[name] = one
  if byte(raw) ~= 2 or #raw > BUCKET_BYTES then return one end
  local from, length = 2, #raw
  while from + 4 <= length and #order < IN_BUCKET do
    local digest, size, body = sub(raw, from, from + 3), byte(raw, from + 4), from + 5
    if size == 255 then
      local low, high = byte(raw, body, body + 1)
      if not high then break end
      size, body = low + 256 * high, body + 2
    end
    if body + size - 1 > length then break end
    if not starts[digest] then order[#order + 1] = digest end
    starts[digest], bodies[digest], ends[digest] = from, body, body + size - 1
    from = body + size
  end
  return one
end

-- Reads the bytes of a class into `one`, and returns whether they are sound.
local function read_class(one, raw)
  if #raw < 3 then return false end
  local a, b, c = byte(raw, 1, 3)
  one.landmark = UNIT * (a + 256 * b + 65536 * c)
  local from, strength = 4, nil
  while from <= #raw do
    local low, high = byte(raw, from, from + 1)
    if not high then return false end
    local q, many = low + 256 * high, 1
    from = from + 2
    if q >= MANY then
      q, many, from = q - MANY, byte(raw, from), from + 1
      if not many then return false end
      if many == 0 then strength = q > 0 and q or nil end
    end
    for _ = 1, many do
      local size, rest = length_of(raw, from)
      if not size or from + size - 1 > #raw then return false end
      local key = sub(raw, from, from + size - 1)
      if not one.numbers[key] and not rest then one.count, one.bytes = one.count + 1, one.bytes + size end
      one.numbers[key] = q
      if strength and not rest then
        local head = byte(key)
        if head >= items_from and head <= items_to then one.strengths[key] = strength end
      end
      if one.count > VALUES then return false end
      from = from + size
    end
  end
  return true
end

-- Sets a counter's number, 0 for none.
local function set_number(one, key, q)
  local had = one.numbers[key]
  if q == 0 then q = nil end
  if q and not had then one.count, one.bytes = one.count + 1, one.bytes + #key end
  if had and not q then one.count, one.bytes, one.strengths[key] = one.count - 1, one.bytes - #key, nil end
  one.numbers[key] = q
end

local function add_left_out(one, weight)
  local key = left_out()
  one.numbers[key] = rounded(weight + (one.numbers[key] and weight_of(one.numbers[key]) or 0))
end

-- Adds a class of the layout before to `one`: a hash field of its own, with doubles. It is looked for whenever a class is read, since
-- workers of two versions may run at once.
local function take_first(one, name)
  local raw = call('HGET', KEYS[4], name)
  if not raw then return end
  call('HDEL', KEYS[4], name)
  if #raw < 25 or #raw > 25 + VALUES * 1034 or byte(raw) ~= 1 then return end
  local _, landmark, last, total, from = struct.unpack('<Bddd', raw)
  landmark, total = sound(landmark), sound(total)
  if not (landmark and landmark <= LAST_LANDMARK and sound(last) and total) then return end
  local found, rest = {}, total
  while from <= #raw do
    if from + 9 > #raw then return end
    local weight, size = struct.unpack('<dI2', raw, from)
    from = from + 10 + size
    if from > #raw + 1 then return end
    local field, value = string.match(sub(raw, from - size, from - 1), '^([^\31]+)\31(.+)$')
    if field and size <= 1024 and sound(weight) and #found < VALUES then
      found[#found + 1] = { field, value, weight }
      if field == 'item' then rest = rest - weight end
    end
  end
  one.landmark = one.landmark or math.floor(landmark / UNIT) * UNIT
  for _, one_of in ipairs(found) do
    local field, value, weight = unpack(one_of)
    local key = counter(field, value)
    if key then
      local had = one.numbers[key] and weight_of(one.numbers[key]) or 0
      set_number(one, key, rounded(had + weight * growth(one.landmark, landmark, field)))
    end
  end
  if rest > total / STEPS then add_left_out(one, rest * growth(one.landmark, landmark, 'item')) end
end

local function digest_of(name)
  local digest = digests[name]
  if not digest then
    digest = string.gsub(sub(redis.sha1hex(name), 1, 8), '%x%x', function(hex) return string.char(tonumber(hex, 16)) end)
    digests[name] = digest
  end
  return digest
end

-- Makes a class the one of its bucket that was used last.
local function used_last(bucket, digest)
  local order = bucket.order
  if order[1] == digest then return end
  for at = #order, 1, -1 do
    if order[at] == digest then table.remove(order, at) end
  end
  table.insert(order, 1, digest)
  if #order > IN_BUCKET then
    local last = table.remove(order)
    bucket.starts[last], bucket.open[last] = nil, nil
  end
end

local function open_class(name, is_near)
  local digest = digest_of(name)
  local bucket = open_bucket((is_near and '\31n' or '\31') .. byte(digest) % BUCKETS)
  local one = bucket.open[digest]
  if not one then
    items_from = 32 * math.min(7, field_number('item'))
    items_to = items_from + 31
    one = { numbers = {}, strengths = {}, count = 0, bytes = 0 }
    if bucket.starts[digest] and not read_class(one, sub(bucket.raw, bucket.bodies[digest], bucket.ends[digest])) then
      one = { numbers = {}, strengths = {}, count = 0, bytes = 0 }
    end
    take_first(one, is_near and name .. '\31near' or name)
    bucket.open[digest] = one
    bucket.changed = true
  end
  used_last(bucket, digest)
  return one
end

-- Items of one strength after another, the strongest first; what is no item goes with these.
local function bytes_of(one)
  local by_number, order, strongest, rest = {}, {}, 0, left_out()
  for _, strength in pairs(one.strengths) do strongest = math.max(strongest, strength) end
  for key, q in pairs(one.numbers) do
    local strength, head = strongest, byte(key)
    if strength > 0 and head >= items_from and head <= items_to and key ~= rest then strength = one.strengths[key] or 0 end
    local at = strength * MANY + q
    if not by_number[at] then
      by_number[at] = {}
      order[#order + 1] = at
    end
    local group = by_number[at]
    group[#group + 1] = key
  end
  table.sort(order, function(a, b) return a > b end)
  local units = one.landmark / UNIT
  local parts = { string.char(units % 256, math.floor(units / 256) % 256, math.floor(units / 65536) % 256) }
  local strength = 0
  for _, at in ipairs(order) do
    local group, q = by_number[at], at % MANY
    if (at - q) / MANY ~= strength then
      strength = (at - q) / MANY
      parts[#parts + 1] = struct.pack('<I2B', strength + MANY, 0)
    end
    table.sort(group)
    parts[#parts + 1] = #group == 1 and struct.pack('<I2', q) or struct.pack('<I2B', q + MANY, #group)
    parts[#parts + 1] = table.concat(group)
  end
  return table.concat(parts)
end

local function write_classes()
  if names_changed then call('HSET', KEYS[4], '\31', table.concat(names, '\31')) end
  for name, bucket in pairs(buckets) do
    if bucket.changed then
      local parts, from, to = { '\2' }, nil, nil
      for _, digest in ipairs(bucket.order) do
        local one = bucket.open[digest]
        if one or bucket.starts[digest] ~= (to or 0) + 1 then
          if from then parts[#parts + 1] = sub(bucket.raw, from, to) end
          from, to = nil, nil
        end
        if one then
          local raw = bytes_of(one)
          parts[#parts + 1] = digest .. (#raw < 255 and string.char(#raw) or struct.pack('<BI2', 255, #raw)) .. raw
        else
          from, to = from or bucket.starts[digest], bucket.ends[digest]
        end
      end
      if from then parts[#parts + 1] = sub(bucket.raw, from, to) end
      call('HSET', KEYS[4], name, table.concat(parts))
    end
  end
end

local function without_lightest(one)
  local lightest
  local rest = left_out()
  for key, q in pairs(one.numbers) do
    local least = lightest and one.numbers[lightest]
    if key ~= rest and (not least or q < least or q == least and key > lightest) then lightest = key end
  end
  local weight = weight_of(one.numbers[lightest])
  set_number(one, lightest, 0)
  if field_of_counter(lightest) == 'item' then
    add_left_out(one, weight)
  end
end

-- Adds to one value of a class, or of its neighbours. strength: of an item, else nil.
local function add_to_class(name, is_near, field, value, time, weight, strength)
  local one = open_class(name, is_near)
  if not one.landmark then
    one.landmark = math.floor(time / UNIT) * UNIT
  elseif time - one.landmark > shortest / 4 + UNIT then
    local to = math.floor(time / UNIT) * UNIT
    local rest = left_out()
    for key, q in pairs(one.numbers) do
      local aged_to = q - math.floor(STEPS * (to - one.landmark) / (half_lives[field_of_counter(key)] or default) + 0.5)
      if key == rest then one.numbers[key] = aged_to > 0 and aged_to or nil else set_number(one, key, math.max(0, aged_to)) end
    end
    one.landmark = to
  end
  local key = counter(field, value)
  if not key then return end
  local had = one.numbers[key] and weight_of(one.numbers[key]) or 0
  local now = had + weight * growth(one.landmark, time, field)
  if now < had / STEPS then now = 0 end -- what is left is less than a weight is exact to
  set_number(one, key, rounded(now))
  if strength and strength > (one.strengths[key] or 0) and one.numbers[key] then one.strengths[key] = strength end
  while one.count > VALUES or one.bytes > CLASS_BYTES do without_lightest(one) end
end

-- Takes an item of the layout before from base:z, where its class is not kept here yet: classes that are kept have counted it. Call it
-- for the heaviest first. A bucket evicts no class for it.
local taken = {}
local function take_item(name, item, time, weight)
  if #name + #item > 1024 then return end
  if taken[name] == nil then
    local digest = digest_of(name)
    local bucket = open_bucket('\31' .. byte(digest) % BUCKETS)
    taken[name] = false
    if not (bucket.starts[digest] or bucket.open[digest]) and #bucket.order < IN_BUCKET then
      local one = open_class(name, false)
      one.landmark = one.landmark or math.floor(time / UNIT) * UNIT
      taken[name] = one
      table.insert(bucket.order, table.remove(bucket.order, 1)) -- behind those that were used since
    end
  end
  local one = taken[name]
  local key = one and counter('item', item)
  if not key or one.numbers[key] or one.count >= VALUES or one.bytes + #key > CLASS_BYTES then return end
  set_number(one, key, rounded(weight * growth(one.landmark, time, 'item')))
end
