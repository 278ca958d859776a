"""What does not fit: heads, fields, bodies, chunks and frames past every default limit."""

from typing import Final

from loadgen import wire
from loadgen.client import Attacker, Cohort, Threat
from loadgen.frames import FIN, MORE, TEXT, frame
from loadgen.personas import persona
from loadgen.personas._flood import BLOCK_BYTES, Flooder, FrameFlooder

#: Past every default: nginx and Kestrel 32 KiB in all, h11, Node and IIS 16, Apache and tomcat 8 KiB a line.
HEAD_BYTES: Final = 256 * 1024

_BIG_HEAD_BLOCK: Final = b"x" * BLOCK_BYTES


@persona
class BigHead(Flooder):
    """Sends a request head of 256 KiB in one field, then waits for what is said to it.

    431 (or 400, 414) should come at once, when the limit is passed: not after all of it was gathered, and not only at a
    deadline. A server that answers by closing loses the answer if the rest is still unread.
    """

    __slots__ = ()

    name = "big-head"
    most_bytes = HEAD_BYTES

    def opening(self) -> bytes:
        """Begin the field."""
        return wire.request("GET", self.cohort.place.path, self.cohort.place.host, "X-Big: ")[:-4]

    def block(self) -> bytes:
        """Return more of the field."""
        return _BIG_HEAD_BLOCK


#: Past every default: Apache, Kestrel and Tomcat 100, Node 2,000. In 7 bytes each, so that many of them come before a
#: limit on the head's bytes: a table of fields costs 100 bytes for each of these.
FIELDS: Final = 20_000
_FIELDS_IN_BLOCK: Final = 2000

_MANY_FIELDS_BLOCK: Final = b"".join(b"%x: %x\r\n" % (number % 256, number % 16) for number in range(_FIELDS_IN_BLOCK))


@persona
class ManyFields(Flooder):
    """Sends a request head of 20,000 tiny fields, then waits for what is said to it.

    Every field costs a server ten times its bytes once it is an entry in a table; names that repeat are joined, which
    is quadratic where it is done naively. 431 should come when the limit is passed.
    """

    __slots__ = ()

    name = "many-fields"
    most_bytes = len(_MANY_FIELDS_BLOCK) * FIELDS // _FIELDS_IN_BLOCK

    def opening(self) -> bytes:
        """Begin a head."""
        return wire.request("GET", self.cohort.place.path, self.cohort.place.host)[:-2]

    def block(self) -> bytes:
        """Return more fields."""
        return _MANY_FIELDS_BLOCK


#: Past every sensible default for text: nginx 1 MiB, Kestrel 28.6 MiB. aiohttp 1 MiB, uvicorn and Apache none.
BODY_BYTES: Final = 1 << 30

#: Who takes this much is shown to take it, and 300 attackers with it are 2.4 GB through the server.
BIG_BODY_SENT_BYTES: Final = 8 * 1024 * 1024

_BIG_BODY_PLAIN: Final = b"x" * BLOCK_BYTES
_CHUNK: Final = b"%x\r\n%s\r\n" % (BLOCK_BYTES, _BIG_BODY_PLAIN)


@persona
class BigBody(Flooder):
    """Posts a body of a gigabyte, half of them with the length announced and half in chunks.

    With a length, 413 should come before the body; in chunks, when the limit is passed. It stops after 8 MiB and waits:
    a server that gathered those in memory shows it.
    """

    __slots__ = ()

    name = "big-body"
    most_bytes = BIG_BODY_SENT_BYTES

    def opening(self) -> bytes:
        """Send the head."""
        place = self.cohort.place
        framing = "Transfer-Encoding: chunked" if self._chunked else f"Content-Length: {BODY_BYTES}"
        return wire.request(
            "POST", place.post_path.format(room=self.room), place.host, "Content-Type: text/plain", framing
        )

    @property
    def _chunked(self) -> bool:
        return self.number % 2 == 1

    def block(self) -> bytes:
        """Return more of the body."""
        return _CHUNK if self._chunked else _BIG_BODY_PLAIN


_LENGTHS: Final = (
    ("Content-Length: 9223372036854775807", b"hello"),  # 2**63 - 1: the largest a signed 64 bit number may be
    ("Content-Length: 9223372036854775808", b"hello"),  # the first that is negative
    ("Content-Length: 18446744073709551621", b"hello"),  # 5, in a parser that keeps the lower 64 bits
    ("Content-Length: " + "9" * 500, b"hello"),
    ("Transfer-Encoding: chunked", b"7fffffffffffffff\r\nhello"),
    ("Transfer-Encoding: chunked", b"ffffffffffffffff\r\nhello"),  # -1
    ("Transfer-Encoding: chunked", b"10000000000000005\r\nhello"),  # 5 again
    ("Transfer-Encoding: chunked", b"f" * 500 + b"\r\nhello"),
)


@persona
class HugeLength(Attacker):
    """Announces a body, or a chunk, of 2^63 bytes and more, sends five of them and waits.

    Sums of such lengths overflow (CVE-2013-2028, chunks in nginx), no buffer of that size can be had, and a number that
    is cut to 64 bits is a smuggled request. 400 or 413 should come at once. The WebSocket's share is in big-frame.
    """

    __slots__ = ("_announced",)

    name = "huge-length"
    threat = Threat.GREEDY

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._announced = _LENGTHS[cohort.made % len(_LENGTHS)]

    def opening(self) -> bytes:
        """Send a head, and the beginning of a body."""
        place = self.cohort.place
        field, body = self._announced
        target = place.post_path.format(room=self.room)
        return wire.request("POST", target, place.host, "Content-Type: text/plain", field) + body


#: Past every default: ws 100 MiB, uvicorn 16 MiB, aiohttp 4 MiB, websockets 1 MiB, chatserver 16 KiB.
FRAME_BYTES: Final = 1 << 30
#: The largest length that a frame may have (RFC 6455 section 5.2).
LARGEST_FRAME_BYTES: Final = (1 << 63) - 1

#: Who takes this much is shown to take it.
BIG_FRAME_SENT_BYTES: Final = 8 * 1024 * 1024

_BIG_FRAME_PLAIN: Final = b"x" * BLOCK_BYTES
#: How the message begins, and how it goes on.
_MESSAGES: Final = (
    (frame(FIN | TEXT, announced=FRAME_BYTES), _BIG_FRAME_PLAIN),
    (frame(FIN | TEXT, announced=LARGEST_FRAME_BYTES), _BIG_FRAME_PLAIN),
    (frame(TEXT), frame(MORE, _BIG_FRAME_PLAIN)),
)


@persona
class BigFrame(FrameFlooder):
    """WebSocket that sends a message of a gigabyte, or of 2^63 bytes, or without end in fragments of 16 KiB.

    A frame should be refused (1009) by its header, before any of it is gathered; fragments when the limit is passed.
    It stops after 8 MiB and waits.
    """

    __slots__ = ()

    name = "big-frame"
    most_bytes = BIG_FRAME_SENT_BYTES

    def on_open(self, head: wire.Head) -> None:
        """Begin the message."""
        self.send(_MESSAGES[self.number % len(_MESSAGES)][0])
        super().on_open(head)

    def block(self) -> bytes:
        """Return more of the message."""
        return _MESSAGES[self.number % len(_MESSAGES)][1]
