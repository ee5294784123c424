"""What the cache asks of Valkey in one step each, as Lua.

An entry is a string: its rank as sixteen hexadecimal digits, the versions of its
tags as they were when its fill began, then the value. A version is a random text
under the tag's own key. To drop a tag is to delete that key: the next claim makes
another version, which no entry has that began before. So a late fill loses, and
a tag that the server evicted or let expire costs a miss, never a stale answer.

In each: KEYS[1] the entry, KEYS[2] its lease, the others its tags.
"""

from __future__ import annotations

__all__ = ["CLAIM", "FILL", "INVALIDATE", "RELEASE"]

CLAIM = """
-- ARGV: token, lease in ms, life in ms, a new version, the least that an answer has left in ms, its
-- least rank
local versions = {}
for at = 3, #KEYS do
  local version = redis.call('GET', KEYS[at])
  if not version then
    version = ARGV[4]
    redis.call('SET', KEYS[at], version, 'PX', ARGV[3])
  elseif redis.call('PTTL', KEYS[at]) < tonumber(ARGV[3]) then
    redis.call('PEXPIRE', KEYS[at], ARGV[3])
  end
  versions[at - 2] = version
end
local entry = redis.call('GET', KEYS[1])
local now = table.concat(versions)
if entry and string.sub(entry, 17, 16 + #now) == now and string.sub(entry, 1, 16) >= ARGV[6] then
  local left = redis.call('PTTL', KEYS[1])
  if left > tonumber(ARGV[5]) then
    return {0, versions, entry, left}
  end
end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return {1, versions}
end
return {0, versions}
"""

FILL = """
-- ARGV: token, rank, versions in one text, value, life in ms
if redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('DEL', KEYS[2])
end
local now = ''
for at = 3, #KEYS do
  now = now .. (redis.call('GET', KEYS[at]) or '')
end
if now ~= ARGV[3] then
  return 0
end
local held = redis.call('GETRANGE', KEYS[1], 0, 15 + #now)
if #held > 0 and string.sub(held, 17) == now and string.sub(held, 1, 16) > ARGV[2] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2] .. now .. ARGV[4], 'PX', ARGV[5])
return 1
"""

RELEASE = """
-- KEYS[1]: the lease. ARGV: token
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
"""

INVALIDATE = """
-- KEYS: what remembers each reason, then tags.
-- ARGV: how many reasons, how long they are remembered in s, channel, message
local reasons = tonumber(ARGV[1])
local known = 0
for at = 1, reasons do
  if not redis.call('SET', KEYS[at], '1', 'NX', 'EX', ARGV[2]) then
    known = known + 1
  end
end
if reasons > 0 and known == reasons then
  return 0
end
for at = reasons + 1, #KEYS do
  redis.call('DEL', KEYS[at])
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
"""
