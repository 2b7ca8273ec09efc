-- Sweeps one partition: removes users whose window has passed, in the communities that are due longest. Also
-- writes the sidecar's mark over the previous one, to detect data loss in Redis (redis/marks.rs), and its
-- settings, to compare them with other sidecars' (presence/settings.rs).
--
-- KEYS  due, mark, settings
-- ARGV  window (ms), how long keys outlive their window (ms), channel, first part of seen keys, first part of state
--       keys, limit, the mark's number, how long it is kept (ms), the sidecar's settings
-- The keys made from ARGV carry the hash tag of KEYS[1]: they are in its slot.
-- Returns now (ms), lag (ms), communities looked at, the mark's number before, settings in use, changes: {
-- community, count, sequence number }…

local now = now_ms()
local mark = redis.call('GET', KEYS[2])
redis.call('SET', KEYS[2], ARGV[7], 'PX', ARGV[8])

local window, before, latest, _, all = in_use(KEYS[3], ARGV[9], now, tonumber(ARGV[1]))
local keep = text(window + tonumber(ARGV[2]))
local by = set_back_by(latest, now)
if by > 0 or window < before then
  -- Every community is due again: after the clock was set back, at once; after the sidecars with the longest
  -- window have gone, earlier by the difference.
  local due = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
  local again = {}
  for i = 1, #due, 2 do
    if by > 0 then
      move_back(ARGV[4] .. due[i], now, now, by)
    end
    again[#again + 1] = text(by > 0 and now or due[i + 1] - (before - window))
    again[#again + 1] = due[i]
  end
  add(KEYS[1], {}, again)
end
local settings = { ARGV[9] }
redis.call('ZADD', KEYS[3], text(now), ARGV[9])
for i = 1, #all, 2 do
  if now - all[i + 1] >= SETTINGS_KEPT then
    if all[i] ~= ARGV[9] then
      redis.call('ZREM', KEYS[3], all[i])
    end
  elseif all[i] ~= ARGV[9] then
    settings[#settings + 1] = all[i]
    if all[i + 1] - now > 0 then
      redis.call('ZADD', KEYS[3], text(now), all[i])
    end
  end
end
redis.call('PEXPIRE', KEYS[3], keep)

local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now), 'WITHSCORES', 'LIMIT', 0, ARGV[6])
-- No window that has begun by now ends that late: the clock was ahead, and no call noticed when it was set back.
local late = text(now + window + SET_BACK)
for _, community in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. late, '+inf', 'LIMIT', 0, ARGV[6])) do
  due[#due + 1] = community
  due[#due + 1] = text(now)
end
local changes = {}
for i = 1, #due, 2 do
  local community = due[i]
  local count, seq, changed = settle(
    ARGV[4] .. community, ARGV[5] .. community, KEYS[1], community, now, window, keep, ARGV[3], false)
  if changed then
    changes[#changes + 1] = { community, count, seq }
  end
end

local lag = due[2] and now - due[2] or 0
return { now, lag, #due / 2, mark, settings, changes }
