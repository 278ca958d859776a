"""Request bodies: gathered up to a limit; the bytes after a body are kept for the next request.

Owns: the size limit and the overhead limit. A `Content-Length` body is gathered as plain bytes: an h11 object for each
would cost 2.8 KB. Chunked bodies go through h11's chunk reader, which knows the smuggling tricks, under a limit on wire
bytes: elsewhere one-byte chunks with fat extensions cost 16 KiB a byte (CVE-2023-39326). h11 offers it publicly only in
a connection, at twice the time, so it is imported by its private name, unchanged since h11's first version.
"""

import re
from typing import TypeAlias

import h11
import msgspec
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer

from chatserver.protocol.errors import HttpError
from chatserver.protocol.head import CHUNKED, Head
from chatserver.reasons import ErrorCode, Reason


class BodyLimits(msgspec.Struct, frozen=True, gc=False):
    """How much body a peer may send, and with how much overhead."""

    max_bytes: int
    # Wire bytes may be at most ratio x decoded + grace, so chunks of two bytes (seven on the wire) still pass.
    # Go's fix of the CVE allows 16 KiB of overhead in total.
    overhead_ratio: int = 4
    overhead_grace: int = 256  # bytes; pays for trailers and the last chunk
    # h11 takes 3 to 4 µs a chunk: 16 KiB of two-byte chunks, which the ratio allows, would block the loop for 8 ms.
    max_chunks: int = 64


#: Bytes up to which a body is kept as `bytes`, copied at each read: ten bytes take 48 of memory, in a `bytearray` 96. A
#: body that comes in one read, as nearly all do, is not copied at all.
SMALL_BODY = 512


def body_reader(head: Head, limits: BodyLimits) -> "Body":
    """The reader for this head's body; 413 at once when it announces too much."""
    if head.body is CHUNKED:
        return ChunkedBody(limits)
    if head.content_length > limits.max_bytes:
        raise _too_large(limits)
    return LengthBody(head.content_length)


def _too_large(limits: BodyLimits) -> HttpError:
    message = f"the request body is over its limit of {limits.max_bytes:,} bytes"
    return HttpError(ErrorCode.TOO_LARGE, message, reason=Reason.BODY_TOO_LARGE)


def _overhead(message: str) -> HttpError:
    return HttpError(ErrorCode.BAD_REQUEST, message, reason=Reason.CHUNK_OVERHEAD)


class LengthBody(msgspec.Struct, gc=False, eq=False):
    """A body of a declared length (0 for no body)."""

    length: int
    gathered: bytes | bytearray = b""  # includes bytes that came after the body

    def receive(self, data: bytes) -> None:
        if len(self.gathered) > SMALL_BODY and isinstance(self.gathered, bytes):
            self.gathered = bytearray(self.gathered)  # grows without copying
        self.gathered += data

    @property
    def complete(self) -> bool:
        return len(self.gathered) >= self.length

    @property
    def lacking(self) -> int:
        """Bytes that are still to come."""
        return max(self.length - len(self.gathered), 0)

    @property
    def received(self) -> int:
        """Bytes of the body so far."""
        return min(len(self.gathered), self.length)

    @property
    def kept(self) -> int:
        """Bytes in memory for it while it is incomplete."""
        return len(self.gathered)

    @property
    def body(self) -> bytes:
        """The body, or what there is of it."""
        return bytes(self.gathered[: self.length])

    @property
    def rest(self) -> bytes:
        return bytes(self.gathered[self.length :])


#: Our messages for h11's errors, by its message up to the first colon.
_WORDS = {
    "illegal chunk header": "a chunk does not begin with its size in hexadecimal digits and CR LF",
    "malformed chunk footer": "a chunk is not as long as its size says",
}


_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TRAILERS = re.compile(rb"([^\x00-\x20\x7f][^\x00-\x08\x0a-\x1f\x7f]*\r\n)*\r\n")


