-- Whether the role may run all that applies entries: apply.lua and age.lua run often, and do not ask. KEYS any key. Returns 1, or an error.
return refused('HGETALL HSET HDEL TIME ZCARD ZRANGE ZMSCORE ZADD ZREM ZREMRANGEBYRANK UNLINK EXPIRE TTL HMGET RENAME EXISTS') or 1
