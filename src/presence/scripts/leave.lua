-- Gives up the lease of the sweeps (redis/turns.rs), if the sidecar holds it.
--
-- KEYS  which sidecar sweeps
-- ARGV  the sidecar's name

if redis.call('GET', KEYS[1]) == ARGV[1] then
  -- Removes it, without a permission that the other scripts do not need.
  redis.call('PEXPIRE', KEYS[1], 0)
end
