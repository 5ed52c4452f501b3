-- Whether the role may run what a script runs. What a script has changed before a command is refused stays, so it is asked first.
local function refused(names)
  if not redis.acl_check_cmd then return nil end -- Redis before 7.0
  for name in string.gmatch(names, '%a+') do
    if not redis.acl_check_cmd(name, KEYS[1]) then return redis.error_reply('NOPERM the role may not run ' .. name) end
  end
end
