"""Slow or silent over WebSocket: half a frame, half a message, no pong, no close, no reading."""

from typing import Final

from loadgen import wire
from loadgen.client import CLOSED, Needs, Stage
from loadgen.personas import persona
from loadgen.personas._shapes import Dripper
from loadgen.personas._websocket import Lingerer, join, publish
from loadgen.personas.slow_http import LOOK_EVERY_SECONDS, RECEIVE_BUFFER_BYTES, SEGMENT_BYTES
from loadgen.wire import FIN, MORE, PING, TEXT, frame

#: Within what every server takes for a message (websockets 1 MiB, ws 100 MiB, chatserver 16 KiB).
FRAME_BYTES: Final = 16 * 1024


class _FrameDripper(Lingerer, Dripper):
    """Begins something as soon as the WebSocket is open, and goes on piece by piece."""

    beginning = b""

    def on_open(self) -> None:
        self.drip()
        self.send(self.beginning)


@persona
class SlowFrame(_FrameDripper):
    """WebSocket that announces a frame of 16 KiB and sends it a byte a second.

    No pong can be sent within a frame, so servers that wait for one are rid of it after 20 to 40 s. hypercorn keeps it
    for ever, and so does aiohttp, whose heartbeat any byte puts off.
    """

    name = "slow-frame"
    beginning = frame(FIN | TEXT, announced=FRAME_BYTES)
    most_pieces = FRAME_BYTES

    def on_ping(self, payload: bytes) -> None:
        """Say nothing: it is in the middle of a frame."""


@persona
class SlowFragment(_FrameDripper):
    """WebSocket whose message never ends: a one-byte fragment a second, and a ping behind each.

    Control frames are allowed between fragments (RFC 6455 section 5.4), and a live peer that pings and pongs passes
    every keep-alive. Only a clock for the message itself ends it; most libraries have none.
    """

    name = "slow-fragment"
    beginning = frame(TEXT, b"x")
    piece = frame(MORE, b"x") + frame(FIN | PING, b"still here")


#: One of so many also speaks, so that there is something not to be read in a room that is silent otherwise.
LISTENERS_PER_SPEAKER: Final = 100
SPEAK_EVERY_SECONDS: Final = 2.0
_TEXT: Final = "x" * 1000


@persona
class SlowReadWs(Lingerer):
    """WebSocket that joins a room and never reads what is said there.

    The slow consumer of every broker. Some servers gather for it without bound (websockets.broadcast: 1.9 GB for 2,500
    of them), in some the broadcast waits (healthy members of aiohttp, uvicorn and hypercorn rooms got 28, 20 and 0%).
    """

    name = "slow-read-ws"
    needs = Needs.CHAT
    usual_clients = 2500
    receive_buffer_bytes = RECEIVE_BUFFER_BYTES
    segment_bytes = SEGMENT_BYTES

    @property
    def _speaks(self) -> bool:
        return self.number % LISTENERS_PER_SPEAKER == 0

    def on_open(self) -> None:
        self.send(join(0, self.room))
        self.stop_reading()
        self._wait()

    def _wait(self) -> None:
        self.wake_in(self.pace(SPEAK_EVERY_SECONDS if self._speaks else LOOK_EVERY_SECONDS))

    def on_time(self, moment: float) -> None:
        if self.is_forgotten():
            self.fail("closed with messages unread")
            return
        self._wait()
        if self._speaks:
            self.send(publish(self.room, 1, _TEXT))


@persona
class NoPong(Lingerer):
    """WebSocket that takes everything and answers no ping.

    Its kernel acknowledges each byte, so TCP sees nothing amiss: only a deadline for the pong tells it from a healthy
    one. hypercorn has none.
    """

    name = "no-pong"

    def on_ping(self, payload: bytes) -> None:
        """Say nothing."""


#: How often it looks whether the server still waits for it.
CLOSE_LOOK_SECONDS: Final = 0.25

#: As GENTLE_RETURN_SECONDS; servers need some seconds themselves to be rid of it.
RETURNS_SECONDS: Final = 5.0


@persona
class NoClose(Lingerer):
    """WebSocket that provokes a close frame by bad UTF-8 and answers neither that nor the FIN behind it.

    The closing handshake waits for the peer (RFC 6455 section 7.1.1), and so does a half-closed connection. An `aclose`
    without a deadline waits for ever; trio-websocket's may.
    """

    name = "no-close"
    returns_seconds = RETURNS_SECONDS

    def on_open(self) -> None:
        self.send(frame(FIN | TEXT, b"\xff"))

    def on_close(self, frame: wire.Frame) -> None:
        """Remember the code and stay: the end is when the connection ends."""
        self.answered = frame.close_code
        self.cohort.answers[f"close {self.answered}"] += 1

    def on_hangup(self, how: str) -> None:
        """Do not even close when the server has: half a connection is one to it."""
        if how == CLOSED and self.stage is Stage.HELD and self.is_forgotten() is False:
            self.stop_reading()
            self.wake_in(CLOSE_LOOK_SECONDS)
        else:
            self.fail(f"close {self.answered}, unanswered" if self.answered else how)

    def on_time(self, moment: float) -> None:
        self.on_hangup(CLOSED)
