-- Functions that the scripts share; prepended to each.
--
-- A user is present while now - score < window. Times are milliseconds. The window is the longest that a sidecar
-- uses here (presence/settings.rs): no user is removed before that window has passed.

-- How long a sidecar's settings count after its last call: as long as its mark is kept (redis/sweeps.rs). A
-- sidecar that was away for longer finds its mark gone, too, and touches all users again.
local SETTINGS_KEPT = 60000
-- How far ahead of the clock a time may be before the clock counts as set back.
local SET_BACK = 1000

-- Redis' own time (P3): the sidecars' clocks do not matter.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A whole number as text; Lua's own conversion keeps 14 digits only.
local function text(number)
  return string.format('%.0f', number)
end

-- Calls `command key [options] score member …`, a few hundred members at a time: Lua's stack bounds the arguments of
-- one call. `entries` are scores and members in turn.
local function add(key, options, entries)
  for first = 1, #entries, 1000 do
    local some = {}
    for _, option in ipairs(options) do
      some[#some + 1] = option
    end
    for i = first, math.min(first + 999, #entries) do
      some[#some + 1] = entries[i]
    end
    redis.call('ZADD', key, unpack(some))
  end
end

-- The settings of sidecars that share this partition. Returns the longest window in force; the same including
-- settings that no longer count; the time of the latest call; the time of the latest with the settings `mine`, if
-- any; and all settings with their times.
local function in_use(settings, mine, now, window)
  local all = redis.call('ZRANGE', settings, 0, -1, 'WITHSCORES')
  local longest, before, latest, written = window, window, 0, nil
  for i = 1, #all, 2 do
    local other, at = tonumber(string.match(all[i], ' window=(%d+)')) or 0, tonumber(all[i + 1])
    if all[i] == mine then
      written = at
    end
    if now - at < SETTINGS_KEPT then
      longest = math.max(longest, other)
    end
    before, latest = math.max(before, other), math.max(latest, at)
  end
  return longest, before, latest, written, all
end

-- By how much the clock was set back since the latest call, as far as that can be determined; 0 if it was not.
local function set_back_by(latest, now)
  return latest - now >= SET_BACK and latest - now or 0
end

-- The clock was set back: users seen by its old time, after `from`, would stay for as long as it was ahead, and
-- the window. Their scores move back with the clock, so that ages stay right where they are known, and no user is
-- seen later than now.
local function move_back(seen, from, now, by)
  local ahead = redis.call('ZRANGEBYSCORE', seen, '(' .. text(from), '+inf', 'WITHSCORES')
  local moved = {}
  for i = 1, #ahead, 2 do
    moved[#moved + 1] = text(math.min(ahead[i + 1] - by, now))
    moved[#moved + 1] = ahead[i]
  end
  add(seen, {}, moved)
end

-- Removes users of a community whose window has passed; returns whether there were any.
local function prune(seen, now, window)
  return redis.call('ZREMRANGEBYSCORE', seen, '-inf', text(now - window)) > 0
end

-- Counts a community without users whose window has passed, publishes the count if it differs from the one
-- published last, and schedules the next sweep. Every key expires in the end: see presence/redis.rs.
--
-- It also publishes if a user was removed just before (`left`), though others may have taken their place: a count
-- read in between differs from the one published last.
--
-- Published before it is stored: if publishing is refused (an ACL without the channel), every call fails, instead
-- of one that fails and all others staying silent.
local function settle(seen, state, due, community, now, window, keep, channel, left)
  prune(seen, now, window)
  move_back(seen, now + SET_BACK, now, 0)
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
