"""The newest messages of a room, each encoded once.

Owns: the encoded bytes, bounded by count and bytes, and counted on the shelf that all rings share. May not: know who
has read them, or how they are encoded.

    ring.chunk(Form.FRAMES, cursor)    every frame after a cursor, joined: one `send` for all that a member lacks

All members that stand at one cursor get the same bytes object. Offsets in the ring have no holes; news that is not
the next offset makes the ring begin anew there, and whoever lacks what came before reads it from the log.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Protocol

from chatserver.chat.shelf import ENTRY, Shelf
from chatserver.log.interface import Record

#: Bytes joined into one send: more than a socket's buffer takes at once is copied for nothing.
CHUNK_BYTES = 64 * 1024
#: Joined chunks kept for whoever stands at the same cursor. Most stand at the newest few; without a bound, slow readers
#: spread over a ring of a thousand messages would have 64 MiB joined for them.
CHUNKS_KEPT = 16
#: Parts in which a ring that has to shrink is given up, each an eighth of what is left.
CUTS = 8


class Form(IntEnum):
    """How a message is pushed."""

    FRAMES = 0  # WebSocket
    EVENTS = 1  # server-sent events


class Encoder(Protocol):
    """What turns messages into bytes; `chat` is handed one and does not look inside."""

    def message(self, record: Record) -> bytes:
        """The JSON of a message, shared by every form."""

    def push(self, form: Form, record_json: bytes, room: str, offset: int) -> bytes:
        """That JSON as a frame or an event."""

    def gap(self, form: Form, room: str, after: int, until: int) -> bytes:
        """The notice that offsets from `after` + 1 to `until` were skipped."""

    def presence(self, room: str, joined: Sequence[int], left: Sequence[int], members: int) -> bytes:
        """A frame that tells who came and went, by user number."""


class Ring:
    """Entries for the offsets `first` to `last`; empty when `first == last + 1`."""

    __slots__ = (
        "_bytes", "_chunks", "_encoder", "_forms", "_in_use", "_joined", "_json", "_kept", "_max_bytes", "_max_count",
        "_room", "_shelf", "first", "last", "written",
    )  # fmt: skip

    def __init__(
        self, room: str, encoder: Encoder, *, max_count: int, max_bytes: int, shelf: Shelf, last: int = 0
    ) -> None:  # fmt: skip
        self.last = last
        self.first = last + 1
        self.written = 0  # bytes of JSON ever added: how much a walk has still to offer is a difference of two
        self._room = room
        self._encoder = encoder
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._bytes = 0  # of JSON
        self._shelf = shelf
        self._joined = 0  # of joined chunks
        self._kept = 0  # of everything, as the shelf counts it
        self._in_use: list[Form] = []  # forms that somebody is pushed: each is one more copy of everything
        # Parallel lists, not an object a message: a hundred busy rooms would make 100,000 of them, and the collector
        # visits each.
        self._json: list[bytes] = []
        self._forms: tuple[list[bytes | None], ...] = tuple([] for _ in Form)
        self._chunks: tuple[dict[int, tuple[bytes, int]], ...] = tuple({} for _ in Form)

    def add(self, records: Iterable[Record]) -> None:
        """Append news; older entries make room."""
        for record in records:
            if record.offset != self.last + 1:
                self._begin_anew(record.offset)
            json = self._encoder.message(record)
            self._json.append(json)
            for pushed in self._forms:
                pushed.append(None)
            self.last = record.offset
            self._bytes += len(json)
            self.written += len(json)
        self._trim()
        self._drop_chunks()
        self._count()

    def _begin_anew(self, offset: int) -> None:
        self._drop(len(self._json))
        self._bytes = 0
        self.first = offset

    def _trim(self) -> None:
        json = self._json
        surplus = max(0, len(json) - self._max_count)
        self._bytes -= sum(map(len, json[:surplus]))
        while self._bytes > self._max_bytes and surplus < len(json) - 1:
            self._bytes -= len(json[surplus])
            surplus += 1
        if surplus:
            self._drop(surplus)
            self.first += surplus

    def _drop(self, count: int) -> None:
        del self._json[:count]
        for pushed in self._forms:
            del pushed[:count]

    def _drop_chunks(self) -> None:
        self._joined = 0
        for chunks in self._chunks:
            chunks.clear()

    def _count(self) -> None:
        """Put on the shelf what is kept by now, or take it off."""
        kept = (self._bytes + ENTRY * len(self._json)) * (1 + len(self._in_use)) + self._joined
        self._shelf.used += kept - self._kept
        self._kept = kept

    def cut(self, most: int) -> None:
        """Give up what is oldest until no more than this is kept; members that lack it read it from the log."""
        if self._kept > most:
            self._drop_chunks()
            self._count()
        while self._kept > most and self._json:
            count = -(-len(self._json) // CUTS)
            self._bytes -= sum(map(len, self._json[:count]))
            self._drop(count)
            self.first += count
            self._count()

    def holds_after(self, offset: int) -> bool:
        """Whether everything after an offset is here."""
        return offset >= self.first - 1

    def after(self, offset: int, limit: int) -> list[bytes]:
        """The JSON of at most `limit` messages after an offset that `holds_after`."""
        start = offset + 1 - self.first
        return self._json[start : start + limit]

    def chunk(self, form: Form, offset: int) -> tuple[bytes, int]:
        """What follows an offset, joined up to `CHUNK_BYTES`, and the offset that it reaches."""
        chunks = self._chunks[form]
        found = chunks.get(offset)
        if found is None:
            pieces: list[bytes] = []
            size, reached = 0, offset
            for index in range(offset + 1 - self.first, len(self._json)):
                piece = self._form(form, index)
                size += len(piece)
                if pieces and size > CHUNK_BYTES:
                    break
                pieces.append(piece)
                reached += 1
            if len(chunks) >= CHUNKS_KEPT:
                self._drop_chunks()
            if len(pieces) == 1:
                found = chunks[offset] = (pieces[0], reached)
            else:
                found = chunks[offset] = (b"".join(pieces), reached)
                self._joined += size
                self._count()
        return found

    def pieces(self, form: Form, offset: int, reached: int) -> list[bytes]:
        """The single frames or events that a chunk was joined from."""
        start = offset + 1 - self.first
        return [self._form(form, index) for index in range(start, reached + 1 - self.first)]

    def _form(self, form: Form, index: int) -> bytes:
        pushed = self._forms[form]
        piece = pushed[index]
        if piece is None:
            piece = pushed[index] = self._encoder.push(form, self._json[index], self._room, self.first + index)
            if form not in self._in_use:
                self._in_use.append(form)
                self._count()
        return piece

    def statistics(self) -> dict[str, int]:
        """Messages and bytes of JSON held, and bytes kept in all."""
        return {"messages": len(self._json), "bytes": self._bytes, "kept": self._kept}
