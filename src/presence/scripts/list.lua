-- One page of the users present: latest first, ties by member descending. Reads only.
--
-- KEYS  seen, settings
-- ARGV  window (ms), limit, window if nobody uses any (ms), and, for a page after the first, the last entry before it:
--       score (ms), member
-- Returns the window in use (ms; 0 if nobody uses any), and the page: { member, score }…
--
-- The place after the cursor is found by its value, not by its rank or by looking it up: it stays right when
-- users come and go, when the cursor's own member has moved or gone, and among thousands of one score. It
-- costs log² of the ties, never the size of the set.

-- Whether a sorts before b by bytes, as Redis orders members. Lua's own < follows the server's locale.
local function before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

local now = now_ms()
local window = in_use(KEYS[2], nil, now, tonumber(ARGV[1])).window
local expired = now - (window > 0 and window or tonumber(ARGV[3]))
local limit = tonumber(ARGV[2])
local start = 0

if ARGV[4] then
  local score, member = ARGV[4], ARGV[5]
  -- Ranks, from the latest: [0, low) are later than the cursor, [low, high) have its score.
  local low = redis.call('ZCOUNT', KEYS[1], '(' .. score, '+inf')
  local high = low + redis.call('ZCOUNT', KEYS[1], score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local found = redis.call('ZREVRANGE', KEYS[1], middle, middle)[1]
    if before(found, member) then
      high = middle
    else
      low = middle + 1
    end
  end
  start = low
end

local page = {}
if limit > 0 then
  local found = redis.call('ZREVRANGE', KEYS[1], start, start + limit - 1, 'WITHSCORES')
  for i = 1, #found, 2 do
    local score = tonumber(found[i + 1])
    if score <= expired then
      break
    end
    page[#page + 1] = { found[i], score }
  end
end
return { window, page }
