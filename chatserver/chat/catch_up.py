"""Members behind the ring: a few tasks read the log for them until they reach the ring.

Owns: the members that wait, and their order: networks take turns, and members of a room at one cursor share one page.
May not: touch a socket.
"""

import structlog
import trio

from chatserver.chat.broadcast import Broadcaster
from chatserver.chat.log_reader import LogReader
from chatserver.chat.member import Member, Source
from chatserver.chat.ring import CHUNK_BYTES, MessageEncoder
from chatserver.chat.sink import Sink
from chatserver.fair import FairQueue
from chatserver.log.interface import LogError, Record

#: Messages read from the log at a time.
READ_PAGE = 100
#: Tasks that read; the log itself has two reading connections.
READERS = 2
#: Seconds a reader waits after the log failed.
READ_RETRY = 1.0

_log = structlog.get_logger("chatserver.chat")


class CatchUp:
    """See the module. `run` is a task, of which there are `READERS`."""

    def __init__(self, log: LogReader, encoder: MessageEncoder, sink: Sink) -> None:
        self._log = log
        self._encoder = encoder
        self._sink = sink
        self._waiting: FairQueue[tuple[str, int]] = FairQueue()
        self.places: dict[tuple[str, int], list[Member]] = {}  # waiting members, by room and cursor
        self._asked = trio.Event()
        self.broadcaster: Broadcaster | None = None  # set by the hub, which makes both

    def add(self, member: Member) -> None:
        """Queue a member, to be fed from the log from its cursor on."""
        place = (member.room.name, member.cursor)
        members = self.places.get(place)
        if members is None:
            self.places[place] = [member]
            self._waiting.push(self._sink.network(member.connection), place)
            self._asked.set()
        else:
            members.append(member)

    async def run(self) -> None:
        """Read for members until cancelled."""
        while True:
            while self._waiting:
                name, cursor = self._waiting.pop()
                members = [member for member in self.places[name, cursor] if member.source is Source.LOG]
                if members:
                    await self._feed(name, cursor)
                else:
                    del self.places[name, cursor]
            if self._asked.is_set():
                self._asked = trio.Event()
            await self._asked.wait()

    async def _feed(self, name: str, cursor: int) -> None:
        records: list[Record] | Exception
        try:
            records = await self._log.read(name, after=cursor, limit=READ_PAGE, max_bytes=CHUNK_BYTES)
        except LogError as error:
            _log.warning("catch_up_failed", room=name, reason=str(error))
            await trio.sleep(READ_RETRY)
            records = error
        except Exception as error:  # noqa: BLE001  a bug of ours ends the members at this cursor only
            records = error
        pieces: dict[object, list[bytes]] = {}
        for member in self.places.pop((name, cursor)):
            if member.source is Source.LOG:  # else it left during the read
                member.source = Source.RING
                self._sink.guarded(member.connection, self._go_on, member, records, pieces)

    def _go_on(
        self, connection: object, member: Member, records: list[Record] | Exception, shared: dict[object, list[bytes]]
    ) -> None:  # fmt: skip
        broadcaster = self.broadcaster
        assert broadcaster is not None
        if isinstance(records, list):
            ring = member.room.ring
            begins = records[0].offset - 1 if records else (ring.first - 1 if ring is not None else member.cursor)
            if begins != member.cursor:
                broadcaster.tell_gap(member, begins)  # retention has deleted records after its cursor
            if member.source is Source.RING and records:
                pieces = shared.get(member.encoding)
                if pieces is None:
                    pieces = shared[member.encoding] = self._pieces(member, records)
                broadcaster.give(member, pieces)
        elif not isinstance(records, LogError):
            raise records
        # Without records its cursor stays and it waits again, unless its room is now more than MAX_BEHIND ahead.
        broadcaster.deliver(member)

    def _pieces(self, member: Member, records: list[Record]) -> list[bytes]:
        pieces: list[bytes] = []
        size = 0
        for record in records:
            piece = member.encoding.push(self._encoder.message(record), record.room, record.offset)
            size += len(piece)
            if pieces and size > CHUNK_BYTES:
                break
            pieces.append(piece)
        return pieces
