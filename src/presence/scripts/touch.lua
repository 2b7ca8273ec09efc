-- Touches users of the whole site or of a community, and of what is finer in that.
--
-- KEYS  seen, state, due, settings; with finer scopes their due, then of each: seen, state. No key that nothing is in: a
--       Cluster that moves a slot refuses calls of which some keys are not there
-- ARGV  window (ms), how long keys outlive their window (ms), channel, scope, when this was sent by the sidecar's
--       estimate of this clock (ms), how long it may wait (ms), the sidecar's settings, for each finer scope its name,
--       then for each user: user, age (ms) when this was sent, and number of the finer scope, from 1, or 0
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
note_shift(KEYS[4], { KEYS[3], KEYS[5] }, use, now)
if not use.written or now - use.written >= 1000 then
  redis.call('ZADD', KEYS[4], text(now), ARGV[7])
  redis.call('PEXPIRE', KEYS[4], keep)
end

-- Touches `members`, scores and users in turn, of one scope.
local function touch(due, seen, state, scope, members)
  local part = { due = due, channel = ARGV[3], now = now, window = window, keep = keep, shift = use.shift }
  -- Before users are added who were seen by the clock as it is now.
  catch_up(part, seen, state)
  local left = prune(seen, now, window)
  -- GT: last seen never goes back, even if an old touch is made again.
  add(seen, { 'GT' }, members)
  return settle(part, seen, state, scope, left)
end

local scopes = #KEYS > 4 and (#KEYS - 5) / 2 or 0
local all, finer = {}, {}
for i = 1, scopes do
  finer[i] = {}
end
for i = 8 + scopes, #ARGV, 3 do
  local score, within = text(now - waited - tonumber(ARGV[i + 1])), finer[tonumber(ARGV[i + 2])]
  for _, members in ipairs(within and { all, within } or { all }) do
    members[#members + 1] = score
    members[#members + 1] = ARGV[i]
  end
end

local count, seq = touch(KEYS[3], KEYS[1], KEYS[2], ARGV[4], all)
for i = 1, scopes do
  touch(KEYS[5], KEYS[4 + 2 * i], KEYS[5 + 2 * i], ARGV[7 + i], finer[i])
end
return { count, seq, now }
