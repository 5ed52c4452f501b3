-- Adds names to the list of segments, which searches read as JSON, while it has room.
--
-- KEYS  segments
-- ARGV  limit of names, name …
-- Returns the list.
local raw = redis.pcall('GET', KEYS[1])
if type(raw) == 'table' and raw.err and not string.find(raw.err, 'WRONGTYPE', 1, true) then return raw end
if type(raw) ~= 'string' then raw = '[]' end -- none yet, or something else than a text
local ok, listed = pcall(cjson.decode, raw)
local names, known, added = {}, {}, 0
for _, name in ipairs(ok and type(listed) == 'table' and listed or {}) do
  if type(name) == 'string' and not string.find(name, '[^%w_.-]') and not known[name] then
    names[#names + 1], known[name] = name, true
  end
end
for i = 2, #ARGV do
  if not known[ARGV[i]] and #names < tonumber(ARGV[1]) then
    names[#names + 1], known[ARGV[i]], added = ARGV[i], true, added + 1
  end
end
if #names == 0 then return '[]' end
if added > 0 then redis.call('SET', KEYS[1], cjson.encode(names)) end
return cjson.encode(names)
