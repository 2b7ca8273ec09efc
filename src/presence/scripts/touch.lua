-- Touches users of a community.
--
-- KEYS  seen, state, due, settings
-- ARGV  window (ms), how long keys outlive their window (ms), channel, community, when this was sent by the sidecar's
--       estimate of this clock (ms), how long it may wait (ms), the sidecar's settings, then for each user: user, age
--       (ms) when this was sent
-- Returns count, sequence number, now (ms); the count is nil if it waited too long and nothing was done.
--
-- A Redis that hung reads touches from its sockets late, also those whose callers have given up: users are older by
-- that time. If that is too long, this clock may have been set instead; the sender touches again, by the clock as it is
-- now.

local now = now_ms()
local waited = math.max(0, now - tonumber(ARGV[5]))
if waited > tonumber(ARGV[6]) then
  return { false, 0, now }
end

local use = in_use(KEYS[4], ARGV[7], now, tonumber(ARGV[1]))
local window, keep = use.window, text(use.window + tonumber(ARGV[2]))
note_shift(KEYS[4], KEYS[3], use, now)
if not use.written or now - use.written >= 1000 then
  redis.call('ZADD', KEYS[4], text(now), ARGV[7])
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
for i = 8, #ARGV, 2 do
  members[#members + 1] = text(now - waited - tonumber(ARGV[i + 1]))
  members[#members + 1] = ARGV[i]
end
add(KEYS[1], { 'GT' }, members)

local count, seq = settle(part, KEYS[1], KEYS[2], ARGV[4], left)
return { count, seq, now }
