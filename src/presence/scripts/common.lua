-- What touch and sweep share; put in front of both.
--
-- A user is present while now - score < window. Times are milliseconds.

-- Redis' own time (P3): the sidecars' clocks do not matter.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A whole number as text; Lua's own conversion keeps 14 digits only.
local function text(number)
  return string.format('%.0f', number)
end

-- Forgets the users of a community whose window has passed; says whether there were any.
local function prune(seen, now, window)
  return redis.call('ZREMRANGEBYSCORE', seen, '-inf', text(now - window)) > 0
end

-- Counts a community, without those whose window has passed, publishes the count if it is another than the one
-- published last, and notes when to look again. Every key expires in the end: see presence/redis.rs.
--
-- It also publishes if somebody was forgotten just before (`left`), though others may have come in their place:
-- whoever counted in between has another number than the one published last.
--
-- Published before it is noted: if publishing is refused (an ACL without the channel), every call fails,
-- instead of one that fails and all others staying silent.
local function settle(seen, state, due, community, now, window, keep, channel, left)
  prune(seen, now, window)
  local count = redis.call('ZCARD', seen)
  local published = redis.call('HMGET', state, 'count', 'seq')
  local seq = tonumber(published[2]) or 0
  local changed = left or count ~= (tonumber(published[1]) or 0)
  if changed then
    seq = math.max(seq + 1, now)
    redis.call('PUBLISH', channel, text(count) .. ' ' .. text(seq) .. ' ' .. text(now) .. ' ' .. community)
    redis.call('HSET', state, 'count', text(count), 'seq', text(seq))
  end
  local oldest = redis.call('ZRANGE', seen, 0, 0, 'WITHSCORES')[2]
  if oldest then
    redis.call('ZADD', due, text(oldest + window), community)
  else
    redis.call('ZREM', due, community)
  end
  for _, key in ipairs({ seen, state, due }) do
    redis.call('PEXPIRE', key, keep)
  end
  return count, seq, changed
end
