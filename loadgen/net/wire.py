"""The parsing that a virtual client needs: response heads, whole responses, WebSocket frames.

Owns: the smallest client side of HTTP/1.1 and RFC 6455 that a crowd needs, because 18,000 clients cannot have an h11
and a wsproto connection each (2.5 KB and 40 us an answer). May not: import trio, socket or anything of ours. Incomplete
input is never an error: the caller tries again with more, or feeds what comes next.
"""

import base64
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec
from wsproto.frame_protocol import XorMaskerSimple
from wsproto.utilities import generate_accept_token

FIN: Final = 0x80
RSV1: Final = 0x40
RSV2: Final = 0x20
RSV3: Final = 0x10
MORE: Final = 0x00  # a continuation frame's opcode
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

#: A legal mask that leaves the payload unchanged, which costs nothing.
NO_MASKING: Final = bytes(4)

#: A server's close frame: two bytes of head, two of code, at most 123 of reason (RFC 6455 section 5.5).
LAST_WORD_BYTES: Final = 127

#: A longer response head counts as garbage. Browsers stop at 256 KiB, h11 at 16 KiB.
MAX_HEAD_BYTES: Final = 64 * 1024

#: A longer status, length or chunk size counts as garbage; int() refuses more than 4,300 digits.
MAX_DIGITS: Final = 16

#: A longer line of an event stream counts as garbage.
MAX_LINE_BYTES: Final = 1024 * 1024

#: A frame that announces more counts as garbage: the longest text of a schedule is a quarter of it.
MAX_FRAME_BYTES: Final = 4 * 1024 * 1024

# One nonce for the whole crowd, so that the expected answer is computed once. RFC 6455 requires a random one so that
# caches cannot replay a handshake, but there is no cache between us and the target.
_KEY: Final = base64.b64encode(b"loadgen-loadgen!").decode()
_ACCEPT: Final = generate_accept_token(_KEY.encode()).decode()

_VERSION: Final = b"HTTP/1."

#: The end of a head. Small servers end lines with LF alone, which browsers and curl accept (RFC 9112 section 2.2).
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_STATUS: Final = re.compile(r"[1-9][0-9]{2}")
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,%d}" % MAX_DIGITS)

#: The fields that ask for a WebSocket.
UPGRADE_FIELDS: Final = (
    "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {_KEY}", "Sec-WebSocket-Version: 13",
)  # fmt: skip


#: What msgspec raises for JSON that cannot be read: the last two mean bytes that are not UTF-8, and brackets too deep.
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class WireError(Exception):
    """The peer sent bytes that no server should send; the text says which."""


class Head(NamedTuple):
    status: int
    fields: Mapping[str, str]
    size: int  # bytes, blank line included; the body begins there


class Frame(NamedTuple):
    opcode: int
    final: bool
    payload: bytes

    @property
    def close_code(self) -> int:
        """The code of a close frame; 1005 stands for none."""
        return int.from_bytes(self.payload[:2]) if len(self.payload) >= 2 else 1005


def request(method: str, target: str, host: str, *fields: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]
    return "\r\n".join(lines).encode("ascii")


@lru_cache
def upgrade_request(target: str, host: str, *fields: str) -> bytes:
    return request("GET", target, host, *UPGRADE_FIELDS, *fields)


def read_head(data: bytes) -> Head | None:
    """Parse a response head, or return `None` while it is incomplete."""
    if end := _BLANK_LINE.search(data):
        return _parsed_head(data[: end.end()])
    if not _VERSION.startswith(data[: len(_VERSION)]):  # another protocol may never send a blank line
        raise WireError(f"not an HTTP/1.1 status line: {data[:60].decode('latin-1')!r}")
    if len(data) > MAX_HEAD_BYTES:
        raise WireError("a response head without end")
    return None


@lru_cache  # a server sends the same head to all clients within a second
def _parsed_head(head: bytes) -> Head:
    first, *lines = head.decode("latin-1").replace("\r\n", "\n").rstrip("\n").split("\n")
    parts = first.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not _STATUS.fullmatch(parts[1]):
        raise WireError(f"not an HTTP/1.1 status line: {first[:60]!r}")
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        join_field(fields, name.strip().lower(), value.strip())
    if first.startswith("HTTP/1.0"):  # HTTP/1.0 keeps a connection only if the head says so
        fields.setdefault("connection", "close")
    return Head(int(parts[1]), fields, len(head))


