-- Touches users of a community.
--
-- KEYS  seen, state, due, settings
-- ARGV  window (ms), how long keys outlive their window (ms), channel, community, not after (ms), the sidecar's
--       settings, then for each user: user, age (ms)
-- Returns count, sequence number, now (ms); the count is nil if it was too late and nothing was done.
--
-- Too late: a Redis that hung reads touches from its sockets whose callers have given up. It would take users who
-- were seen long ago for seen just now; the sender touches again, with the true age.

local now = now_ms()
if now > tonumber(ARGV[5]) then
  return { false, 0, now }
end

local use = in_use(KEYS[4], ARGV[6], now, tonumber(ARGV[1]))
local window, keep = use.window, text(use.window + tonumber(ARGV[2]))
note_shift(KEYS[4], KEYS[3], use, now)
if not use.written or now - use.written >= 1000 then
  redis.call('ZADD', KEYS[4], text(now), ARGV[6])
  redis.call('PEXPIRE', KEYS[4], keep)
end
local part = {
  due = KEYS[3], channel = ARGV[3], now = now, window = window, keep = keep, shift = use.shift,
}

-- Before users are added who were seen by the clock as it is now.
catch_up(part, KEYS[1], KEYS[2])
local left = prune(KEYS[1], now, window)

-- GT: last seen never goes back, even if an old touch is made again.
local members = {}
for i = 7, #ARGV, 2 do
  members[#members + 1] = text(now - tonumber(ARGV[i + 1]))
  members[#members + 1] = ARGV[i]
end
add(KEYS[1], { 'GT' }, members)

local count, seq = settle(part, KEYS[1], KEYS[2], ARGV[4], left)
return { count, seq, now }
