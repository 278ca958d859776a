"""Many servers as one: each key has its own, and a message goes to all processes through any of them.

Owns: which shard keeps a key, the names of keys, and the channel. May not: know a client library; valkey.py does.
"""

from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Protocol
from zlib import crc32

import trio


class SharedError(Exception):
    """A shard did not do it: it is away, too slow, or says no. The caller goes on without."""


class Script:
    """A Lua program that a shard runs in one step. It is known by its digest, so versions do not mix."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()


class Shard(Protocol):
    """One server."""

    name: str
    failures: int  # calls that it did not answer well

    @property
    def up(self) -> bool:
        """Whether it may be asked; else a call fails at once."""

    async def call(self, command: bytes, *arguments: bytes | str | int) -> object:
        """The answer to a command. Raises SharedError."""

    async def run_script(self, script: Script, keys: Sequence[str], *arguments: bytes | str | int) -> object:
        """What a script returns. Raises SharedError."""

    def send(self, command: bytes, *arguments: bytes | str | int) -> bool:
        """Have a command done and do not wait for it; False: the server is away."""

    async def run(self, channel: str, heard: Callable[[bytes], None]) -> None:
        """Keep the server connected until cancelled; `heard` is given each message on the channel."""


class Shards:
    """See the module. `chat` tells the keys of one chat from those of another on the same servers."""

    def __init__(self, shards: Sequence[Shard], chat: str) -> None:
        self.all = shards
        self._prefix = f"chat:{chat}:"
        self._channel = self.key("processes")
        self.heard: Callable[[bytes], None] = lambda message: None  # set by who wants to hear other processes
        self.untold = 0  # messages that no shard could take

    def key(self, name: str) -> str:
        """The name of a key on its shard."""
        return self._prefix + name

    def index(self, name: str) -> int:
        """Which shard keeps a key: the same one in every process that was given the same servers."""
        return crc32(name.encode()) % len(self.all)

    def of(self, name: str) -> Shard:
        """The shard that keeps a key."""
        return self.all[self.index(name)]

    def tell(self, message: bytes) -> None:
        """To all other processes, and back to this one; it may be lost. All of them listen to each shard."""
        if not any(shard.send(b"PUBLISH", self._channel, message) for shard in self.all):
            self.untold += 1

    async def run(self) -> None:
        """Keep the shards connected until cancelled."""
        async with trio.open_nursery() as nursery:
            for shard in self.all:
                nursery.start_soon(shard.run, self._channel, self._hear)

    def _hear(self, message: bytes) -> None:
        self.heard(message)

    @property
    def reachable(self) -> int:
        """How many may be asked."""
        return sum(shard.up for shard in self.all)
