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

-- Members of the settings' sorted set whose score is no time: by how much the clock was set back in total, and how much of
-- that the sweeps of finer scopes have taken notice of.
local SHIFT, NOTICED = 'shift', 'noticed'

-- The settings of sidecars that share this partition. Returns the longest `window` in force; the same including
-- settings that no longer count (`before`); the time of the `latest` call; the time of the latest with the settings
-- `mine`, if any (`written`); `all` settings with their times; and by how much the clock was set back in total (`shift`).
local function in_use(settings, mine, now, window)
  local stored = redis.call('ZRANGE', settings, 0, -1, 'WITHSCORES')
  local use = { window = window, before = window, latest = 0, all = {}, shift = 0, noticed = 0 }
  for i = 1, #stored, 2 do
    local other, at = stored[i], tonumber(stored[i + 1])
    if other == SHIFT then
      use.shift = at
    elseif other == NOTICED then
      use.noticed = at
    else
      local its = tonumber(string.match(other, ' window=(%d+)')) or 0
      if other == mine then
        use.written = at
      end
      if now - at < SETTINGS_KEPT then
        use.window = math.max(use.window, its)
      end
      use.before, use.latest = math.max(use.before, its), math.max(use.latest, at)
      use.all[#use.all + 1] = { other, at }
    end
  end
  return use
end

-- Makes everything due for the sweeps: `dues` are the sorted sets of communities, and of finer scopes and the site.
local function look_again(dues, now)
  for _, due in ipairs(dues) do
    local again = {}
    for _, scope in ipairs(redis.call('ZRANGEBYSCORE', due, '(' .. text(now), '+inf')) do
      again[#again + 1] = text(now)
      again[#again + 1] = scope
    end
    add(due, {}, again)
  end
end

-- Stores by how much the clock was set back since the latest call, as far as that can be determined: once, in the first
-- script that notices. Each scope is moved later (catch_up).
local function note_shift(settings, dues, use, now)
  if use.latest - now < SET_BACK then
    return
  end
  use.shift = use.shift + use.latest - now
  redis.call('ZADD', settings, text(use.shift), SHIFT)
  for _, other in ipairs(use.all) do
    if other[2] > now then
      other[2] = now
      redis.call('ZADD', settings, text(now), other[1])
    end
  end
  look_again(dues, now)
end

-- What is stored of a scope: its sequence number, how much of the shift its users were moved by, and the count that was
-- published last.
local function stored(state)
  return redis.call('HMGET', state, 'seq', 'shift', 'count')
end

-- Users seen before the clock was set back would stay longer by that amount: moves all users of a scope by it, once.
-- Returns how many were moved.
local function catch_up(part, seen, state, known)
  local by = part.shift - (tonumber(known[2]) or 0)
  if by == 0 then
    return 0
  end
  -- A scope without state is new, or Redis has evicted it: by how much it was moved already is not known then.
  if not known[1] then
    by = 0
  end
  local moved = {}
  -- Less than zero if Redis lost the total.
  local all = by > 0 and redis.call('ZRANGE', seen, 0, -1, 'WITHSCORES') or {}
  for i = 1, #all, 2 do
    moved[#moved + 1] = text(math.min(all[i + 1] - by, part.now))
    moved[#moved + 1] = all[i]
  end
  add(seen, {}, moved)
  redis.call('HSET', state, 'shift', text(part.shift))
  return #moved / 2
end

-- No user is seen later than now.
local function clamp(part, seen)
  local moved = {}
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', seen, part.late, '+inf')) do
    moved[#moved + 1] = text(part.now)
    moved[#moved + 1] = member
  end
  add(seen, {}, moved)
end

-- Removes users of a scope whose window has passed; returns whether there were any.
local function prune(part, seen)
  return redis.call('ZREMRANGEBYSCORE', seen, '-inf', part.expired) > 0
end

-- The whole site, as it stands in names (presence/keys.rs).
local SITE = '\31site'
-- How long keys of what is finer than a community outlive the window: there are as many as the app has pages. As long as in
-- presence.rs.
local FINER_KEPT = 300000
-- A day, in milliseconds.
local DAY = 86400000

-- Notes the whole site's count, which was `before` until now, for the peak of the day.
local function note_peak(state, now, count, before)
  local day = text(math.floor(now / DAY))
  local noted = redis.call('HMGET', state, 'day', 'peak')
  -- Whoever was there when the day began.
  local peak = noted[1] == day and tonumber(noted[2]) or before
  redis.call('HSET', state, 'day', day, 'peak', text(math.max(peak, count)))
end

-- What all scopes of a kind share in a call: the sorted set of when they are `due`, the `channel`, the time, the `window`, how
-- long keys are kept, and `shift` as above.
local function part_of(due, channel, now, window, keep, shift)
  return {
    due = due, channel = channel, now = now, window = window, keep = keep, shift = shift,
    expired = text(now - window), late = '(' .. text(now + SET_BACK), keep_finer = text(window + FINER_KEPT),
  }
end

-- Counts a scope, whose users are pruned, publishes the count if it differs from the one published last, and schedules the
-- next sweep. Every key expires in the end (presence/redis.rs): these here, `due` by `keep_due`.
--
-- It also publishes if a user was removed just before (`left`), though others may have taken their place: a count
-- read in between differs from the one published last.
--
-- Published before it is stored: if publishing is refused (an ACL without the channel), every call fails, instead
-- of one that fails and all others staying silent.
--
-- `known` is what was stored. Returns the count, its sequence number, and whether it changed.
local function settle(part, seen, state, scope, known, left)
  local now = part.now
  clamp(part, seen)
  local count = redis.call('ZCARD', seen)
  local seq, published = tonumber(known[1]) or 0, tonumber(known[3]) or 0
  local changed = left or count ~= published
  if changed then
    seq = math.max(seq + 1, now)
    redis.call('PUBLISH', part.channel,
      text(count) .. ' ' .. text(seq) .. ' ' .. text(now) .. ' ' .. scope)
    redis.call('HSET', state, 'count', text(count), 'seq', text(seq))
    if scope == SITE then
      note_peak(state, now, count, published)
    end
  end
  local oldest = redis.call('ZRANGE', seen, 0, 0, 'WITHSCORES')[2]
  if oldest then
    redis.call('ZADD', part.due, text(oldest + part.window), scope)
  else
    redis.call('ZREM', part.due, scope)
  end
  local is_finer = scope ~= SITE and string.find(scope, '\31', 1, true)
  local keep = is_finer and part.keep_finer or part.keep
  redis.call('PEXPIRE', seen, keep)
  redis.call('PEXPIRE', state, keep)
  return count, seq, changed
end

-- After all scopes of a kind are settled: a sorted set that a first scope has made expires like others.
local function keep_due(part)
  redis.call('PEXPIRE', part.due, part.keep)
end
