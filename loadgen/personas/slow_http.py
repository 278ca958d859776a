"""Slow or silent over HTTP: connections that take capacity and send next to nothing."""

from functools import lru_cache
from typing import Final

from loadgen.clients.client import Attacker, Needs, state
from loadgen.net import wire
from loadgen.net.answers import ALL_WRITTEN
from loadgen.personas import persona
from loadgen.personas._requests import nothing, open_head, page, posting, upgrade
from loadgen.personas._shapes import LOOK_EVERY_SECONDS, Dripper


@persona
class IdleConnect(Attacker):
    """Connects and never sends a byte.

    A server without a deadline for the first byte holds it for ever: uvicorn, and Go's net/http by default.
    """

    silent = True
    opening = nothing


@persona
class SlowHead(Dripper):
    """Sends one request header line every few seconds, for ever (slowloris).

    Each held one of Apache 2.2's processes. It still works on servers that restart their timer at each line, or have
    none: uvicorn, and Go's net/http without ReadHeaderTimeout.
    """

    every_seconds = 3.0  # the original: 15; faster is harder on servers that judge by progress
    opening = open_head

    def drop(self, number: int) -> bytes:
        return b"X-Line-%d: %d\r\n" % (number, number)


@lru_cache(maxsize=4)
def _endless(head: bytes) -> bytes:
    return head[:-2] + b"X-Padding: "


@persona
class DripHead(Dripper):
    """Sends a request head a byte a second; its last field never ends.

    Each byte costs the server a wake-up, and if its parser starts again from the first byte each time, the total cost
    is quadratic in the head's size.
    """

    head = page

    def opening(self) -> bytes:
        return self.head()[:1]

    def drop(self, number: int) -> bytes:
        """Return one byte: of the head, then of its endless last field."""
        return _endless(self.head())[number + 1 : number + 2] or b"a"


@persona
class SlowHandshake(DripHead):
    """Sends the WebSocket upgrade a byte a second, and never ends it.

    A WebSocket library that reads the handshake itself needs its own deadline for it, and holds a task with its buffers
    meanwhile: 8,000 of these took trio-websocket's healthy clients from 0.6 to 430 ms at the 99th percentile.
    """

    needs = Needs.WEBSOCKET
    head = upgrade


#: Below the limit of most servers (64 KiB), so that none refuses the length itself; half a day at a byte a second.
BODY_BYTES: Final = 60_000


@persona
class SlowBody(Dripper):
    """Announces a body of 60,000 bytes and sends one byte a second (R.U.D.Y.).

    Of the HTTP servers that we measured, no other stopped a body that came at a byte every five seconds: they time the
    gap between two bytes, or nothing.
    """

    opening = posting(f"Content-Length: {BODY_BYTES}")


#: Sent each second, with one byte of body. It satisfies the minimum rates in use (Apache 500 B/s, Kestrel 240 B/s), and
#: is below llhttp's limit of 16 KiB for extensions.
EXTENSION_BYTES: Final = 1000


@persona
class SlowChunk(Dripper):
    """Posts a body in one-byte chunks, one a second, each with a kilobyte of chunk extension.

    Go (CVE-2023-39326), hyper, picohttpparser and waitress each had to limit chunk overhead: a size limit on the body
    counts only the one byte, and a minimum rate on the wire is satisfied by the thousand.
    """

    opening = posting("Transfer-Encoding: chunked")
    piece = b"1;e=%s\r\nx\r\n" % (b"e" * EXTENSION_BYTES)


@persona
class ExpectContinue(Attacker):
    """Asks whether it may send a body (`Expect: 100-continue`) and never sends it.

    A server waits for ever if it starts the body's deadline at its first byte, or hands the request to the application
    before the body has come (RFC 9110 section 10.1.1 lets the client wait as long as it likes).
    """

    opening = posting(f"Content-Length: {BODY_BYTES}", "Expect: 100-continue")


#: Requests in one write. The answers must exceed the server's send buffer and our window together, and one page is
#: small; slowhttptest repeats requests too (its `-k`). Apache allows 100 on a connection, nginx 1,000.
REQUESTS: Final = 100

