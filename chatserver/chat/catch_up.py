"""Members behind the ring: a few tasks read the log for them until they reach the ring.

Owns: the members that wait, and their order: networks take turns, and members of a room at one cursor share one page.
May not: touch a socket.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import structlog
import trio

from chatserver.chat.behind import Behind
from chatserver.chat.broadcast import Broadcaster
from chatserver.chat.log_reader import Alterations, LogReader
from chatserver.chat.member import Member, Source
from chatserver.chat.ring import CHUNK_BYTES, Encoding, MessageEncoder
from chatserver.chat.sink import Sink
from chatserver.fair import in_steps
from chatserver.log.interface import LogError, Range, Record

#: Messages read from the log at a time.
READ_PAGE = 100
#: Tasks that read; the log itself has two reading connections, with PostgreSQL three.
READERS = 2
#: Seconds a reader waits after the log failed.
READ_RETRY = 1.0

_log = structlog.get_logger("chatserver.chat")


class CatchUp:
    """See the module. `run` is a task, of which there are `READERS`."""

    def __init__(
        self, behind: Behind, log: LogReader, encoder: MessageEncoder, sink: Sink, broadcaster: Broadcaster
    ) -> None:
        self._behind = behind
        self._log = log
        self._encoder = encoder
        self._sink = sink
        self._broadcaster = broadcaster
        self._is_failing = False  # and the log says so already

    async def run(self) -> None:
        behind = self._behind
        while True:
            place = await behind.take()
            try:
                if any(member.source is Source.LOG for member in behind.places[place]):
                    await self._feed(*place)
            finally:  # when cancelled, too: another task may go on
                behind.put_back(place)

    async def _feed(self, name: str, cursor: int) -> None:
        page: _Page | Exception
        try:
            records = await self._log.read(Range(name, READ_PAGE, after=cursor, max_bytes=CHUNK_BYTES))
            self._is_failing = False
            page = _Page(records, await self._log.encoded(name, records, self._encoder.message), {})
        except LogError as error:
            if not self._is_failing:  # a disk or a database may be away for a day
                _log.warning("catch_up_failed", room=name, reason=str(error))
            self._is_failing = True
            await trio.sleep(READ_RETRY)
            page = error
        except Exception as error:  # noqa: BLE001  a bug of ours ends the members at this cursor only
            page = error
        with self._log.altered_meanwhile(name) as meanwhile:
            await in_steps(self._give(self._behind.places[name, cursor], page, meanwhile))

    def _give(self, members: deque[Member], page: "_Page | Exception", meanwhile: Alterations) -> Iterator[None]:
        """Give a page to the members that wait now, one after the other; those who come later get another page."""
        for _ in range(len(members)):
            if meanwhile.altered:
                return  # the page may show what has been deleted
            member = members.popleft()
            if member.source is Source.LOG:  # else it has left
                member.source = Source.RING
                self._sink.step(member.connection, self._go_on, member, page)
            yield

    def _go_on(self, connection: object, member: Member, page: "_Page | Exception") -> None:
        broadcaster = self._broadcaster
        if isinstance(page, _Page):
            ring = member.room.ring
            assert ring is not None, "the member was behind it"
            begins = (page.records[0].offset if page.records else ring.first) - 1
            if begins != member.cursor:
                broadcaster.tell_gap(member, begins)  # retention has deleted records after its cursor, or they are lost
            if member.source is Source.RING and page.records:
                broadcaster.give(member, *page.pushes(member.encoding))
        elif not isinstance(page, LogError):
            raise page
        # After a failed read its cursor stays and it waits again, unless its room is now more than MAX_BEHIND ahead.
        broadcaster.deliver(member)


class _Page(NamedTuple):
    """Records from the log with their JSON, and the pushes made of them, by encoding."""

    records: list[Record]
    encoded: list[bytes]
    made: dict[Encoding, tuple[bytes, list[bytes]]]

    def pushes(self, encoding: Encoding) -> tuple[bytes, list[bytes]]:
        """The pushes in this encoding, joined and one by one."""
        if encoding not in self.made:
            pairs = zip(self.encoded, self.records, strict=True)
            pieces = [encoding.push(json, record.room, record.offset) for json, record in pairs]
            self.made[encoding] = b"".join(pieces), pieces
        return self.made[encoding]
