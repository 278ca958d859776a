"""The newest messages of a room, each encoded once.

Owns: the encoded bytes, bounded by count and bytes, and charged to the budget that all rings share. May not: know who
has read them, or how they are encoded.

    ring.chunk(encoding, cursor)    everything after a cursor, joined: one `send` for all that a member lacks

All members at one cursor get the same bytes object. Offsets in the ring have no holes: a record that is not the next
one empties the ring, which then begins with it.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from chatserver.chat.principal import Principal
from chatserver.log.interface import EDIT, REACTION, Record
from chatserver.meters import ByteBudget

#: Bytes joined into one send: joining more than a socket's buffer takes would be a wasted copy.
CHUNK_BYTES = 64 * 1024
#: Joined chunks kept for members at the same cursor. For a thousand members at 16 cursors, 16 chunks join 408 messages,
#: one chunk 24,000. Without a bound, slow readers spread over a ring of a thousand messages would cause 64 MiB of them.
CACHED_CHUNKS = 16
#: A ring that has to shrink drops an eighth of its messages at a time.
CUT_FRACTION = 8
#: Bytes that each copy of a message takes besides its JSON: the push around it, the bytes object, its place in a list.
ENTRY_BYTES = 80


class Encoding:
    """How events are encoded for one kind of client: the pushes of a WebSocket dialect, or server-sent events.

    Empty bytes: clients of this kind are not told.
    """

    def push(self, message: bytes, room: str, offset: int) -> bytes:
        """A record, given as JSON."""
        raise NotImplementedError

    def gap(self, room: str, after: int, until: int) -> bytes:
        """The offsets from `after` + 1 to `until` were skipped."""
        raise NotImplementedError

    def presence(self, room: str, joined: Sequence[Principal], left: Sequence[Principal], members: int) -> bytes:
        """People who came and left."""
        return b""

    def typing(self, room: str, who: Principal) -> bytes:
        """A user types."""
        return b""

    def read(self, room: str, offset: int) -> bytes:
        """How far this user has read on another connection."""
        return b""

    def moderated(self, left: str, message: str, retry_after: float | None) -> bytes:
        """What a moderator did, and the room left by it ("*": all) or ""."""
        return b""


class MessageEncoder(Protocol):
    """Turns records into the JSON that all encodings share."""

    def message(self, record: Record) -> bytes:
        """One record."""

    def restated(self, message: bytes, record: Record) -> bytes:
        """An encoded message with the present state of its record, whose text is the same."""

    def emptied(self, edit: bytes) -> bytes:
        """An encoded edit without its text."""


class RingSize(NamedTuple):
    """The bounds on each ring, and the budget that all share. One for the server."""

    encoder: MessageEncoder
    max_count: int
    max_bytes: int
    budget: ByteBudget


class Ring:
    """Entries for the offsets `first` to `last`; empty when `first == last + 1`."""

    __slots__ = (
        "_budget", "_bytes", "_chunks", "_edits", "_encoder", "_joined", "_json", "_max_bytes", "_max_count", "_pushes",
        "_room", "first", "kept", "last", "written",
    )  # fmt: skip

    def __init__(self, room: str, size: RingSize, *, last: int = 0) -> None:
        self._room = room
        self._encoder, self._max_count, self._max_bytes, self._budget = size
        self.first = last + 1
        self.last = last
        self.written = 0  # bytes of JSON added since the ring was made
        self.kept = 0  # bytes charged to the budget
        self._bytes = 0  # bytes of JSON held
        self._joined = 0  # bytes of joined chunks
        # Parallel lists: with an object for each message, a hundred busy rooms would make the collector visit 100,000.
        self._json: list[bytes] = []
        self._edits: list[tuple[int, int]] = []  # offset and target of each edit here, and of some that were dropped
        #: for each encoding in use, one more copy of every message
        self._pushes: dict[Encoding, list[bytes | None]] = {}
        self._chunks: dict[tuple[Encoding, int], tuple[bytes, int]] = {}  # those joined from several

    def add(self, records: Sequence[Record], *, as_committed: bool = False) -> None:
        """Append records; the oldest entries are dropped to make room.

        `as_committed`: what a record has altered is as that record left it, so a reaction leaves its message's text.
        """
        altering = []
        for record in records:
            if record.offset != self.last + 1:
                self._drop(len(self._json))
                self._bytes, self.first = 0, record.offset
            json = self._encoder.message(record)
            self._json.append(json)
            for pushes in self._pushes.values():
                pushes.append(None)
            self.last = record.offset
            self._bytes += len(json)
            self.written += len(json)
            if record.kind is EDIT:
                self._edits.append((record.offset, record.target))
            if record.alters or record.empties:
                altering.append(record)
        if altering:
            self._alter(altering, as_committed=as_committed)
        self._trim()
        self._drop_chunks()
        self._charge()

    def alter(self, records: Sequence[Record]) -> None:
        """Apply what these records have altered, without appending them: records before them are not here yet."""
        self._alter(records, as_committed=False)
        self._drop_chunks()
        self._charge()

    def forget_texts(self, first: int) -> None:
        """Empty edits of messages before this offset: retention has removed the text of each with its message."""
        gone = [offset for offset, target in self._edits if target < first and offset >= self.first]
        self._edits = [(offset, target) for offset, target in self._edits if target >= first]
        for offset in gone:
            self._replace(offset, self._encoder.emptied(self._json[offset - self.first]))
        if gone:
            self._drop_chunks()
            self._charge()

    def _alter(self, records: Sequence[Record], *, as_committed: bool) -> None:
        altered: dict[int, Record] = {}  # by offset, so that a message with a hundred new reactions is encoded once
        rewritten = set()  # those whose text has changed as well
        emptied = []
        for record in records:
            for each in record.alters:
                altered[each.offset] = each
                if not as_committed or record.kind is not REACTION:
                    rewritten.add(each.offset)
            if record.empties:
                emptied.append(record.empties)
        encoder, here = self._encoder, range(self.first, self.last + 1)
        for offset, each in altered.items():
            if offset in rewritten and offset in here:
                self._replace(offset, encoder.message(each))
            elif offset in here:
                # To encode 64 texts of 8 KB again takes 5 ms, and the loop waits for it.
                self._replace(offset, encoder.restated(self._json[offset - self.first], each))
        for offset in emptied:
            if offset in here:
                self._replace(offset, encoder.emptied(self._json[offset - self.first]))

    def _replace(self, offset: int, json: bytes) -> None:
        """Replace the record at an offset, for members that have not received it yet."""
        index = offset - self.first
        self._bytes += len(json) - len(self._json[index])
        self._json[index] = json
        for pushes in self._pushes.values():
            pushes[index] = None

    def _trim(self) -> None:
        json, surplus = self._json, 0
        while len(json) - surplus > self._max_count or (self._bytes > self._max_bytes and surplus < len(json) - 1):
            self._bytes -= len(json[surplus])
            surplus += 1
        if surplus:
            self._drop(surplus)

    def _drop(self, count: int) -> None:
        self.first += count
        del self._json[:count]
        if len(self._edits) > 2 * len(self._json):
            self._edits = [edit for edit in self._edits if edit[0] >= self.first]
        for pushes in self._pushes.values():
            del pushes[:count]

    def _drop_chunks(self) -> None:
        self._joined = 0
        self._chunks.clear()

    def _charge(self) -> None:
        """Charge the bytes kept now. That may exceed the budget: `Registry.relieve` sees to it."""
        kept = (self._bytes + ENTRY_BYTES * len(self._json)) * (1 + len(self._pushes)) + self._joined
        self._budget.add(kept - self.kept)
        self.kept = kept

    def cut(self, most: int) -> None:
        """Drop the oldest messages until at most this many bytes are kept; members behind get them from the log."""
        if self.kept > most:
            self._drop_chunks()
            self._charge()
        while self.kept > most:
            count = -(-len(self._json) // CUT_FRACTION)
            self._bytes -= sum(map(len, self._json[:count]))
            self._drop(count)
            self._charge()

    def holds_after(self, offset: int) -> bool:
        """Whether all messages after an offset are here."""
        return offset >= self.first - 1

    def after(self, offset: int, limit: int) -> list[bytes]:
        """The JSON of at most `limit` messages after an offset that `holds_after`."""
        start = offset + 1 - self.first
        return self._json[start : start + limit]

    def chunk(self, encoding: Encoding, offset: int) -> tuple[bytes, int]:
        """The pushes after an offset, joined up to `CHUNK_BYTES`, and the offset of the last one."""
        if encoding not in self._pushes:
            self._pushes[encoding] = [None] * len(self._json)
            self._charge()
        if offset == self.last - 1:  # the usual case: nothing to join, so a small room needs no dict of chunks
            return self._push(encoding, len(self._json) - 1), self.last
        found = self._chunks.get((encoding, offset))
        if found is None:
            pieces: list[bytes] = []
            size, reached = 0, offset
            for index in range(offset + 1 - self.first, len(self._json)):
                piece = self._push(encoding, index)
                size += len(piece)
                if pieces and size > CHUNK_BYTES:
                    break
                pieces.append(piece)
                reached += 1
            found = b"".join(pieces), reached
            if len(pieces) > 1:  # one is not copied
                if len(self._chunks) >= CACHED_CHUNKS:
                    self._drop_chunks()
                self._chunks[encoding, offset] = found
                self._joined += size
                self._charge()
        return found

    def pieces(self, encoding: Encoding, offset: int, reached: int) -> list[bytes]:
        """The frames or events that a chunk was joined from."""
        start = offset + 1 - self.first
        return [self._push(encoding, index) for index in range(start, reached + 1 - self.first)]

    def _push(self, encoding: Encoding, index: int) -> bytes:
        pushes = self._pushes[encoding]
        piece = pushes[index]
        if piece is None:
            piece = pushes[index] = encoding.push(self._json[index], self._room, self.first + index)
        return piece

    def released(self) -> None:
        """The room leaves memory."""
        self._budget.add(-self.kept)
        self.kept = 0
