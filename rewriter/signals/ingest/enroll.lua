-- Registers a live worker, removes silent ones, and counts the live ones, by the server's clock.
--
-- KEYS  workers
-- ARGV  token, seconds after which a worker is silent
-- Returns { number of live workers, the server's time in ms }.
local time = redis.call('TIME')
local now_s = time[1] + time[2] / 1e6
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'zset' and kind ~= 'none' then redis.call('UNLINK', KEYS[1]) end -- each worker enrolls again within a beat
redis.call('ZADD', KEYS[1], now_s, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_s - tonumber(ARGV[2]))
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('%.6f', now_s + 1), '+inf') -- written by a clock that was ahead: they would stay live
redis.call('EXPIRE', KEYS[1], 3600)
return { redis.call('ZCARD', KEYS[1]), math.floor(now_s * 1000) }
