-- Notes what the app has answered users who asked for a community. A value is when that was, in milliseconds, negative
-- where the app refused, and until when it counts. Of two answers the later one stays, in whichever order they are noted. A
-- refusal counts at least for as long as the grant that it takes away, whichever of the two comes first. Returns the time,
-- and what is noted then of each user ('' where nothing is).
--
-- KEYS  one for each user
-- ARGV  when this was sent by the sidecar's estimate of this clock (ms; 0 if it has none), then for each key: '1' where the
--       app has shown the community, '-1' where it refused, '0' where an open page prolongs what the app has shown, if
--       that is noted here; its age and how much longer it counts (ms), when this was sent

local now = now_ms()
local sent = tonumber(ARGV[1])
-- A Redis that hung reads this late: the answers are older by that time.
local waited = sent > 0 and math.max(0, now - sent) or 0
local stands = { text(now) }

for i, key in ipairs(KEYS) do
  local verdict = tonumber(ARGV[3 * i - 1])
  local at, ends = now - waited - tonumber(ARGV[3 * i]), now - waited + tonumber(ARGV[3 * i + 1])
  local noted = redis.call('GET', key) or ''
  local answered, counts = string.match(noted, '^(-?%d+) (%d+)$')
  answered, counts = tonumber(answered) or 0, tonumber(counts) or 0
  -- One that is later than now was noted before the clock was set back.
  local is_news = math.abs(answered) <= at or math.abs(answered) > now
  local was = answered < 0 and -1 or answered > 0 and 1 or 0
  if verdict == 0 then
    verdict = was == 1 and 1 or nil
  end
  if was == verdict and not is_news then
    at = math.abs(answered)
  elseif verdict and was ~= 0 and not is_news then
    verdict, at = was, math.abs(answered)
    -- An earlier refusal takes nothing from a grant.
    ends = was < 0 and ends or counts
  end
  if verdict and (was == verdict or verdict < 0) then
    ends = math.max(ends, counts)
  end
  if verdict and ends > now then
    local value = text(verdict * at) .. ' ' .. text(ends)
    if value ~= noted then
      redis.call('SET', key, value, 'PX', text(ends - now))
    end
    noted = value
  end
  stands[#stands + 1] = noted
end
return stands