class _ChunkBuffer(ReceiveBuffer):
    """h11's buffer; it also refuses what h11 allows in chunk extensions and trailers: bare CR and LF, control
    characters, folded lines. A proxy in front may read these otherwise, and would see the next request begin elsewhere
    (RFC 9112 sections 2.2 and 5.2).
    """

    def maybe_extract_next_line(self) -> bytearray | None:
        line = super().maybe_extract_next_line()
        if line is not None and _CONTROL.search(line, 0, len(line) - 2):
            raise h11.LocalProtocolError("illegal chunk header")
        return line

    def maybe_extract_lines(self) -> list[bytearray] | None:
        before = bytes(self)
        lines = super().maybe_extract_lines()
        if lines is not None and not _TRAILERS.fullmatch(before, 0, len(before) - len(self)):
            raise h11.LocalProtocolError("illegal trailers")
        return lines


class ChunkedBody:
    """A body in chunks. Trailer fields are read and dropped."""

    __slots__ = ("_buffer", "_chunks", "_gathered", "_limits", "_reader", "_wire", "complete", "rest")

    def __init__(self, limits: BodyLimits) -> None:
        self._gathered = bytearray()
        self.rest = b""
        self._limits = limits
        self._reader = ChunkedReader()
        self._buffer: ReceiveBuffer = _ChunkBuffer()
        self._chunks = 0
        self._wire = 0
        self.complete = False

    def receive(self, data: bytes) -> None:
        """Take bytes from the wire; bytes after the body go to `rest`."""
        if self.complete:
            self.rest += data
            return
        self._wire += len(data)
        try:
            self.complete = self._read(data)
        except h11.LocalProtocolError as error:
            message = _WORDS.get(str(error).partition(":")[0], "the trailers are not valid HTTP/1.1")
            raise HttpError(ErrorCode.BAD_REQUEST, message) from None
        wire, gathered = self._wire - len(self.rest), len(self._gathered)
        allowed = self._limits.overhead_ratio * gathered + self._limits.overhead_grace
        if wire > allowed:
            raise _overhead(f"{wire:,} bytes of chunks carry {gathered:,} of body; {allowed:,} allowed")

    def _read(self, data: bytes) -> bool:
        """Feed h11, at most what the chunk lacks and one line at a time; returns whether the body ended.

        h11 reads all trailers it has at once, and 16 KiB of short ones would take it 4 ms.
        """
        reader, buffer, limits = self._reader, self._buffer, self._limits
        at = 0
        while True:
            event = reader(buffer)
            if event is None:
                room = self._check_waiting()
                if at == len(data):
                    return False
                piece = data[at : at + room]
                buffer += piece
                at += len(piece)
            elif isinstance(event, h11.EndOfMessage):
                self.rest = bytes(buffer) + data[at:]
                return True
            else:
                self._chunks += event.chunk_end  # h11 reports no start if a chunk's size came alone
                if self._chunks > limits.max_chunks:
                    raise _overhead(f"a body in more than {limits.max_chunks} chunks")
                self._gathered += event.data
                if len(self._gathered) > limits.max_bytes:
                    raise _too_large(limits)

    def _check_waiting(self) -> int:
        """Check the chunk that has begun, and return how many more bytes may be read.

        A chunk is refused as soon as its size is known; otherwise one of 2^63 bytes would be awaited until BODY's
        deadline. h11 holds back an incomplete chunk header or trailers, which must stay short.
        """
        lacking, waiting, limits = self._reader._bytes_in_chunk, len(self._buffer), self._limits
        if len(self._gathered) + lacking > limits.max_bytes:
            raise _too_large(limits)
        if waiting > limits.overhead_grace:
            raise _overhead(f"{waiting:,} bytes without a chunk's end; {limits.overhead_grace:,} allowed")
        return lacking + limits.overhead_grace + 1 - waiting

    @property
    def lacking(self) -> int:
        """Unknown: chunks do not tell how many follow."""
        return 0

    @property
    def received(self) -> int:
        return len(self._gathered)

    @property
    def body(self) -> bytes:
        return bytes(self._gathered)

    @property
    def kept(self) -> int:
        """Bytes in memory for it while it is incomplete, including an incomplete line in h11."""
        return len(self._gathered) + len(self._buffer)


Body: TypeAlias = LengthBody | ChunkedBody