def whole_number(text: str) -> int | None:
    """Read decimal digits; `None` for other text and for more digits than a length has."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else None


def join_field(fields: dict[str, str], name: str, value: str) -> None:
    """Add a field; the values of a repeated field are joined with commas (RFC 9110 section 5.3)."""
    fields[name] = f"{fields[name]}, {value}" if name in fields else value


def media_type(fields: Mapping[str, str]) -> str:
    return fields.get("content-type", "").partition(";")[0].strip().lower()


def final_status(data: bytes) -> int | None:
    """Find the status of the first final response; `None` if it has not come yet, or is not HTTP."""
    while data.startswith(b"HTTP/1.") and data[9:12].isdigit():
        status = int(data[9:12])
        if status >= 200 or status == 101:
            return status
        data = data.partition(b"\r\n\r\n")[2]
    return None


@dataclass(slots=True, eq=False, kw_only=True)
class Response:
    """A response that is read as it comes, each byte once. Its body is dropped unless it `keeps` it.

    The answer to a HEAD is `bodiless`, whatever its Content-Length. A body with neither a length nor chunks ends with
    the connection.
    """

    keeps: bool = False
    bodiless: bool = False
    head: Head | None = None  # once it is complete
    body: bytearray = field(default_factory=bytearray)
    has_body: bool = False  # a byte of it has come, kept or not
    is_whole: bool = False
    ends_with_connection: bool = False
    _is_chunked: bool = False
    _left: int = 0  # bytes that are to come, of the body or of the current chunk and the line break behind it

    @property
    def status(self) -> int:
        assert self.head is not None, "asked of a whole response"
        return self.head.status

    @property
    def media_type(self) -> str:
        assert self.head is not None, "asked of a whole response"
        return media_type(self.head.fields)

    @property
    def keeps_alive(self) -> bool:
        assert self.head is not None, "asked of a whole response"
        return "close" not in self.head.fields.get("connection", "").lower()

    def feed(self, data: bytes) -> bytes:
        """Read on. Return the bytes that are to be fed again with more: half a line, or what follows the response."""
        at = 0 if self.head is not None else self._read_head(data)
        while self.head is not None and not self.is_whole and at < len(data):
            if self._left:
                at += self._read_body(data[at : at + self._left])
            elif (end := self._read_size(data, at)) is None:
                break
            else:
                at = end
        return data[at:]

    def end(self) -> bool:
        """The connection has ended; return whether that makes this response whole."""
        self.is_whole = self.ends_with_connection
        return self.is_whole

    def _read_head(self, data: bytes) -> int:
        """Read the head, behind any interim ones; return where it ends."""
        at = 0
        while (head := read_head(data[at:])) is not None:
            at += head.size
            if head.status >= 200 or head.status == 101:
                self.head = head
                self._begin_body(head)
                break
        return at

    def _begin_body(self, head: Head) -> None:
        length = head.fields.get("content-length")
        if self.bodiless or head.status in (101, 204, 304):
            self.is_whole = True
        elif head.fields.get("transfer-encoding", "").lower().rpartition(",")[2].strip() == "chunked":
            self._is_chunked = True
        elif length is None:
            self.ends_with_connection, self._left = True, sys.maxsize
        else:
            lengths = {each.strip() for each in length.split(",")}  # the same one again is allowed (RFC 9110 8.6)
            body_bytes = whole_number(lengths.pop())
            if body_bytes is None or lengths:
                raise WireError(f"a response with the length {length[:60]!r}")
            self._left, self.is_whole = body_bytes, not body_bytes

    def _read_body(self, part: bytes) -> int:
        self._left -= len(part)
        self.has_body = True
        if self.keeps:
            self.body += part
        if not self._left:
            self.is_whole = not self._is_chunked
            if self._is_chunked:
                del self.body[-2:]  # the line break behind a chunk
        return len(part)

    def _read_size(self, data: bytes, at: int) -> int | None:
        """Read the size of the next chunk, or the trailers; return where they end, or `None` if they have not."""
        line_end = data.find(b"\r\n", at)
        if line_end >= 0:
            digits = data[at:line_end].partition(b";")[0].rstrip()
            if not _CHUNK_SIZE.fullmatch(digits):
                raise WireError("a chunk without a size")
            if size := int(digits, 16):
                self._left = size + 2
                return line_end + 2
            end = data.find(b"\r\n\r\n", line_end)
            if end >= 0:
                self.is_whole = True
                return end + 4
        if len(data) - at > MAX_HEAD_BYTES:
            raise WireError("a line of a chunk, or trailers, without end")
        return None


def check_upgrade(fields: Mapping[str, str]) -> None:
    """Raise unless these fields of a 101 accept our upgrade."""
    if fields.get("sec-websocket-accept") != _ACCEPT:
        raise WireError("a 101 with the wrong Sec-WebSocket-Accept")


def read_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """Split off the complete frames; the second value is the beginning of an incomplete one."""
    frames: list[Frame] = []
    at, have = 0, len(data)
    while have - at >= 2:
        length, start = data[at + 1], at + 2
        if length & 0x80:
            raise WireError("a masked frame from the server")
        if length >= 126:
            start += 2 if length == 126 else 8
            if have < start:
                break
            length = int.from_bytes(data[at + 2 : start])
            if length > MAX_FRAME_BYTES:
                raise WireError(f"a frame of {length} bytes")
        if have < start + length:
            break
        frames.append(Frame(data[at] & 0x0F, data[at] >= 0x80, data[start : start + length]))
        at = start + length
    return frames, data[at:]


def frame(first: int, payload: bytes = b"", *, announced: int | None = None, mask: bytes | None = NO_MASKING) -> bytes:
    """Encode a client's frame; `announced` overrides the length of the payload, and a frame without mask is illegal."""
    length = len(payload) if announced is None else announced
    head = frame_head(first, 0 if mask is None else 0x80, length)
    if mask is None or mask == NO_MASKING:
        return head + (mask or b"") + payload
    return head + mask + XorMaskerSimple(mask).process(bytearray(payload))


def frame_head(first: int, mask_bit: int, length: int) -> bytes:
    """Encode the head of a frame with this first byte, up to the mask."""
    if length < 126:
        return bytes((first, mask_bit | length))
    if length < 1 << 16:
        return bytes((first, mask_bit | 126)) + length.to_bytes(2)
    return bytes((first, mask_bit | 127)) + length.to_bytes(8)


def close_code(tail: bytes) -> int | None:
    """Find the code of a close frame at the end of these bytes, or return `None`.

    A close frame is the last thing that a server sends, so a client that is sent millions of frames need not parse them
    to learn why it was closed.
    """
    for start in range(max(len(tail) - LAST_WORD_BYTES, 0), len(tail) - 1):
        if tail[start] == FIN | CLOSE and tail[start + 1] == len(tail) - start - 2:
            return int.from_bytes(tail[start + 2 : start + 4]) if tail[start + 1] >= 2 else 1005
    return None
