"""Request bodies: gathered up to a limit, with what follows them kept for the next request.

Owns: the size limit and the overhead limit. A `Content-Length` body is gathered as plain bytes: an h11 object each
would cost 2.8 KB instead of about 200 bytes. Chunked bodies go through h11's reader of them, which knows the ways to
smuggle there, under a limit on wire bytes: one-byte chunks with fat extensions cost 16 KiB a byte in a server that
counts decoded bytes only (CVE-2023-39326).

h11 offers that reader only behind a whole connection, which takes twice the time and most of the memory. So it is
imported by its private name, which has stood since h11's first version.
"""

from typing import TypeAlias

import h11
import msgspec
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer

from chatserver.protocol.errors import HttpError
from chatserver.protocol.head import BodyKind, Head
from chatserver.reasons import ErrorCode, Reason


class BodyLimits(msgspec.Struct, frozen=True, gc=False):
    """How much body a peer may send, and how wastefully."""

    max_bytes: int = 64 * 1024
    # Wire bytes at most ratio x decoded + grace: chunks of two bytes (seven on the wire) still pass.
    # Go's answer to the CVE is an excess of 16 KiB in all.
    overhead_ratio: int = 4
    overhead_grace: int = 256  # bytes; pays for trailers and the last chunk
    # h11 takes 3 to 4 µs a chunk: 16 KiB of two-byte chunks, within the ratio, would hold the loop for 8 ms.
    max_chunks: int = 64


#: Bytes that grow by being copied: 48 for ten of them, where a `bytearray` takes 96. A body that comes in one read, as
#: nearly all do, is not copied at all.
SMALL = 512


def body_reader(head: Head, limits: BodyLimits) -> "Body":
    """The reader for this head's body; 413 at once when it announces too much."""
    if head.body is BodyKind.CHUNKED:
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
    """A body whose length was announced (0 for none at all)."""

    length: int
    gathered: bytes | bytearray = b""  # with what came behind the body

    def receive(self, data: bytes) -> None:
        """Take bytes off the wire."""
        if len(self.gathered) > SMALL and isinstance(self.gathered, bytes):
            self.gathered = bytearray(self.gathered)  # which can grow
        self.gathered += data

    @property
    def complete(self) -> bool:
        """Whether the whole body is here."""
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
        """Bytes held of it while it is not whole."""
        return len(self.gathered)

    @property
    def body(self) -> bytes:
        """The body, or what there is of it."""
        return bytes(self.gathered[: self.length])

    @property
    def rest(self) -> bytes:
        """What is beyond the body."""
        return bytes(self.gathered[self.length :])


#: What h11 says, up to its first colon, in our words.
_WORDS = {
    "illegal chunk header": "a chunk does not begin with its size in hexadecimal digits and CR LF",
    "malformed chunk footer": "a chunk is not as long as its size says",
}


class ChunkedBody:
    """A body in chunks. Trailer fields are read and dropped; nothing here has a use for them."""

    __slots__ = ("_buffer", "_chunks", "_gathered", "_limits", "_reader", "_tail", "_wire", "complete", "rest")

    def __init__(self, limits: BodyLimits) -> None:
        self._gathered = bytearray()
        self.rest = b""
        self._limits = limits
        self._reader = ChunkedReader()
        self._buffer = ReceiveBuffer()
        self._chunks = 0
        self._wire = 0
        self._tail = b""
        self.complete = False

    def receive(self, data: bytes) -> None:
        """Take bytes off the wire; what is beyond the body goes to `rest`."""
        if self.complete:
            self.rest += data
            return
        self._wire += len(data)
        tail = self._tail + data  # three bytes and these: enough to see how the body ends
        self._tail = tail[-3:]
        try:
            ended = self._read(data)
        except h11.LocalProtocolError as error:
            message = _WORDS.get(str(error).partition(":")[0], "the trailers are not valid HTTP/1.1")
            raise HttpError(ErrorCode.BAD_REQUEST, message) from None
        wire, gathered = self._wire - len(self.rest), len(self._gathered)
        allowed = self._limits.overhead_ratio * gathered + self._limits.overhead_grace
        if wire > allowed:
            raise _overhead(f"{wire:,} bytes of chunks carry {gathered:,} of body; {allowed:,} allowed")
        if ended:
            # h11 takes a bare LF for the blank line after the trailers. A proxy that does not would find the next
            # request somewhere else, so the body must end as RFC 9112 section 7.1 writes it.
            if not tail[: len(tail) - len(self.rest)].endswith(b"\r\n\r\n"):
                raise HttpError(ErrorCode.BAD_REQUEST, "the chunked body ends with a bare LF")
            self.complete = True

    def _read(self, data: bytes) -> bool:
        """Give it to h11, no more at a time than the chunk lacks and one line; whether that was the last of it.

        h11 reads trailers in one go, and 16 KiB of short ones would take it 4 ms.
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
                self._chunks += event.chunk_end  # its start goes unreported when its size came alone
                if self._chunks > limits.max_chunks:
                    raise _overhead(f"a body in more than {limits.max_chunks} chunks")
                self._gathered += event.data
                if len(self._gathered) > limits.max_bytes:
                    raise _too_large(limits)

    def _check_waiting(self) -> int:
        """Judge what is begun, and tell how many bytes may be read on.

        A chunk is refused as soon as its size is known: one of 2^63 bytes would be waited for until BODY's deadline.
        What h11 holds back is a chunk's first line or the trailers, not yet whole: no place for a body of its own.
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
        """Bytes of the body so far, decoded."""
        return len(self._gathered)

    @property
    def body(self) -> bytes:
        """The decoded body, or what there is of it."""
        return bytes(self._gathered)

    @property
    def kept(self) -> int:
        """Bytes held of it while it is not whole, h11's beginning of a line included."""
        return len(self._gathered) + len(self._buffer)


Body: TypeAlias = LengthBody | ChunkedBody
