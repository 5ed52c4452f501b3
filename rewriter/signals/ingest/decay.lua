-- Forward decay: the functions shared by apply.lua and age.lua, prepended to both. It reads the half-lives from ARGV, and base:m.
local call = redis.call
local at = 0
local function take() at = at + 1; return ARGV[at] end
local function exact(number) return string.format('%.17g', number) end
local function sound(text)
  local number = tonumber(text)
  if number and number >= 0 and number <= 1e100 then return number end
end

local default, shortest = tonumber(take()), tonumber(take())
local half_lives = {}
for _ = 1, tonumber(take()) do
  local name = take()
  half_lives[name] = tonumber(take())
end
local function growth(from, to, field)
  return 2 ^ math.max(-1000, math.min(1000, (to - from) / (half_lives[field] or default)))
end

-- The strength of an item, the weight of the strongest action, in the last bits of its counter: see `rewriter.signals.strengths`.
local STEPS, MIDDLE, LAST = 512, 16384, 32767
local BITS, NUMBER, PATTERN = 2 ^ 26, 2 ^ 15, 1371
local OCTAVE = STEPS / math.log(2)
local function rounded(weight)
  if weight <= 0 then return 0 end
  return math.max(0, math.min(LAST, math.floor(OCTAVE * math.log(weight) + 0.5) + MIDDLE))
end
local function marked(counter, number)
  if number == 0 or counter <= 0 then return counter end
  local mantissa, exponent = math.frexp(counter)
  local whole = mantissa * 2 ^ 53
  return math.ldexp(whole - whole % BITS + PATTERN * NUMBER + number, exponent - 53)
end
local function strength_in(counter)
  local last = (math.frexp(counter) * 2 ^ 53) % BITS
  local number = last % NUMBER
  return last - number == PATTERN * NUMBER and number or 0
end

local meta, totals = {}, {}
local known = call('HGETALL', KEYS[2])
for i = 1, #known, 2 do
  meta[known[i]] = known[i + 1]
  if string.sub(known[i], 1, 6) == 'total:' then totals[string.sub(known[i], 7)] = sound(known[i + 1]) end
end
local landmark = sound(meta.landmark)

-- Weights of members and totals at another landmark. Beyond a quarter of the shortest half-life the order by rank would differ from
-- the order by weight, and later the floats would overflow.
local factors = {}
local function factor(to, field)
  if not factors[field] then factors[field] = growth(to, landmark, field) end
  return factors[field]
end
local function aged(to, members)
  local kept = {}
  for i = 1, #members, 2 do
    local cut = string.find(members[i], '\31', 1, true)
    local had = cut and sound(members[i + 1]) or 0
    local weight = had > 0 and had * factor(to, string.sub(members[i], 1, cut - 1)) or 0
    if weight > 1e-9 then
      kept[#kept + 1] = marked(weight, strength_in(had))
      kept[#kept + 1] = members[i]
    end
  end
  return kept
end
