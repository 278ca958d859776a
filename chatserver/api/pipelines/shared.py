"""The steps of a search that query shards of --shared: its limits, its results and its session.

Owns: what a shard is asked; without an answer, the search continues without it. May not: make a request wait for longer
than one call.
"""

from collections import Counter
from collections.abc import Hashable
from contextlib import suppress
from hashlib import blake2b
from secrets import token_bytes

import msgspec

from chatserver.api.pipelines.limiters import Limit
from chatserver.api.pipelines.results import RESULT_LIFETIME, Lookup
from chatserver.chat.principal import Principal
from chatserver.log.index import Found, Question
from chatserver.log.interface import system_ms
from chatserver.shared import limits
from chatserver.shared.shards import Script, Shards, SharedError

#: Seconds without a search after which a session is forgotten.
SESSION_LIFETIME = 1800
#: Bytes of a result that is shared; finding a longer one again is as fast as fetching it.
MAX_RESULT_BYTES = 65_536
#: The format of stored results. Changing it keeps versions of this program from reading each other's.
_FORM = "1"


class SharedLimits:
    """The buckets of all processes, each on its shard; while that is away, each process decides alone."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self.alone = Counter({shard.name: 0 for shard in shards.all})  # decisions made without the shard

    async def take(self, limit: Limit, key: Hashable) -> float:
        """See `AskShard`."""
        name = f"search-{limit.name}:{key}"
        shard = self._shards.of(name)
        try:
            return await limits.take(shard, self._shards.key(name), limit.bucket.interval, limit.bucket.span)
        except SharedError:
            self.alone[shard.name] += 1
            return 0.0


class _Entry(msgspec.Struct, array_like=True):
    """A result, and the generation on the shard when it was asked for; each removal of a text starts a new one."""

    generation: bytes
    found: Found


# The generation, made if there is none, and the result. It always writes: a shard that refuses that, as a replica does,
# has refused to forget results too.
_LOOK_UP = Script("return {redis.call('SET', KEYS[1], ARGV[1], 'NX', 'GET') or ARGV[1], redis.call('GET', KEYS[2])}")

_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(_Entry).decode


class SharedResults:
    """Recent results of all processes."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._generation = shards.key("generation")  # on each shard: random, since a count might repeat
        self._forgotten: list[int] | None = None  # `_connections` of the last `forget`
        self.found = 0  # results that another process had found

    async def get(self, question: Question) -> Lookup | None:
        """Look up a recent result; None: nothing can be stored either, since the shard is away or refuses to write."""
        name = _name(question)
        shard = self._shards.of(name)
        if self._forgotten not in (None, self._connections()):
            self.forget()  # what it sent over an earlier connection, or while there was none, may not have arrived
        try:
            answer = await shard.run_script(_LOOK_UP, [self._generation, self._shards.key(name)], token_bytes(8))
        except SharedError:
            return None
        match answer:
            case [bytes() as generation, bytes() | None as kept]:
                found = _read(kept, generation)
                self.found += found is not None
                return Lookup(found, generation)
        return None

    async def put(self, question: Question, found: Found, generation: bytes) -> None:
        """Store a result that was asked for after a lookup in this generation."""
        name, entry = _name(question), _encode(_Entry(generation, found))
        if len(entry) > MAX_RESULT_BYTES:
            return
        try:
            await self._shards.of(name).call(b"SET", self._shards.key(name), entry, b"PX", int(RESULT_LIFETIME * 1000))
        except SharedError:
            return  # another process will ask the index again

    def forget(self) -> None:
        """Invalidate all results, since a text was edited, deleted or removed by retention.

        The next lookup begins a generation. A shard that is full would refuse to set one here.
        """
        for shard in self._shards.all:
            shard.send(b"DEL", self._generation)
        self._forgotten = self._connections()

    def _connections(self) -> list[int]:
        """The number of connections made so far to each shard."""
        return [shard.connections for shard in self._shards.all]


def _name(question: Question) -> str:
    digest = blake2b(msgspec.msgpack.encode(question), digest_size=16).hexdigest()
    return f"found-{_FORM}:{digest}"


def _read(kept: bytes | None, generation: bytes) -> Found | None:
    """Decode a result, unless texts have been removed since."""
    if kept is None:
        return None
    try:
        entry = _decode(kept)
    except ValueError:
        return None
    return entry.found if entry.generation == generation else None


class SharedSessions:
    """When each visitor was first seen, for as long as it keeps coming back."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self.made = 0

    async def open(self, visitor: Principal) -> None:
        """Find the session of a visitor, or make it. While a shard is away, its visitors count as found."""
        with suppress(SharedError):
            if await self._ask(visitor, b"GET") is None:
                self.made += 1
                await self._ask(visitor, b"SET", system_ms(), b"EX", SESSION_LIFETIME)

    async def touch(self, visitor: Principal) -> None:
        """Extend the lifetime of a session that was used."""
        with suppress(SharedError):
            await self._ask(visitor, b"EXPIRE", SESSION_LIFETIME)

    async def _ask(self, visitor: Principal, command: bytes, *arguments: bytes | int) -> object:
        name = f"session:{visitor.number}"
        return await self._shards.of(name).call(command, self._shards.key(name), *arguments)


class SharedSearch:
    def __init__(self, shards: Shards) -> None:
        self.limits = SharedLimits(shards)
        self.results = SharedResults(shards)
        self.sessions = SharedSessions(shards)
