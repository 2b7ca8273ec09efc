-- Users were just seen in a community.
--
-- KEYS  seen, state, due
-- ARGV  window (ms), keep (ms), channel, community, users…
-- Returns count, sequence number, now (ms).

local now = now_ms()

-- A few hundred at a time: Lua's stack bounds the arguments of one call. GT: last seen never goes back, even
-- if Redis' clock does.
local members = {}
for i = 5, #ARGV do
  members[#members + 1] = text(now)
  members[#members + 1] = ARGV[i]
  if #members >= 1000 or i == #ARGV then
    redis.call('ZADD', KEYS[1], 'GT', unpack(members))
    members = {}
  end
end

local count, seq =
  settle(KEYS[1], KEYS[2], KEYS[3], ARGV[4], now, tonumber(ARGV[1]), ARGV[2], ARGV[3])
return { count, seq, now }
