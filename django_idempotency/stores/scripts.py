"""The scripts of RedisStore: one key each, so that they run in a cluster, and the server's clock throughout.

A hash holds status, request (a mark with the fingerprint), owner, attempt, deadline (milliseconds since the epoch),
steps and outcome. A script that changes something compares the owner first and returns 1, or 0 where that is another;
TAKE_OVER returns the steps, or nothing.
"""

from __future__ import annotations

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
_HELD = """
local held = redis.call('HMGET', KEYS[1], 'owner', 'status')
if held[1] ~= ARGV[1] or held[2] ~= 'in_progress' then return 0 end
"""

# owner, request, lease, whether the key frees itself after that
RESERVE = (
    _NOW
    + """
local found = redis.call('HMGET', KEYS[1], 'status', 'request', 'owner', 'attempt', 'deadline', 'steps', 'outcome')
if redis.call('EXISTS', KEYS[1]) == 1 then
  local lapsed = '0'
  if found[5] and tonumber(found[5]) <= now then lapsed = '1' end
  return {found[1] or '', found[2] or '', found[3] or '', found[4] or '1', lapsed, found[6] or '[]', found[7] or ''}
end
redis.call('HSET', KEYS[1], 'status', 'in_progress', 'request', ARGV[2], 'owner', ARGV[1], 'attempt', 1,
  'deadline', string.format('%.0f', now + ARGV[3]), 'steps', '[]')
if ARGV[4] == '1' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return false
"""
)
# owner, attempt and status as they were seen; new owner, lease
TAKE_OVER = (
    _NOW
    + """
local seen = redis.call('HMGET', KEYS[1], 'owner', 'attempt', 'status', 'deadline')
if seen[1] ~= ARGV[1] or seen[2] ~= ARGV[2] or seen[3] ~= ARGV[3] or seen[3] == 'completed' then return false end
if seen[3] == 'in_progress' and (not seen[4] or tonumber(seen[4]) > now) then return false end
redis.call('HSET', KEYS[1], 'owner', ARGV[4], 'attempt', ARGV[2] + 1, 'status', 'in_progress',
  'deadline', string.format('%.0f', now + ARGV[5]))
redis.call('PERSIST', KEYS[1])
return redis.call('HGET', KEYS[1], 'steps') or '[]'
"""
)
# owner, lease
RENEW = (
    _NOW
    + _HELD
    + """
redis.call('HSET', KEYS[1], 'deadline', string.format('%.0f', now + ARGV[2]))
return 1
"""
)
# owner, steps
WRITE_STEPS = (
    _HELD
    + """
redis.call('HSET', KEYS[1], 'steps', ARGV[2])
return 1
"""
)
# owner, status that is left (none: the key is free), steps
RELEASE = (
    _HELD
    + """
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'status', ARGV[2], 'steps', ARGV[3])
redis.call('HDEL', KEYS[1], 'deadline')
redis.call('PERSIST', KEYS[1])
return 1
"""
)
# owner, outcome, retention
COMPLETE = (
    _HELD
    + """
redis.call('HSET', KEYS[1], 'status', 'completed', 'outcome', ARGV[2])
redis.call('HDEL', KEYS[1], 'deadline', 'steps')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
)
