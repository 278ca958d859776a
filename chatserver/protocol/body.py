"""Request bodies: gathered up to a limit, with what follows them kept for the next request.

Owns: the size limit and the overhead limit. A `Content-Length` body is gathered as plain bytes: an h11
object each would cost an attacker's slow body 2.8 KB of our memory instead of about 200 bytes. Chunked bodies
go through h11, which knows the ways to smuggle there, under a limit on wire bytes: one-byte chunks with fat
extensions cost us 16 KiB a byte in a server that counts decoded bytes only (CVE-2023-39326).
"""

import sys
from typing import TypeAlias

import h11
import msgspec
from h11._readers import ChunkedReader

from chatserver.protocol.errors import HttpError
from chatserver.protocol.head import BodyKind, Head
from chatserver.reasons import ErrorCode, Reason


class BodyLimits(msgspec.Struct, frozen=True, gc=False):
    """How much body a peer may send, and how wastefully."""

    max_bytes: int = 64 * 1024
    # Wire bytes at most ratio x decoded + grace: chunks of two bytes (seven on the wire) still pass.
    # Go's answer to the CVE is an excess of 16 KiB in all.
    overhead_ratio: int = 4
    overhead_grace: int = 1024  # bytes; pays for trailers and the last chunk
    # h11 takes 5 to 12 µs a chunk: without this, 16 KiB of two-byte chunks, within the ratio, hold the loop for 12 ms,
    # and a whole body of them for 200. Clients that send in chunks at all send KiBs at a time.
    max_chunks: int = 128


def body_reader(head: Head, limits: BodyLimits) -> "Body":
    """The reader for this head's body; 413 at once when it announces too much."""
    if head.body is BodyKind.CHUNKED:
        return ChunkedBody(limits)
    if head.content_length > limits.max_bytes:
        raise _too_large(limits)
    return LengthBody(head.content_length)


def _too_large(limits: BodyLimits) -> HttpError:
    return HttpError(
        ErrorCode.TOO_LARGE,
        f"the request body is over its limit of {limits.max_bytes:,} bytes",
        reason=Reason.BODY_TOO_LARGE,
    )


def _overhead(message: str) -> HttpError:
    return HttpError(ErrorCode.BAD_REQUEST, message, reason=Reason.CHUNK_OVERHEAD)


class LengthBody:
    """A body whose length was announced (0 for none at all)."""

    __slots__ = ("_gathered", "_length", "rest")

    def __init__(self, length: int) -> None:
        self._length = length
        self._gathered = bytearray()
        self.rest = b""

    def receive(self, data: bytes) -> None:
        """Take bytes off the wire; what is beyond the body goes to `rest`."""
        wanted = self.lacking
        if len(data) <= wanted:
            self._gathered += data
        else:
            self._gathered += data[:wanted]
            self.rest += data[wanted:]

    @property
    def complete(self) -> bool:
        """Whether the whole body is here."""
        return len(self._gathered) == self._length

    @property
    def received(self) -> int:
        """Bytes of the body so far."""
        return len(self._gathered)

    @property
    def lacking(self) -> int:
        """Bytes that are still to come."""
        return self._length - len(self._gathered)

    @property
    def kept(self) -> int:
        """Bytes held of it while it is not whole."""
        return len(self._gathered)

    @property
    def body(self) -> bytes:
        """The body, or what there is of it."""
        return bytes(self._gathered)


_CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


class ChunkedBody:
    """A body in chunks. Trailer fields are read and dropped; nothing here has a use for them."""

    __slots__ = ("_chunks", "_connection", "_gathered", "_limits", "_tail", "_wire", "complete", "rest")

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        # h11 reads a body only behind a head. The real one was read and judged; this one sets the mode.
        # Its own limit on what it may buffer is off: `_check_line` says it in our words.
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=sys.maxsize)
        self._connection.receive_data(_CHUNKED_HEAD)
        self._connection.next_event()
        self._gathered = bytearray()
        self._chunks = 0
        self._wire = 0
        self._tail = b""
        self.complete = False
        self.rest = b""

    def receive(self, data: bytes) -> None:
        """Take bytes off the wire; what is beyond the body goes to `rest`."""
        if self.complete:
            self.rest += data
            return
        if not data:
            return  # h11 would take it for the end of the stream; that is the caller's to see
        self._wire += len(data)
        tail = self._tail + data  # three bytes and these: enough to see how the body ends
        self._tail = tail[-3:]
        self._connection.receive_data(data)
        ended = self._drain()
        if ended:
            self.rest = self._connection.trailing_data[0]
        else:
            self._check_announced()
            self._check_line()
        self._check_overhead()
        if ended:
            self._check_end(tail)
            self.complete = True

    def _drain(self) -> bool:
        """Move what h11 has decoded; whether that was the last of it."""
        try:
            while (event := self._connection.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.EndOfMessage):
                    return True
                assert isinstance(event, h11.Data)
                self._chunks += event.chunk_end  # its start goes unreported when its size came alone
                if self._chunks > self._limits.max_chunks:
                    raise _overhead(f"a body in more than {self._limits.max_chunks} chunks")
                self._gathered += event.data
                if len(self._gathered) > self._limits.max_bytes:
                    raise _too_large(self._limits)
        except h11.RemoteProtocolError as error:
            error.__traceback__ = None  # breaks h11's reference cycle, as in head.py
            raise HttpError(ErrorCode.BAD_REQUEST, str(error)[:200]) from None
        return False

    def _check_announced(self) -> None:
        """Refuse a chunk as soon as its size is known: one of 2^63 bytes would be waited for until BODY's deadline."""
        # h11 keeps that to itself; the attribute has been there since its first version.
        reader = self._connection._reader
        assert isinstance(reader, ChunkedReader), "a chunked body is not over"
        if len(self._gathered) + reader._bytes_in_chunk > self._limits.max_bytes:
            raise _too_large(self._limits)

    def _check_line(self) -> None:
        """What h11 holds back is a chunk's first line or the trailers, not yet whole: no place for a body of its own.

        Behind 60,000 bytes of body, which allow 240,000 on the wire, one line was gathered up to 181,000.
        """
        waiting = len(self._connection._receive_buffer)
        if waiting > self._limits.overhead_grace:
            raise _overhead(f"{waiting:,} bytes without a chunk's end; {self._limits.overhead_grace:,} allowed")

    def _check_overhead(self) -> None:
        wire = self._wire - len(self.rest)
        allowed = self._limits.overhead_ratio * len(self._gathered) + self._limits.overhead_grace
        if wire > allowed:
            raise _overhead(f"{wire:,} bytes of chunks carry {len(self._gathered):,} of body; {allowed:,} allowed")

    def _check_end(self, tail: bytes) -> None:
        # h11 takes a bare LF for the blank line after the trailers. A proxy that does not would find the
        # next request somewhere else, so the body must end as RFC 9112 section 7.1 writes it.
        if not tail[: len(tail) - len(self.rest)].endswith(b"\r\n\r\n"):
            raise HttpError(ErrorCode.BAD_REQUEST, "the chunked body ends with a bare LF")

    @property
    def received(self) -> int:
        """Decoded bytes of the body so far."""
        return len(self._gathered)

    @property
    def lacking(self) -> int:
        """Unknown: chunks do not tell how many follow."""
        return 0

    @property
    def kept(self) -> int:
        """Bytes held of it while it is not whole, h11's beginning of a line included."""
        return len(self._gathered) + len(self._connection._receive_buffer)

    @property
    def body(self) -> bytes:
        """The decoded body, or what there is of it."""
        return bytes(self._gathered)


Body: TypeAlias = LengthBody | ChunkedBody
