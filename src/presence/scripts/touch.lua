-- Users were seen in a community.
--
-- KEYS  seen, state, due
-- ARGV  window (ms), keep (ms), channel, community, not after (ms), then for each user: user, age (ms)
-- Returns count, sequence number, now (ms); the count is nil if it was too late, and nothing was done.
--
-- Too late: a Redis that hung finds touches in its sockets that nobody waits for any more. It would take
-- those who were seen long ago for seen just now; whoever sent them touches again, with their true age.

local now = now_ms()
if now > tonumber(ARGV[5]) then
  return { false, 0, now }
end

local window = tonumber(ARGV[1])
local left = prune(KEYS[1], now, window)

-- A few hundred at a time: Lua's stack bounds the arguments of one call. GT: last seen never goes back, be it
-- that Redis' clock does or that an old touch is made again.
local members = {}
for i = 6, #ARGV, 2 do
  members[#members + 1] = text(now - tonumber(ARGV[i + 1]))
  members[#members + 1] = ARGV[i]
  if #members >= 1000 or i + 1 == #ARGV then
    redis.call('ZADD', KEYS[1], 'GT', unpack(members))
    members = {}
  end
end

local count, seq =
  settle(KEYS[1], KEYS[2], KEYS[3], ARGV[4], now, window, ARGV[2], ARGV[3], left)
return { count, seq, now }
