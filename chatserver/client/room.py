"""A joined room, as a program reads and writes it.

Owns: `Room`. May not: do anything that `Chat` does not offer.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from chatserver.client import wire
from chatserver.client.feed import Feed

if TYPE_CHECKING:
    from chatserver.client.chat import Chat


class Room:
    """A joined room: iterate over its messages. Made by `Chat.join`."""

    def __init__(self, chat: "Chat", name: str, cursor: str | None) -> None:
        self.name = name
        self._feed = Feed(partial(chat._resume, [name]), cursor)
        self._chat = chat

    @property
    def cursor(self) -> str | None:
        """The place up to which the room was read, None before that; `join(…, after=cursor)` continues from it."""
        return self._feed.cursor

    def __aiter__(self) -> "Room":
        """Iterate over messages, each once and in order; `events` has everything else too."""
        return self

    async def __anext__(self) -> wire.Message:
        while True:
            if isinstance(event := await anext(self._feed), wire.Message):
                return event

    def events(self) -> Feed:
        """Iterate over all events of this room: records, gaps, people, the connection."""
        return self._feed

    async def publish(
        self, text: str, *, key: str = "", reply_to: int | None = None, mentions: Sequence[str] = ()
    ) -> wire.Ack:
        """Publish a message here; see `Chat.publish`."""
        return await self._chat.publish(self.name, text, key=key, reply_to=reply_to, mentions=mentions)

    def leave(self) -> None:
        """Leave the room; the iteration ends."""
        self._chat.leave(self.name)
