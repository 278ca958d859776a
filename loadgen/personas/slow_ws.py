"""Slow or silent over WebSocket: half a frame, half a message, no pong, no close, no reading."""

from typing import Final

from loadgen.clients.client import Needs, Stage
from loadgen.net import wire
from loadgen.net.answers import CLOSED
from loadgen.net.wire import FIN, MORE, PING, TEXT, frame
from loadgen.personas import persona
from loadgen.personas._shapes import LOOK_EVERY_SECONDS, Dripper
from loadgen.personas._websocket import Lingerer, join, publish
from loadgen.personas.slow_http import RECEIVE_BUFFER_BYTES, SEGMENT_BYTES

#: Within every server's limit on messages (websockets 1 MiB, ws 100 MiB, chatserver 16 KiB), and hours of bytes.
FRAME_BYTES: Final = 16 * 1024


class _FrameDripper(Lingerer, Dripper):
    """Sends `beginning` as soon as the WebSocket is open, and then drips pieces."""

    beginning = b""

    def on_open(self) -> None:
        self.drip()
        self.send(self.beginning)


@persona
class SlowFrame(_FrameDripper):
    """WebSocket that announces a frame of 16 KiB and sends it a byte a second.

    No pong can be sent within a frame, so servers with a pong deadline end it after 20 to 40 s. hypercorn keeps it for
    ever, and so does aiohttp, whose heartbeat any byte postpones.
    """

    beginning = frame(FIN | TEXT, announced=FRAME_BYTES)

    def on_ping(self, payload: bytes) -> None:
        """Send nothing: it is in the middle of a frame."""


@persona
class SlowFragment(_FrameDripper):
    """WebSocket whose message never ends: a one-byte fragment a second, and a ping after each.

    Control frames are allowed between fragments (RFC 6455 section 5.4), and a peer that pings and pongs passes every
    keep-alive. Only a deadline for the message itself ends it; most libraries have none.
    """

    beginning = frame(TEXT, b"x")
    piece = frame(MORE, b"x") + frame(FIN | PING, b"still here")


#: Clients that also speak, so that a small crowd leaves as much unread as a large one: 12 KB/s, more than the kernels'
#: buffers hold after some seconds.
SPEAKERS: Final = 25
SPEAK_EVERY_SECONDS: Final = 2.0


@persona
class SlowReadWs(Lingerer):
    """WebSocket that joins a room and never reads its messages.

    The slow consumer of every broker. Some servers buffer for it without bound (websockets.broadcast: 1.9 GB for 2,500
    of them), in others the broadcast waits (healthy members of aiohttp, uvicorn and hypercorn rooms got 28, 20 and 0%
    of their messages).
    """

    needs = Needs.CHAT
    usual_clients = 2500
    receive_buffer_bytes = RECEIVE_BUFFER_BYTES
    segment_bytes = SEGMENT_BYTES

    @property
    def _speaks(self) -> bool:
        return self.number < SPEAKERS

    def on_open(self) -> None:
        self._wait()
        self.send(join(0, self.room))
        self.stop_reading()

    def _wait(self) -> None:
        self.wake_in(self.pace(SPEAK_EVERY_SECONDS if self._speaks else LOOK_EVERY_SECONDS))

    def on_time(self, moment: float) -> None:
        if self.is_forgotten():
            self.fail("closed with messages unread")
            return
        self._wait()
        if self._speaks:
            self.send(publish(self.room, 1, "x" * 1000))


@persona
class NoPong(Lingerer):
    """WebSocket that reads everything and answers no ping.

    Its kernel acknowledges each byte, so TCP sees nothing wrong: only a pong deadline distinguishes it.
    hypercorn has none.
    """

    def on_ping(self, payload: bytes) -> None:
        """Send nothing."""


#: How often it checks whether the server still waits for it.
CLOSE_LOOK_SECONDS: Final = 0.25


@persona
class NoClose(Lingerer):
    """WebSocket that provokes a close frame with bad UTF-8 and answers neither that nor the FIN after it.

    The closing handshake waits for the peer (RFC 6455 section 7.1.1), and so does a half-closed connection. An `aclose`
    without a deadline waits for ever; trio-websocket's may.
    """

    returns_seconds = 5.0  # GENTLE_RETURN_SECONDS are not needed: servers take some seconds to end it

    def on_open(self) -> None:
        self.send(frame(FIN | TEXT, b"\xff"))

    def on_close(self, frame: wire.Frame) -> None:
        """Record the code and stay until the connection itself ends."""
        self.answered = frame.close_code
        self.cohort.answers[f"close {self.answered}"] += 1

    def on_hangup(self, how: str) -> None:
        """Stay when the server has sent FIN: a half-closed connection still takes its resources."""
        if how == CLOSED and self.stage is Stage.HELD and self.is_forgotten() is False:
            self.stop_reading()
            self.wake_in(CLOSE_LOOK_SECONDS)
        else:
            self.fail(f"close {self.answered}, unanswered" if self.answered else how)

    def on_time(self, moment: float) -> None:
        self.on_hangup(CLOSED)
