-- Sweeps one partition: removes users whose window has passed, in the scopes that are due longest. Also
-- writes the sidecar's mark over the previous one, to detect data loss in Redis (redis/marks.rs), and its
-- settings, to compare them with other sidecars' (presence/settings.rs).
--
-- KEYS  due, mark, settings, due of finer scopes and the site; in the first partition of a single server, where a sidecar
--       asks whether it is the one that sweeps the others (redis/turns.rs): which one it is
-- ARGV  window (ms), how long keys outlive their window (ms), channel, first part of seen keys, first part of state
--       keys, limit, the mark's number, how long it is kept (ms), the sidecar's settings, its name, how long the lease of
--       the sweeps lasts (ms)
-- The keys made from ARGV carry the hash tag of KEYS[1]: they are in its slot.
-- Returns now (ms), lag (ms), whether more scopes are due (1 or 0), the mark's number before, settings in use,
-- changes: { scope, count, sequence number }…, whether the sidecar holds the lease (1 or 0), time until a scope is due (ms),
-- -1 if there is none.

-- Users moved in one call after the clock was set back, before the rest is left to the next call: keeps a call at some
-- tens of milliseconds of Redis' one thread.
local MOVED = 10000

local now = now_ms()
local mark = redis.call('GET', KEYS[2])
redis.call('SET', KEYS[2], ARGV[7], 'PX', ARGV[8])

local use = in_use(KEYS[3], ARGV[9], now, tonumber(ARGV[1]))
local window, keep = use.window, text(use.window + tonumber(ARGV[2]))
note_shift(KEYS[3], { KEYS[1], KEYS[4] }, use, now)
if window < use.before then
  -- The sidecars with the longest window have gone: all users leave earlier.
  look_again({ KEYS[1], KEYS[4] }, now)
end
-- A touch that noticed first that the clock was set back may not have had their key.
if use.shift ~= use.noticed then
  look_again({ KEYS[4] }, now)
  redis.call('ZADD', KEYS[3], text(use.shift), NOTICED)
end
local settings = { ARGV[9] }
redis.call('ZADD', KEYS[3], text(now), ARGV[9])
for _, other in ipairs(use.all) do
  if other[1] ~= ARGV[9] then
    if now - other[2] >= SETTINGS_KEPT then
      redis.call('ZREM', KEYS[3], other[1])
    else
      settings[#settings + 1] = other[1]
    end
  end
end
redis.call('PEXPIRE', KEYS[3], keep)

local limit = tonumber(ARGV[6])
-- No window that has begun by now ends that late: the clock was ahead, and no call noticed when it was set back.
local late = text(now + window + SET_BACK)
local changes, lag, more = {}, 0, false

-- Sweeps the scopes of one kind.
local function sweep(key)
  local due = redis.call('ZRANGEBYSCORE', key, '-inf', text(now), 'WITHSCORES', 'LIMIT', 0, limit)
  for _, scope in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. late, '+inf', 'LIMIT', 0, limit)) do
    due[#due + 1] = scope
    due[#due + 1] = text(now)
  end
  local part = part_of(key, ARGV[3], now, window, keep, use.shift)
  local moved, looked_at = 0, 0
  for i = 1, #due, 2 do
    if moved >= MOVED then
      break
    end
    local scope = due[i]
    local seen, state = ARGV[4] .. scope, ARGV[5] .. scope
    local known = stored(state)
    moved = moved + catch_up(part, seen, state, known)
    prune(part, seen)
    local count, seq, changed = settle(part, seen, state, scope, known, false)
    if changed then
      changes[#changes + 1] = { scope, count, seq }
    end
    looked_at = looked_at + 1
  end
  if looked_at > 0 then
    keep_due(part)
  end
  lag = math.max(lag, due[2] and now - due[2] or 0)
  more = more or looked_at < #due / 2 or looked_at >= limit
end

sweep(KEYS[1])
sweep(KEYS[4])

local holds = 0
if KEYS[5] then
  local holder = redis.call('GET', KEYS[5])
  if not holder or holder == ARGV[10] then
    redis.call('SET', KEYS[5], ARGV[10], 'PX', ARGV[11])
    holds = 1
  end
end

local left = -1
for _, key in ipairs({ KEYS[1], KEYS[4] }) do
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  if first then
    local its = math.max(0, first - now)
    left = left < 0 and its or math.min(left, its)
  end
end
return { now, lag, more and 1 or 0, mark, settings, changes, holds, left }
