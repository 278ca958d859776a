"""Slow or silent over WebSocket: half a handshake, half a frame, no pong, no close, no reading."""

from typing import Final

from loadgen import wire
from loadgen.client import CLOSED, Cohort, Needs, Stage
from loadgen.frames import FIN, MORE, PING, TEXT, frame
from loadgen.personas import persona
from loadgen.personas._drip import Dripper
from loadgen.personas._flood import Intruder
from loadgen.personas._lingering import Lingerer
from loadgen.personas._websocket import join, publish
from loadgen.personas.slow_http import LOOK_EVERY_SECONDS, RECEIVE_BUFFER_BYTES, SEGMENT_BYTES, DripHead


@persona
class SlowHandshake(DripHead):
    """Sends the WebSocket upgrade a byte a second, and never ends it.

    A WebSocket library that reads the handshake itself needs its own clock for it, and holds a task with its buffers
    meanwhile: 8,000 of them took trio-websocket's healthy clients from 0.6 to 430 ms at the 99th percentile.
    """

    __slots__ = ()

    name = "slow-handshake"
    needs = Needs.WEBSOCKET

    def head(self) -> bytes:
        """Return the upgrade."""
        return wire.upgrade_request(self.cohort.place.websocket_path, self.cohort.place.host)


#: Within what every server takes for a message (websockets 1 MiB, ws 100 MiB, chatserver 16 KiB).
FRAME_BYTES: Final = 16 * 1024


@persona
class SlowFrame(Lingerer, Dripper):
    """WebSocket that announces a frame of 16 KiB and sends it a byte a second.

    No pong can be sent within a frame, so servers that wait for one are rid of it after 20 to 40 s. hypercorn keeps it
    for ever, and so does aiohttp, whose heartbeat any byte puts off.
    """

    __slots__ = ()

    name = "slow-frame"

    def on_open(self, head: wire.Head) -> None:
        """Send the frame's head."""
        self.drip()
        self.send(frame(FIN | TEXT, announced=FRAME_BYTES))

    def drop(self, number: int) -> bytes:
        """Return a byte of it; after 4 hours, nothing."""
        return b"x" if number < FRAME_BYTES else b""

    def on_ping(self, payload: bytes) -> None:
        """Say nothing: it is in the middle of a frame."""


_NEXT = frame(MORE, b"x") + frame(FIN | PING, b"still here")


@persona
class SlowFragment(Lingerer, Dripper):
    """WebSocket whose message never ends: a one-byte fragment a second, and a ping behind each.

    Control frames are allowed between fragments (RFC 6455 section 5.4), and a live peer that pings and pongs passes
    every keep-alive. Only a clock for the message itself ends it; most libraries have none.
    """

    __slots__ = ()

    name = "slow-fragment"

    def on_open(self, head: wire.Head) -> None:
        """Begin the message."""
        self.drip()
        self.send(frame(TEXT, b"x"))

    def drop(self, number: int) -> bytes:
        """Return a fragment and a ping."""
        return _NEXT


#: One of so many also speaks, so that there is something not to be read in a room where nobody else does.
LISTENERS_PER_SPEAKER: Final = 100
SPEAK_EVERY_SECONDS: Final = 2.0
_TEXT: Final = "x" * 1000


@persona
class SlowReadWs(Intruder):
    """WebSocket that joins a room and never reads what is said there.

    The slow consumer of every broker. Some servers gather for it without bound (websockets.broadcast: 1.9 GB for 2,500
    of them), in some the broadcast waits (healthy members of aiohttp, uvicorn and hypercorn rooms got 28, 20 and 0%).
    """

    __slots__ = ("_speaks",)

    name = "slow-read-ws"
    needs = Needs.CHAT
    usual_clients = 2500
    receive_buffer_bytes = RECEIVE_BUFFER_BYTES
    segment_bytes = SEGMENT_BYTES

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._speaks = cohort.made % LISTENERS_PER_SPEAKER == 1

    def on_open(self, head: wire.Head) -> None:
        """Join, and turn a deaf ear."""
        self.send(join(0, self.room))
        self.stop_reading()
        self.wake_in(self.pace(SPEAK_EVERY_SECONDS if self._speaks else LOOK_EVERY_SECONDS))

    def on_time(self, moment: float) -> None:
        """Speak if it is one who does, unless all is over."""
        if self.is_forgotten():
            self.fail("closed with messages unread")
            return
        self.wake_in(self.pace(SPEAK_EVERY_SECONDS if self._speaks else LOOK_EVERY_SECONDS))
        if self._speaks:
            self.send(publish(self.room, 1, _TEXT))


@persona
class NoPong(Lingerer):
    """WebSocket that takes everything and answers no ping.

    Its kernel acknowledges each byte, so TCP sees nothing amiss: only a deadline for the pong tells it from a healthy
    one. hypercorn has none.
    """

    __slots__ = ()

    name = "no-pong"

    def on_open(self, head: wire.Head) -> None:
        """Say nothing."""

    def on_ping(self, payload: bytes) -> None:
        """Say nothing."""


#: How often it looks whether the server still waits for it.
CLOSE_LOOK_SECONDS: Final = 0.25

#: Servers are rid of it within seconds: 8,000 who came back at once would be a flood, which is another attack.
RETURNS_SECONDS: Final = 5.0


@persona
class NoClose(Lingerer):
    """WebSocket that provokes a close frame by bad UTF-8 and answers neither that nor the FIN behind it.

    The closing handshake waits for the peer (RFC 6455 section 7.1.1), and so does a half-closed connection. An `aclose`
    without a deadline waits for ever; trio-websocket's may.
    """

    __slots__ = ()

    name = "no-close"
    returns_seconds = RETURNS_SECONDS

    def on_open(self, head: wire.Head) -> None:
        """Be wrong on purpose."""
        self.send(frame(FIN | TEXT, b"\xff"))

    def on_close(self, code: int) -> None:
        """Remember the code and stay: the end is when the connection ends."""
        self.answered = code
        self.cohort.answers[f"close {code}"] += 1

    def on_hangup(self, how: str) -> None:
        """Do not even close when the server has: half a connection is one to it."""
        if how == CLOSED and self.stage is Stage.HELD and self.is_forgotten() is False:
            self.stop_reading()
            self.wake_in(CLOSE_LOOK_SECONDS)
        else:
            self._go(how)

    def on_time(self, moment: float) -> None:
        """Look whether that was enough."""
        if self.is_forgotten() is False:
            self.wake_in(CLOSE_LOOK_SECONDS)
        else:
            self._go(CLOSED)

    def _go(self, how: str) -> None:
        """Book the end under the code, if one came."""
        self.fail(f"close {self.answered}, unanswered" if self.answered else how)
