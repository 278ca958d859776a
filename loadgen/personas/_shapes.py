"""The shapes that most attackers have: drip, flood, ask again and again, vanish. No persona itself.

Owns: when something is sent. A persona declares what: pieces, blocks, requests.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Final

from loadgen import wire
from loadgen.client import Attacker, Cohort, Needs, Threat

#: R.U.D.Y. waits 10 s between two bytes; faster is harder on servers that judge by progress.
BYTE_EVERY_SECONDS: Final = 1.0

#: For attackers that servers get rid of at once: 8,000 that came back as soon would be a flood, another attack.
GENTLE_RETURN_SECONDS: Final = 10.0

_NO_END: Final = 1 << 62


class Dripper(Attacker):
    """Sends a piece every so often."""

    __slots__ = ("_sent",)

    every_seconds: ClassVar[float] = BYTE_EVERY_SECONDS
    piece: ClassVar[bytes] = b"x"
    most_pieces: ClassVar[int] = _NO_END  # after so many it only waits

    _sent: int  # pieces

    def drop(self, number: int) -> bytes:
        """Return the `number`th piece of this connection, from 0 on; nothing ends it."""
        return self.piece if number < self.most_pieces else b""

    def on_connected(self) -> None:
        super().on_connected()
        self.drip()

    def drip(self) -> None:
        self._sent = 0
        self.wake_in(self.pace(self.every_seconds))

    def on_time(self, moment: float) -> None:
        """Send the next piece; an answer changes nothing, only the end of the connection does."""
        data = self.drop(self._sent)
        if not data:
            return
        self._sent += 1
        self.wake_in(self.pace(self.every_seconds))
        self.send(data)


class Welcome(Attacker):
    """Stays where it is served; only a refusal is what its end is booked under."""

    def on_data(self, data: bytes) -> None:
        super().on_data(data)
        if self.answered < 400:
            self.answered = 0


class Asker(Attacker):
    """Sends one valid request at a time on a connection that is kept, and the next after the whole answer.

    Limits on pipelining do not apply. The cost to the server is the work behind each answer, times the clients.
    """

    threat = Threat.GREEDY
    needs = Needs.CHAT

    def request(self) -> bytes:
        raise NotImplementedError

    def pause(self, status: int) -> float:
        """Return the seconds between an answer and the next request."""
        return 0.0

    def opening(self) -> bytes:
        return self.request()

    def on_data(self, data: bytes) -> None:
        self.unread += data
        answer = wire.read_response(self.unread)
        if answer is None:
            return
        self.unread = answer.rest
        self.cohort.answers[f"answered {answer.status}"] += 1
        seconds = self.pause(answer.status)
        if not answer.keeps_alive:
            self.answered = answer.status
        elif seconds:
            self.wake_in(self.pace(seconds))
        else:
            self.send(self.request())

    def on_time(self, moment: float) -> None:
        self.send(self.request())


#: What one read of most servers takes; 300 that are let at one block a tick are 1 GB/s, more than a loopback carries.
BLOCK_BYTES: Final = 16 * 1024

#: Two blocks on their way. Left to itself the kernel lets 4 MB wait in our own memory for a server that does not read:
#: 1.2 GB for 300 of them, near which all TCP of a machine runs short, the victims' too, by no fault of the server.
SEND_BUFFER_BYTES: Final = 32 * 1024


@lru_cache(maxsize=256)
def fill(unit: bytes) -> bytes:
    """As many whole copies of something small as a block takes, at least one; the same object for all clients."""
    return unit * (BLOCK_BYTES // len(unit)) or unit


class Flooder(Attacker):
    """Sends blocks for as long as it is let, up to `most_bytes` on a connection.

    A block goes out when the kernel has taken the one before, at most one each tick of the wheel, so that thousands of
    flooders leave the engine's clock alone and fill any pipe.
    """

    __slots__ = ("_block", "_left")

    threat = Threat.GREEDY
    send_buffer_bytes = SEND_BUFFER_BYTES
    blocks: ClassVar[Sequence[bytes]] = ()  # the clients take them in turn
    most_bytes: ClassVar[int] = _NO_END

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._left = 0
        self._block = b""

    def block(self) -> bytes:
        """Return what this client sends again and again; without `blocks`, as many of its openings as fit."""
        return self.blocks[self.number % len(self.blocks)] if self.blocks else fill(self.opening())

    def on_connected(self) -> None:
        super().on_connected()
        self.flood()

    def flood(self) -> None:
        self._left = self.most_bytes
        self._block = self.block()
        self.on_drained()

    def on_drained(self) -> None:
        """Send the next block, unless all is sent or the server has answered: an answered client waits for the end."""
        if self._left <= 0 or self.answered:
            return
        self._left -= len(self._block)
        if self.send(self._block):
            self.wake_in(0.0)

    def on_time(self, moment: float) -> None:
        self.on_drained()


#: Long enough for the server to have taken what was sent, and to have said what it says at once.
ALIVE_SECONDS: Final = 1.0

#: How often the kernel is asked, so the precision of the kill times. 11 us each.
LOOK_EVERY_SECONDS: Final = 2.0

#: Rare, for each knock is a sign of life: longer than a ping and its pong take on most servers (20 + 20 s).
KNOCK_EVERY_SECONDS: Final = 60.0

#: After a knock, for the RST to arrive.
ECHO_SECONDS: Final = 1.0


class Vanishing(Attacker):
    """Vanishes a second after `vanish_soon`: no FIN, no RST, no acknowledgement; and finds out when it was forgotten.

    The kernel is asked whether the server has found out, since that is no sign of life. Where the kernel cannot know,
    the client comes back every minute and knocks: a server that has forgotten it answers with RST.
    """

    knock: ClassVar[bytes] = b"\r\n"  # servers should ignore it before a request (RFC 9112 section 2.2)

    def on_connected(self) -> None:
        super().on_connected()
        self.vanish_soon()

    def vanish_soon(self) -> None:
        self.wake_in(self.pace(ALIVE_SECONDS))

    def on_time(self, moment: float) -> None:
        forgotten = self.is_forgotten()
        if forgotten:
            self.fail("closed while it was dark")
        elif not self.is_dark:
            self.go_dark()
            self.wake_in(self.pace(KNOCK_EVERY_SECONDS if forgotten is None else LOOK_EVERY_SECONDS))
        elif forgotten is None:
            self.come_back()
            self.wake_in(ECHO_SECONDS)
            self.send(self.knock)
        else:
            self.wake_in(self.pace(LOOK_EVERY_SECONDS))
