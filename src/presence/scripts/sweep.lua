-- Forgets users of one partition whose window has passed, in the communities that are due longest; and writes
-- the sidecar's mark over the one before, by which it learns whether Redis lost something (redis/marks.rs).
--
-- KEYS  due, mark
-- ARGV  window (ms), keep (ms), channel, first part of seen keys, first part of state keys, limit, the mark's
--       number, and how long it is kept (ms)
-- The keys made from ARGV carry the hash tag of KEYS[1]: they are in its slot.
-- Returns now (ms), lag (ms), communities looked at, the mark's number before, changes: { community, count,
-- sequence number }…

local now = now_ms()
local window = tonumber(ARGV[1])
local mark = redis.call('GET', KEYS[2])
redis.call('SET', KEYS[2], ARGV[7], 'PX', ARGV[8])
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now), 'WITHSCORES', 'LIMIT', 0, ARGV[6])

local changes = {}
for i = 1, #due, 2 do
  local community = due[i]
  local count, seq, changed = settle(
    ARGV[4] .. community, ARGV[5] .. community, KEYS[1], community, now, window, ARGV[2], ARGV[3], false)
  if changed then
    changes[#changes + 1] = { community, count, seq }
  end
end

local lag = due[2] and now - due[2] or 0
return { now, lag, #due / 2, mark, changes }
