"""Too large: heads, fields, bodies, chunks and frames past every default limit."""

from typing import Final

from loadgen.clients.client import Attacker, Threat
from loadgen.net.wire import FIN, MORE, TEXT, frame
from loadgen.personas import persona
from loadgen.personas._requests import getting, open_head, post_head
from loadgen.personas._shapes import BLOCK_BYTES, Flooder
from loadgen.personas._websocket import FrameFlooder

_PLAIN: Final = b"x" * BLOCK_BYTES


@persona
class BigHead(Flooder):
    """Sends a request head of 256 KiB in one field, then waits for the answer.

    431 (or 400, 414) should come as soon as the limit is passed, not after the whole head is buffered or at a deadline.
    A server that answers and closes at once loses the answer if the rest is still unread.
    """

    opening = getting("X-Big: ", lacks=4)
    blocks = (_PLAIN,)
    # past every default: nginx and Kestrel 32 KiB in all, h11, Node and IIS 16, Apache and tomcat 8 KiB a line
    most_bytes = 256 * 1024


#: They have 7 bytes each, so that many fit below a limit on the head's size; in a table of fields each costs 100 bytes.
_FIELDS: Final = b"".join(b"%x: %x\r\n" % (number % 256, number % 16) for number in range(2000))


@persona
class ManyFields(Flooder):
    """Sends a request head of 20,000 tiny fields, then waits for the answer.

    A field in a table costs a server ten times its bytes, and naive joining of repeated names is quadratic. 431 should
    come when the limit is passed.
    """

    opening = open_head
    blocks = (_FIELDS,)
    most_bytes = 10 * len(_FIELDS)  # past every default: Apache, Kestrel and Tomcat 100 fields, Node 2,000


#: Enough to show that a server takes it; from 300 attackers it is 2.4 GB.
SENT_BYTES: Final = 8 * 1024 * 1024


@persona
class BigBody(Flooder):
    """Posts a body of a gigabyte, half of them with the length announced and half in chunks.

    With a length, 413 should come before the body; in chunks, when the limit is passed. The client stops after 8 MiB
    and waits, so a server that has buffered them shows it in its memory.
    """

    blocks = (_PLAIN, b"%x\r\n%s\r\n" % (BLOCK_BYTES, _PLAIN))
    most_bytes = SENT_BYTES

    def opening(self) -> bytes:
        # past every sensible default for text: nginx and aiohttp 1 MiB, Kestrel 28.6; uvicorn and Apache have none
        framing = "Transfer-Encoding: chunked" if self.number % 2 else f"Content-Length: {1 << 30}"
        return post_head(self.cohort.place, self.room, framing)


LENGTHS: Final = (
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
    """Announces a body, or a chunk, of 2^63 bytes or more, sends five bytes of it and waits.

    Sums of such lengths overflow (CVE-2013-2028, chunks in nginx), and a number truncated to 64 bits smuggles a
    request. 400 or 413 should come at once.
    """

    threat = Threat.GREEDY

    def opening(self) -> bytes:
        field, body = LENGTHS[self.number % len(LENGTHS)]
        return post_head(self.cohort.place, self.room, field) + body


@persona
class BigFrame(FrameFlooder):
    """WebSocket that sends a message of a gigabyte, or of 2^63 bytes, or without end in fragments of 16 KiB.

    A frame should be refused (1009) by its header, before any of it is buffered; fragments when the limit is passed.
    The client stops after 8 MiB and waits.
    """

    starts = (
        frame(FIN | TEXT, announced=1 << 30),  # past every default: ws 100 MiB, uvicorn 16, aiohttp 4, websockets 1
        frame(FIN | TEXT, announced=(1 << 63) - 1),  # the largest that a frame may have (RFC 6455 section 5.2)
        frame(TEXT),
    )
    blocks = (_PLAIN, _PLAIN, frame(MORE, _PLAIN))
    most_bytes = SENT_BYTES
