"""Rate limits on a shard: the generic cell rate algorithm of meters.py, as atomic scripts.

Owns: the scripts, and the check of their answers. May not: decide who is limited.

A bucket is one key: the time, on the server's clock, at which it is full again; the key expires then. Whatever value is
there, and however the server's clock was set, no user is refused for longer than MAX_DEBT bursts take to refill.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from chatserver.meters import MICROSECOND
from chatserver.shared.shards import Script, SharedError

if TYPE_CHECKING:
    from chatserver.shared.valkey import ValkeyShard

#: Bursts by which a bucket may be overdrawn, since spending is reported afterwards: one for each of eight processes.
MAX_DEBT = 8

_READ = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local function state_of(key, most)
  local state = tonumber(redis.call('GET', key) or 0) or 0
  if state ~= state then state = 0 end -- nan
  return math.min(math.max(state, now), now + most)
end
local function keep(key, state)
  redis.call('SET', key, string.format('%.0f', state), 'PX', math.max(1, math.ceil((state - now) / 1000)))
end
"""
_TAKE = Script(
    _READ
    + """
local interval, span = tonumber(ARGV[1]), tonumber(ARGV[2])
local state = state_of(KEYS[1], span) + interval
if state - now > span then return math.ceil(state - now - span) end
keep(KEYS[1], state)
return 0
"""
)
_SPEND = Script(
    _READ
    + f"""
local levels = {{}}
for index, key in ipairs(KEYS) do
  local interval, span, count = tonumber(ARGV[index * 3 - 2]), tonumber(ARGV[index * 3 - 1]), tonumber(ARGV[index * 3])
  local most = span * {MAX_DEBT}
  local state = math.min(state_of(key, most) + interval * count, now + most)
  keep(key, state)
  levels[index] = math.ceil(state - now)
end
return levels
"""
)


class Spent(NamedTuple):
    """Tokens that were spent from one bucket."""

    key: str
    interval: int
    span: int
    tokens: int


async def take(shard: "ValkeyShard", key: str, interval: int, span: int) -> float:
    """Spend one token and return 0.0, or return the seconds until there is one. Raises SharedError.

    `interval` and `span` are microseconds, see `TokenBucket`.
    """
    wait = await shard.run_script(_TAKE, [key], interval, span)
    if type(wait) is not int or not 0 <= wait <= interval + 1:
        raise SharedError(f"{shard.name}: a wait was asked for")
    return wait * MICROSECOND


async def spend(shard: "ValkeyShard", spent: Sequence[Spent]) -> list[int]:
    """Report spent tokens; returns the microseconds until each bucket is full again. Raises SharedError."""
    arguments = [number for each in spent for number in (each.interval, each.span, each.tokens)]
    levels = await shard.run_script(_SPEND, [each.key for each in spent], *arguments)
    if not isinstance(levels, list) or len(levels) != len(spent):
        raise SharedError(f"{shard.name}: {len(spent)} levels were asked for")
    for level, each in zip(levels, spent, strict=True):
        if type(level) is not int or not 0 <= level <= each.span * MAX_DEBT + 1:
            raise SharedError(f"{shard.name}: a level was asked for")
    return levels
