"""The steps of a search that ask other servers: its limits, its results and its session, on the shards of --shared.

Owns: what is asked of a shard, and what is done when it does not answer: the search goes on without. May not: let
anybody wait for longer than one call.
"""

from collections.abc import Callable, Hashable
from functools import lru_cache
from hashlib import blake2b
from time import time_ns

import msgspec

from chatserver.api.pipelines.limiters import Limit, LocalShard
from chatserver.api.pipelines.results import RESULT_LIFETIME, Part
from chatserver.api.pipelines.search import Asked, Lookup, Searched
from chatserver.chat.principal import Principal
from chatserver.log.index import Found
from chatserver.meters import TokenBucket
from chatserver.shared import limits
from chatserver.shared.shards import Shard, Shards, SharedError

#: Seconds without a search after which a session is forgotten.
SESSION_LIFETIME = 1800
#: Bytes of a result that is given to others; a longer one is as quickly found as fetched.
MAX_RESULT_BYTES = 65_536
#: Changes with what is kept in a result, so that versions of this program do not read each other's.
_FORM = "1"


@lru_cache(maxsize=16)
def _bucket(limit: Limit) -> TokenBucket:
    return TokenBucket(limit.rate, burst=limit.burst)


class SharedLimits:
    """`limiters.Shard`: the buckets of all processes on one server, and of this one, which are asked first.

    A process that has allowed its share refuses without asking, and allows its share when the server is away.
    """

    def __init__(self, shards: Shards, shard: Shard, clock: Callable[[], float]) -> None:
        self._shards = shards
        self._shard = shard
        self._local = LocalShard(clock)
        self.alone = 0  # decisions without the server

    async def take(self, limit: Limit, key: Hashable) -> float:
        """See `limiters.Shard.take`."""
        wait = await self._local.take(limit, key)
        if wait:
            return wait
        bucket = _bucket(limit)
        try:
            name = self._shards.key(f"search-{limit.name}:{key}")
            return await limits.take(self._shard, name, bucket.interval, bucket.span)
        except SharedError:
            self.alone += 1
            return 0.0

    def sweep(self) -> None:
        """See `LocalShard.sweep`."""
        self._local.sweep()


class _Entry(msgspec.Struct, array_like=True):
    """A result, and how often something had been taken out of a room on this server when it was asked for."""

    generation: bytes | None
    found: Found


_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(_Entry).decode


class SharedResults:
    """`search.FarResults`: what others have found a moment ago."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self.found = 0  # results that did not have to be asked for here

    async def get(self, part: Part) -> Lookup | None:
        """See `FarResults.get`."""
        name = _name(part)
        keys = self._shards.key("altered"), self._shards.key(name)
        try:
            answer = await self._shards.of(name).call(b"MGET", *keys)
        except SharedError:
            return None
        match answer:
            case [bytes() | None as generation, bytes() | None as kept]:
                found = _read(kept, generation)
                self.found += found is not None
                return Lookup(found, generation)
        return None

    async def put(self, part: Part, found: Found, generation: bytes | None) -> None:
        """See `FarResults.put`."""
        name, entry = _name(part), _encode(_Entry(generation, found))
        if len(entry) > MAX_RESULT_BYTES:
            return
        try:
            await self._shards.of(name).call(b"SET", self._shards.key(name), entry, b"PX", int(RESULT_LIFETIME * 1000))
        except SharedError:
            return  # the index is asked once more

    def forget(self) -> None:
        """Something was edited, deleted, or removed by retention: no result of before is given out any more."""
        for shard in self._shards.all:
            shard.send(b"INCR", self._shards.key("altered"))


def _name(part: Part) -> str:
    digest = blake2b(msgspec.msgpack.encode(part), digest_size=16).hexdigest()
    return f"found-{_FORM}:{digest}"


def _read(kept: bytes | None, generation: bytes | None) -> Found | None:
    """A result, if nothing was taken out of a room since."""
    if kept is None:
        return None
    try:
        entry = _decode(kept)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return entry.found if entry.generation == generation else None


class SharedSessions:
    """`search.Sessions`: when each visitor was first seen, for as long as it comes back."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self.made = 0

    async def find(self, asked: Asked) -> Principal | None:
        """See `Sessions.find`. While a shard is away, its visitors are not made anew with each request."""
        name = _session(asked.visitor)
        try:
            since = await self._shards.of(name).call(b"GET", self._shards.key(name))
        except SharedError:
            return asked.visitor
        return None if since is None else asked.visitor

    def make(self, asked: Asked) -> Principal:
        """See `Sessions.make`: as whom the request came."""
        self.made += 1
        return asked.visitor

    async def store(self, asked: Asked, principal: Principal) -> None:
        """See `Sessions.store`."""
        now = time_ns() // 1_000_000
        await self._ask(principal, b"SET", now, b"EX", SESSION_LIFETIME)

    async def touch(self, searched: Searched) -> None:
        """See `Sessions.touch`."""
        await self._ask(searched.principal, b"EXPIRE", SESSION_LIFETIME)

    async def _ask(self, principal: Principal, command: bytes, *arguments: bytes | int) -> None:
        name = _session(principal)
        try:
            await self._shards.of(name).call(command, self._shards.key(name), *arguments)
        except SharedError:
            return  # it is made again


def _session(principal: Principal) -> str:
    return f"session:{principal.number}"


class SharedSearch:
    """All of them, for one server."""

    def __init__(self, shards: Shards, clock: Callable[[], float]) -> None:
        self.limits = [SharedLimits(shards, shard, clock) for shard in shards.all]
        self.results = SharedResults(shards)
        self.sessions = SharedSessions(shards)
