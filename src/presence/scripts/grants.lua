-- Notes what the app has answered users who asked for a community. A value is when that was, in milliseconds, negative
-- where the app refused, and until when it counts. Of two answers the later one stays, in whichever order they are noted;
-- that a page is open prolongs what the app has shown, and stands against no refusal.
--
-- KEYS  one for each user
-- ARGV  how long an answer counts (ms), when this was sent by the sidecar's estimate of this clock (ms; 0 if it has
--       none), then for each key: news ('1' shown, '-1' refused, '0' a page is still open), age (ms) when this was sent

-- How long a refusal of a user who was not shown the community is kept: for as long as an earlier answer may be under way.
local NOTHING_TAKEN = 60000

local now = now_ms()
local kept, sent = tonumber(ARGV[1]), tonumber(ARGV[2])
-- A Redis that hung reads this late: the answers are older by that time.
local waited = sent > 0 and math.max(0, now - sent) or 0

for i, key in ipairs(KEYS) do
  local news, at = tonumber(ARGV[2 * i + 1]), now - waited - tonumber(ARGV[2 * i + 2])
  local answered, counts = string.match(redis.call('GET', key) or '', '^(-?%d+) (%d+)$')
  answered, counts = tonumber(answered) or 0, tonumber(counts) or 0
  local ends = at + kept
  local is_news
  if news == 0 then
    is_news = answered > 0 and ends > counts
  else
    -- One that is later than now was noted before the clock was set back.
    is_news = math.abs(answered) <= at or math.abs(answered) > now
    if news < 0 and answered <= 0 then
      ends = math.min(ends, now + NOTHING_TAKEN)
    elseif news > 0 and answered > 0 then
      ends = math.max(ends, counts)
    end
    answered = news * at
  end
  if is_news and ends > now then
    redis.call('SET', key, text(answered) .. ' ' .. text(ends), 'PX', text(ends - now))
  end
end
