"""Peers that disappear or seem to: no FIN and no RST, a half-closed connection, or a reset in the middle."""

from typing import Final

from loadgen.clients.client import Attacker, Needs, Threat
from loadgen.net.wire import FIN, PONG, frame
from loadgen.personas import persona
from loadgen.personas._requests import event_stream, held_poll, post
from loadgen.personas._shapes import GENTLE_RETURN_SECONDS, Vanishing
from loadgen.personas._websocket import Lingerer, join


@persona
class Vanish(Lingerer, Vanishing):
    """WebSocket that joins a room and then vanishes without FIN or RST.

    A server that relies on TCP keeps it for some 15 minutes after its next write, and for ever if it never writes. A
    ping with a deadline finds it.
    """

    knock = frame(FIN | PONG)

    def on_open(self) -> None:
        """Join (to another kind of server this is a text message), and stay for a moment."""
        self.vanish_soon()
        self.send(join(0, self.room))


@persona
class VanishStream(Vanishing):
    """Event stream that vanishes without FIN or RST.

    Server-sent events have no pong, so only missing TCP acknowledgements show it.
    """

    unnoticed_seconds = 90.0  # a write every 15 to 30 s; a minute for its acknowledgement is fair to a phone
    needs = Needs.CHAT
    opening = event_stream


@persona
class PollAbandon(Vanishing):
    """Opens a long-poll and vanishes without FIN while it is held.

    The server sees nothing until it writes, and then only that acknowledgements are missing. If a held poll is a task
    or a thread that writes without a deadline, it waits for as long as TCP retransmits: 15 min.
    """

    needs = Needs.CHAT
    opening = held_poll


@persona
class PollHalfclose(Attacker):
    """Opens a long-poll and sends FIN behind it, but still reads the answer.

    This is legal (RFC 9112 section 9.6), and `nc -N` and some proxies do it. A server that takes the FIN for a
    disconnect leaves the client waiting; a server that ignores it keeps the polls of clients that are gone.
    """

    needs = Needs.CHAT
    returns_seconds = GENTLE_RETURN_SECONDS  # a correct server answers at once
    opening = held_poll

    def on_connected(self) -> None:
        super().on_connected()
        self.finish_sending()


#: Just below chatserver's limit of 8 KiB, so that few messages make the room busy.
TEXT_BYTES: Final = 8000

#: Between a reset and the next connection; 300 publishers send 600 messages a second, more than most rooms take.
RETURN_SECONDS: Final = 0.5


@persona
class PublishReset(Lingerer):
    """Posts 8 KB messages into a busy room, reads the 201 and resets at once; half of them are the room's members.

    A server that pauses publishers while a room is congested keeps a list of them, and may resume a connection that was
    closed meanwhile.
    """

    threat = Threat.GREEDY
    needs = Needs.CHAT
    usual_clients = 600

    room = "publish-reset"  # of its own: messages of 8 KB would overload the victims' room

    @property
    def _publishes(self) -> bool:
        return self.number % 2 == 1

    def opening(self) -> bytes:
        if not self._publishes:
            return super().opening()
        # Servers that identify guests by address and agent give each client its own rate limit.
        return post(self.cohort.place, self.room, b"x" * TEXT_BYTES, f"User-Agent: publisher-{self.index}")

    def on_connected(self) -> None:
        """Count a publisher as held at once; a member is held when the WebSocket is open."""
        if self._publishes:
            self.hold()

    def on_open(self) -> None:
        self.send(join(0, self.room))

    def hear(self, data: bytes) -> None:
        if not self._publishes:
            super().hear(data)
            return
        answer = self.read_response(data)
        if answer is not None:
            self.cohort.answers[f"answered {answer.status}"] += 1
            self.abort(return_in=self.pace(RETURN_SECONDS))
