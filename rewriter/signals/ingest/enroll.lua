-- Notes that a worker is alive, strikes out those that fell silent, and counts the rest, all by the server's clock.
--
-- KEYS  workers
-- ARGV  token, silent after (s)
-- Returns { how many workers are alive, the server's time in ms }.
local time = redis.call('TIME')
local now_s = time[1] + time[2] / 1e6
redis.call('ZADD', KEYS[1], now_s, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_s - tonumber(ARGV[2]))
redis.call('EXPIRE', KEYS[1], 3600)
return { redis.call('ZCARD', KEYS[1]), math.floor(now_s * 1000) }
