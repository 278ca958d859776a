"""The messages before those on screen, for `/older`.

Owns: by room, the first record that was shown. May not: print.
"""

from chatserver.client import wire
from chatserver.client.chat import Chat
from chatserver.terminal.render import printable

PAGE = 200  # records in one request, the most that a server returns


class Older:
    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._first: dict[str, wire.Record] = {}

    def take(self, record: wire.Record) -> None:
        self._first.setdefault(record.room, record)

    def forget(self, room: str) -> None:
        """Begin again with the next record of a room: it was entered anew, or what was before is lost."""
        self._first.pop(room, None)

    async def read(self, room: str, most: int) -> tuple[str, list[wire.Message]]:
        """Return the last messages before those shown, and words about them. They count as shown from now on."""
        known = first = self._first.get(room)
        found: list[wire.Message] = []
        end, limit = "", min(most, PAGE)
        while len(found) < most and not end:
            if first is None or first.offset == 1:
                end = f"this is the beginning of {printable(room)}"
            elif (page := await self._chat.history(room, before=first.cursor, limit=limit)).recovered and page.records:
                first, limit = page.records[0], PAGE  # some were changes
                found[:0] = [record for record in page.records if isinstance(record, wire.Message)]
            else:
                end = "messages before these are gone"
        if not found:
            return end, found
        found = found[-most:]
        if self._first.get(room) is known:  # else the room was entered anew meanwhile
            self._first[room] = found[0]
        count = "1 older message" if len(found) == 1 else f"{len(found)} older messages"
        return f"{count}; {end}" if end else count, found
