-- Admits names to the list of segments, which the search side reads as JSON, while there is room.
--
-- KEYS  segments
-- ARGV  most names, name …
-- Returns the list.
local raw = redis.call('GET', KEYS[1])
local ok, names = pcall(cjson.decode, raw or '[]')
if not ok or type(names) ~= 'table' then names = {} end
local known = {}
for _, name in ipairs(names) do known[name] = true end
local added = 0
for i = 2, #ARGV do
  if not known[ARGV[i]] and #names < tonumber(ARGV[1]) then
    names[#names + 1], known[ARGV[i]], added = ARGV[i], true, added + 1
  end
end
if added == 0 then return #names > 0 and raw or '[]' end
redis.call('SET', KEYS[1], cjson.encode(names))
return cjson.encode(names)
