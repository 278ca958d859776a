"""Slow or silent over HTTP: connections that take a place and hardly do anything."""

from functools import lru_cache
from typing import Final

from loadgen.client import Attacker, Needs
from loadgen.personas import persona
from loadgen.personas._requests import nothing, open_head, page, posting, upgrade
from loadgen.personas._shapes import GENTLE_RETURN_SECONDS, LOOK_EVERY_SECONDS, Dripper
from loadgen.tls import client_hello


@persona
class IdleConnect(Attacker):
    """Connects and never sends a byte.

    A server without a deadline for the first byte holds it for ever: uvicorn, and Go's net/http as it comes.
    """

    name = "idle-connect"
    silent = True
    opening = nothing


#: The original sends a line every 15 s; faster is harder on servers that judge by progress.
LINE_EVERY_SECONDS: Final = 3.0


@persona
class SlowHead(Dripper):
    """Sends one request header line every few seconds, for ever (slowloris).

    Each held one of Apache 2.2's processes. It still holds servers that restart their timer at each line, or have none:
    uvicorn, and Go's net/http without ReadHeaderTimeout.
    """

    name = "slow-head"
    every_seconds = LINE_EVERY_SECONDS
    opening = open_head

    def drop(self, number: int) -> bytes:
        return b"X-Line-%d: %d\r\n" % (number, number)


@lru_cache(maxsize=4)
def _endless(head: bytes) -> bytes:
    """The head with a field that never ends."""
    return head[:-2] + b"X-Padding: "


@persona
class DripHead(Dripper):
    """Sends a request head a byte a second; its last field never ends.

    A parser that starts again from the first byte with each that comes pays with the square of the head's size, and
    each byte costs the server a wake-up.
    """

    name = "drip-head"
    head = page

    def opening(self) -> bytes:
        return self.head()[:1]

    def drop(self, number: int) -> bytes:
        """Return one byte: of the head, then of a field that would be its last."""
        return _endless(self.head())[number + 1 : number + 2] or b"a"


@persona
class SlowHandshake(DripHead):
    """Sends the WebSocket upgrade a byte a second, and never ends it.

    A WebSocket library that reads the handshake itself needs its own clock for it, and holds a task with its buffers
    meanwhile: 8,000 of them took trio-websocket's healthy clients from 0.6 to 430 ms at the 99th percentile.
    """

    name = "slow-handshake"
    needs = Needs.WEBSOCKET
    head = upgrade


#: Below the 64 KiB that most servers take, so that the length itself is no reason to refuse.
BODY_BYTES: Final = 60_000


@persona
class SlowBody(Dripper):
    """Announces a body of 60,000 bytes and sends one byte a second (R.U.D.Y.).

    No HTTP server that we measured beside ours stopped a body of which a byte came every five seconds: they time the
    silence between two bytes, or nothing.
    """

    name = "slow-body"
    opening = posting(f"Content-Length: {BODY_BYTES}")
    most_pieces = BODY_BYTES


#: Each second. More than the byte rates that are asked for where one is (Apache 500 B/s, Kestrel 240 B/s), while the
#: body itself grows by a byte; below the 16 KiB for extensions at which llhttp stops.
EXTENSION_BYTES: Final = 1000


@persona
class SlowChunk(Dripper):
    """Posts a body in one-byte chunks, one a second, each with a kilobyte of chunk extension.

    Go (CVE-2023-39326), hyper, picohttpparser and waitress each had to bound what a chunk may carry beside its data: a
    size limit on the body counts the one byte only, and a rate limit on the wire is content with the thousand.
    """

    name = "slow-chunk"
    opening = posting("Transfer-Encoding: chunked")
    piece = b"1;e=%s\r\nx\r\n" % (b"e" * EXTENSION_BYTES)


@persona
class ExpectContinue(Attacker):
    """Asks whether it may send a body (`Expect: 100-continue`) and, told to go on, never does.

    A server whose clock for the body starts with its first byte, or that hands the request to the application before,
    waits for ever (RFC 9110 section 10.1.1 lets the client wait as long as it likes).
    """

    name = "expect-continue"
    opening = posting(f"Content-Length: {BODY_BYTES}", "Expect: 100-continue")


#: Requests in one write. An answer must be larger than the server's send buffer and our window together, and pages
#: are small: slowhttptest multiplies them the same way (its `-k`). Apache allows 100 on a connection, nginx 1,000.
REQUESTS: Final = 100

#: The least that Linux gives (2,304 bytes, bookkeeping included).
RECEIVE_BUFFER_BYTES: Final = 1024

#: Ethernet's. The loopback's 64 KiB would let one segment past the smallest window.
SEGMENT_BYTES: Final = 1460

#: What half of them read at a time, and how often: a window opens anew twice a minute, often enough for every timer
#: that starts again with each byte taken (nginx 60 s, Apache 60 s), and a quarter of what Kestrel asks for (240 B/s).
SIP_BYTES: Final = 256
SIP_EVERY_SECONDS: Final = 4.0


@persona
class SlowRead(Attacker):
    """Asks for a hundred pages through a tiny window; half of them read a little now and then, the others never.

    nginx and Apache start their clock anew with each byte taken, and are held for hours; others gather the answers in
    memory until they are taken, or wait in a `drain` without a deadline.
    """

    name = "slow-read"
    usual_clients = 2500  # each holds up to some hundred KB of kernel memory, of which a machine has a few GB
    receive_buffer_bytes = RECEIVE_BUFFER_BYTES
    segment_bytes = SEGMENT_BYTES
    read_bytes = SIP_BYTES

    @property
    def _sips(self) -> bool:
        return self.number % 2 == 1

    def opening(self) -> bytes:
        return page(self) * REQUESTS

    def on_data(self, data: bytes) -> None:
        """Take one sip; but read on what is no page, to learn how it ends."""
        super().on_data(data)
        if self.answered < 400:
            self.stop_reading()
            self.wake_in(self.pace(SIP_EVERY_SECONDS if self._sips else LOOK_EVERY_SECONDS))

    def on_time(self, moment: float) -> None:
        if self.is_forgotten():
            self.fail("closed with its answers unread")
        elif self._sips:
            self.resume_reading()
        else:
            self.wake_in(self.pace(LOOK_EVERY_SECONDS))

    def on_hangup(self, how: str) -> None:
        """Book a refusal under its status; that it was given pages says nothing about the end."""
        if self.answered >= 400:
            self.reject(self.answered)
        else:
            self.fail(how)


@persona
class SlowTls(Dripper):
    """Sends a TLS ClientHello, a byte a second or every other client all of it at once, then nothing.

    The handshake comes before everything that HTTP servers time, and asyncio gives it 60 s, Node 120 s. On a plain port
    it is a head that is no HTTP from its first byte on. (A client that ends the handshake and then says nothing is
    idle-connect.) A server has its work with a whole one, and keeps what it has worked out.
    """

    name = "slow-tls"
    below_tls = True
    returns_seconds = GENTLE_RETURN_SECONDS  # a plain port refuses its first byte

    def opening(self) -> bytes:
        return client_hello() if self.number % 2 else client_hello()[:1]

    def drop(self, number: int) -> bytes:
        return b"" if self.number % 2 else client_hello()[number + 1 : number + 2]