#: The smallest buffer that Linux grants (it makes it 2,304 bytes, bookkeeping included).
RECEIVE_BUFFER_BYTES: Final = 1024

#: Ethernet's. The loopback's 64 KiB would let one segment past the smallest window.
SEGMENT_BYTES: Final = 1460

#: How much half of the clients read at a time, and how often. The window reopens twice a minute, which is enough to
#: restart timers that each byte read restarts (nginx 60 s, Apache 60 s), and a quarter of Kestrel's minimum (240 B/s).
SIP_BYTES: Final = 256
SIP_EVERY_SECONDS: Final = 4.0

#: Reads in which the first answer's length is looked for: 32 KiB, because TLS has its head in a record of up to 16.
FIRST_READS: Final = 128


@persona
class SlowRead(Attacker):
    """Asks for a hundred pages through a tiny window; half of the clients read a little at times, half never.

    nginx and Apache restart their clock with each byte read, and are held for hours; others buffer the answers in
    memory until they are read, or wait in a `drain` without a deadline.
    """

    _first: wire.Response | None = state(None)  # the first answer, until the length of all is known or given up
    _first_reads = state(0)  # that it may still take
    _first_bytes = state(0)  # that have come
    _asked_bytes = state(0)  # length of all answers; 0 while it is unknown, and once they are all written

    usual_clients = 2500  # each holds up to a few hundred KB of kernel memory, and a machine has a few GB of that
    receive_buffer_bytes = RECEIVE_BUFFER_BYTES
    segment_bytes = SEGMENT_BYTES
    read_bytes = SIP_BYTES

    @property
    def _sips(self) -> bool:
        return self.number % 2 == 1

    def opening(self) -> bytes:
        self._first, self._first_reads, self._first_bytes, self._asked_bytes = wire.Response(), FIRST_READS, 0, 0
        return page(self) * REQUESTS

    def on_data(self, data: bytes) -> None:
        """Stop reading once the length of all is known; but read a refusal to its end, to learn how that ends."""
        if self._first is not None:
            self._read_first(self._first, data)
        if self.answered < 400 and self._first is None:
            self.stop_reading()
            self.wake_in(self.pace(SIP_EVERY_SECONDS if self._sips else LOOK_EVERY_SECONDS))

    def _read_first(self, first: wire.Response, data: bytes) -> None:
        """Take the length of all answers from the first one's head, or from the whole of it if that has none."""
        self._first_reads -= 1
        self._first_bytes += len(data)
        self.unread = first.feed(self.unread + data)
        if (head := first.head) and not self.answered:
            self.answered = head.status
            self.cohort.answers[f"answered {head.status}"] += 1
        length = wire.whole_number(head.fields.get("content-length", "")) if head else None
        if head and length is not None:
            self._asked_bytes = REQUESTS * (head.size + length)
        elif first.is_whole:
            self._asked_bytes = REQUESTS * (self._first_bytes - len(self.unread))
        elif self._first_reads:
            return
        self._first, self.unread = None, b""

    def _note_written(self, *, closed: bool) -> None:
        """Book it if the server has written all answers: the server then never waited for this client."""
        written = self.written()
        if written is None or not self.answered:
            return
        came, waiting = written
        if (closed and not waiting) or came + waiting >= self._asked_bytes > 0:
            self.cohort.answers[ALL_WRITTEN] += 1
            self._asked_bytes = 0

    def on_time(self, moment: float) -> None:
        forgotten = self.is_forgotten()
        self._note_written(closed=forgotten is True)
        if forgotten:
            self.fail("closed with its answers unread")
        elif self._sips:
            self.resume_reading()
        else:
            self.wake_in(self.pace(LOOK_EVERY_SECONDS))

    def on_hangup(self, how: str) -> None:
        """Book a refusal under its status; the status of an ordinary page says nothing about the end."""
        if self.answered >= 400:
            self.reject(self.answered)
        else:
            self.fail(how)
