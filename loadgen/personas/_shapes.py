"""The behaviours that most attackers share: drip, flood, ask again and again, vanish.

Owns: when something is sent. A persona declares what is sent: pieces, blocks, requests.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Final

from loadgen.clients.client import ATTACKER_RETURNS_SECONDS, Attacker, Needs, Threat, state

#: R.U.D.Y. waits 10 s between two bytes; faster is harder on servers that judge by progress.
BYTE_EVERY_SECONDS: Final = 1.0

#: For attackers that servers disconnect at once: if 8,000 reconnected as fast, that would be a flood, a different
#: attack.
GENTLE_RETURN_SECONDS: Final = 10.0

_NO_END: Final = 1 << 62


class Dripper(Attacker):
    """Sends a piece at a fixed interval."""

    every_seconds: ClassVar[float] = BYTE_EVERY_SECONDS
    piece: ClassVar[bytes] = b"x"

    _sent = state(0)  # pieces

    def drop(self, number: int) -> bytes:
        """Return the `number`th piece of this connection, counted from 0; an empty one is the end."""
        return self.piece

    def on_connected(self) -> None:
        super().on_connected()
        self.drip()

    def drip(self) -> None:
        self._sent = 0
        self.wake_in(self.pace(self.every_seconds))

    def on_time(self, moment: float) -> None:
        """Send the next piece, whatever the server has answered; only the end of the connection stops it."""
        data = self.drop(self._sent)
        if not data:
            return
        self._sent += 1
        self.wake_in(self.pace(self.every_seconds))
        self.send(data)


class Welcome(Attacker):
    """An attacker that the server serves: only a refusal becomes the reason of its end."""

    def on_data(self, data: bytes) -> None:
        super().on_data(data)
        if self.answered < 400:
            self.answered = 0


class Asker(Attacker):
    """Sends one valid request at a time on a kept connection, and the next after the whole answer.

    Limits on pipelining do not apply. The cost to the server is the work for each answer, times the clients.
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
        answer = self.read_response(data)
        if answer is None:
            return
        self.cohort.answers[f"answered {answer.status}"] += 1
        seconds = self.pause(answer.status)
        if answer.status == 101:  # there are no more requests on this connection
            self.leave(return_in=ATTACKER_RETURNS_SECONDS)
        elif not answer.keeps_alive:
            self.answered = answer.status
        elif seconds:
            self.wake_in(self.pace(seconds))
        else:
            self.send(self.request())

    def on_time(self, moment: float) -> None:
        self.send(self.request())


#: The read size of most servers. With one block a tick, 300 clients send up to 1 GB/s, more than a loopback carries.
BLOCK_BYTES: Final = 16 * 1024

#: Two blocks. By default the kernel buffers up to 4 MB on our side for a server that does not read: 1.2 GB for 300
#: clients, where the machine's TCP memory runs out, the victims' too, through no fault of the server.
SEND_BUFFER_BYTES: Final = 32 * 1024


@lru_cache(maxsize=256)
def fill(unit: bytes) -> bytes:
    """Return as many whole copies of `unit` as fit a block, at least one; all clients share the object."""
    return unit * (BLOCK_BYTES // len(unit)) or unit


class Flooder(Attacker):
    """Sends blocks for as long as the server takes them, up to `most_bytes` on a connection.

    A block is sent when the kernel has taken the previous one, and at most one each tick of the wheel, so that
    thousands of flooders fill any link without delaying the engine's clock.
    """

    threat = Threat.GREEDY
    send_buffer_bytes = SEND_BUFFER_BYTES
    blocks: ClassVar[Sequence[bytes]] = ()  # assigned to the clients in turn
    most_bytes: ClassVar[int] = _NO_END

    _left = state(0)
    _block = state(b"")

    def block(self) -> bytes:
        """Return the block that this client repeats; without `blocks`, as many of its openings as fit."""
        return self.blocks[self.number % len(self.blocks)] if self.blocks else fill(self.opening())

    def on_connected(self) -> None:
        super().on_connected()
        self.flood()

    def flood(self) -> None:
        self._left = self.most_bytes
        self._block = self.block()
        self.on_drained()

    def on_drained(self) -> None:
        """Send the next block, unless all is sent or the server has answered; then wait for the end."""
        if self._left <= 0 or self.answered:
            return
        self._left -= len(self._block)
        if self.send(self._block):
            self.wake_in(0.0)

    def on_time(self, moment: float) -> None:
        self.on_drained()


#: Time for the server to read what was sent and to send its first answers.
ALIVE_SECONDS: Final = 1.0

#: How often the kernel is asked, and so the precision of the kill times; asking takes 11 us.
LOOK_EVERY_SECONDS: Final = 2.0

#: Rare, because each knock is a sign of life: longer than ping and pong deadlines on most servers (20 + 20 s).
KNOCK_EVERY_SECONDS: Final = 60.0

#: Time for the RST to arrive after a knock.
ECHO_SECONDS: Final = 1.0


class Vanishing(Attacker):
    """Vanishes a second after `vanish_soon`, without FIN, RST or acknowledgements, and detects when it is dropped.

    The kernel is asked whether the server has closed its end, which sends nothing. If the kernel cannot know, the
    client comes back every minute and sends a few bytes (a knock), which a server that has dropped it answers with RST.
    """

    unnoticed_seconds = 45.0  # a ping comes after 20 to 25 s of silence, and is answered within 10 to 20
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
