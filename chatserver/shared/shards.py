"""Many servers as one: each key is on one of them, and a message reaches all processes through any of them.

Owns: the shard of each key, the names of keys, and the channel. May not: know a client library; valkey.py does.
"""

from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import TYPE_CHECKING
from zlib import crc32

import trio

if TYPE_CHECKING:  # it imports the client library, an extra
    from chatserver.shared.valkey import ValkeyShard


class SharedError(Exception):
    """A shard is away, too slow, or answered with an error. The caller continues without it."""


class Script:
    """A Lua program that a shard runs atomically. Its digest is its name, so versions do not mix."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()


class Shards:
    """See the module. `chat` distinguishes the keys of several chats on the same servers."""

    def __init__(self, shards: "Sequence[ValkeyShard]", chat: str) -> None:
        self.all = shards
        self._prefix = f"chat:{chat}:"
        self._channel = self.key("processes")

    def key(self, name: str) -> str:
        """The name of a key on its shard."""
        return self._prefix + name

    def index(self, name: str) -> int:
        """The number of the shard that keeps a key: the same in all processes with the same servers."""
        return crc32(name.encode()) % len(self.all)

    def of(self, name: str) -> "ValkeyShard":
        """The shard that keeps a key."""
        return self.all[self.index(name)]

    def tell(self, message: bytes) -> None:
        """Send a message to all processes, including this one; it may be lost, and comes once through each shard.

        All processes listen to all shards. Through all, since another process may not reach the shards that this one
        does.
        """
        for shard in self.all:
            shard.send(b"PUBLISH", self._channel, message)

    async def run(self, on_message: Callable[[bytes], None]) -> None:
        """Keep the shards connected until cancelled; `on_message` is called with each message of a process."""
        async with trio.open_nursery() as nursery:
            for shard in self.all:
                nursery.start_soon(shard.run, self._channel, on_message)

    @property
    def reachable(self) -> int:
        return sum(shard.up for shard in self.all)
