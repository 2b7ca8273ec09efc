-- Touches users of the whole site, or of communities of one partition and of what is finer in those.
--
-- KEYS  due, settings, due of finer scopes if there are some, then of each group and of each finer scope in it: seen, state.
--       No key that nothing is in: a Cluster that moves a slot refuses calls of which some keys are not there
-- ARGV  window (ms), how long keys outlive their window (ms), channel, when this was sent by the sidecar's estimate of
--       this clock (ms), how long it may wait (ms), the sidecar's settings, then for each group: its scope, the number of
--       its finer scopes, their names, the number of its users, and for each user: user, age (ms) when this was sent, and
--       number of the finer scope, from 1, or 0
-- Returns now (ms), and for each group its count and sequence number; no group if it waited too long and nothing was done.
--
-- A Redis that hung reads touches from its sockets late, also those whose callers have given up: users are older by
-- that time. If that is too long, this clock may have been set instead; the sender touches again, by the clock as it is
-- now.

local now = now_ms()
local waited = math.max(0, now - tonumber(ARGV[4]))
if waited > tonumber(ARGV[5]) then
  return { now }
end

-- The others come in pairs.
local finer_due = #KEYS % 2 == 1 and KEYS[3] or nil
local use = in_use(KEYS[2], ARGV[6], now, tonumber(ARGV[1]))
local window, keep = use.window, text(use.window + tonumber(ARGV[2]))
note_shift(KEYS[2], { KEYS[1], finer_due }, use, now)
if not use.written or now - use.written >= 1000 then
  redis.call('ZADD', KEYS[2], text(now), ARGV[6])
  redis.call('PEXPIRE', KEYS[2], keep)
end

local key = finer_due and 4 or 3
local part = part_of(KEYS[1], ARGV[3], now, window, keep, use.shift)
local finer_part = finer_due and part_of(finer_due, ARGV[3], now, window, keep, use.shift) or nil

-- Touches `members`, scores and users in turn, of one scope, that of the next two keys. `is_late` where one of them may not
-- be present any more.
local function touch(its, scope, members, is_late)
  local seen, state = KEYS[key], KEYS[key + 1]
  key = key + 2
  local known = stored(state)
  -- Before users are added who were seen by the clock as it is now.
  catch_up(its, seen, state, known)
  local left = prune(its, seen)
  -- GT: last seen never goes back, even if an old touch is made again.
  add(seen, { 'GT' }, members)
  if is_late then
    prune(its, seen)
  end
  return settle(its, seen, state, scope, known, left)
end

local answer, i = { now }, 7
while i <= #ARGV do
  local scope, finer_scopes = ARGV[i], tonumber(ARGV[i + 1])
  local names, finer, all, is_late = i + 1, {}, {}, false
  for each = 1, finer_scopes do
    finer[each] = {}
  end
  local first = names + finer_scopes + 2
  i = first + 3 * tonumber(ARGV[first - 1])
  for each = first, i - 1, 3 do
    local at, within = now - waited - tonumber(ARGV[each + 1]), finer[tonumber(ARGV[each + 2])]
    is_late = is_late or at <= now - window
    for _, members in ipairs(within and { all, within } or { all }) do
      members[#members + 1] = text(at)
      members[#members + 1] = ARGV[each]
    end
  end
  local count, seq = touch(part, scope, all, is_late)
  answer[#answer + 1] = count
  answer[#answer + 1] = seq
  for each = 1, finer_scopes do
    touch(finer_part, ARGV[names + each], finer[each], is_late)
  end
end
keep_due(part)
if finer_due then
  keep_due(finer_part)
end
return answer
