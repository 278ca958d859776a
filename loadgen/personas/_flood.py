"""What the greedy share: send block after block as fast as the server takes them, and note what it says.

No persona itself. Full speed means the server's, not ours: a block goes out when the kernel has taken the one before,
at most one each tick of the wheel, so that thousands of flooders leave the engine's clock alone and fill any pipe.
"""

from typing import ClassVar, Final

from loadgen import wire
from loadgen.client import CLOSED_FOR_NOW, Attacker, Cohort, Needs, Stage, Threat
from loadgen.frames import LAST_WORD_BYTES, close_code

#: What one read of most servers takes; 300 that are let at one block a tick are 1 GB/s, more than a loopback carries.
BLOCK_BYTES: Final = 16 * 1024

#: Two blocks on their way. Left to itself the kernel lets 4 MB wait in our own memory for a server that does not read:
#: 1.2 GB for 300 of them, near which all TCP of a machine runs short, the victims' too, by no fault of the server.
SEND_BUFFER_BYTES: Final = 32 * 1024


def fill(unit: bytes) -> bytes:
    """As many whole copies of something small as a block takes."""
    return unit * (BLOCK_BYTES // len(unit))


class Flooder(Attacker):
    """Sends blocks for as long as it is let, up to `most_bytes` on a connection."""

    __slots__ = ("_left", "number")

    threat = Threat.GREEDY
    send_buffer_bytes = SEND_BUFFER_BYTES
    most_bytes: ClassVar[int] = 1 << 62  # no end

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self.number = cohort.made - 1  # within its persona: what some of a crowd do goes by it
        self._left = 0

    def block(self) -> bytes:
        """Return what to send next."""
        raise NotImplementedError

    def on_connected(self) -> None:
        """Begin."""
        super().on_connected()
        self.flood()

    def flood(self) -> None:
        """Send the first block of a connection."""
        self._left = self.most_bytes
        self.on_drained()

    def on_drained(self) -> None:
        """Send the next block, unless all is sent or the server has answered: an answered client waits for the end."""
        if self._left <= 0 or self.answered:
            return
        block = self.block()
        self._left -= len(block)
        if self.send(block):
            self.wake_in(0.0)

    def on_time(self, moment: float) -> None:
        """Send the next block."""
        self.on_drained()


class Intruder(Attacker):
    """Opens a WebSocket in good order; what it does with it is its subclass's business.

    It is held from the 101 on, and booked under the code of the close frame that ends it.
    """

    __slots__ = ()

    needs = Needs.WEBSOCKET
    upgrade_fields: ClassVar[tuple[str, ...]] = ()

    def opening(self) -> bytes:
        """Ask for the upgrade."""
        place = self.cohort.place
        fields = (*place.endpoint.upgrade_fields, *self.upgrade_fields)
        return wire.upgrade_request(place.websocket_path, place.host, *fields)

    def on_connected(self) -> None:
        """Wait for the answer: there is no WebSocket yet to do harm with."""
        self.answered = 0

    def on_data(self, data: bytes) -> None:
        """Finish the handshake, then listen with half an ear."""
        if self.stage is Stage.HELD:
            self.hear(data)
            return
        self.unread += data
        head = wire.read_head(self.unread)
        if head is None:
            return
        if head.status != 101:
            self.reject(head.status)
            return
        wire.check_upgrade(head)
        rest, self.unread = self.unread[head.size :], b""
        self.hold()
        self.on_open(head)
        if rest and self.fd >= 0:
            self.hear(rest)

    def on_open(self, head: wire.Head) -> None:
        """React to the WebSocket's being open."""
        raise NotImplementedError

    def hear(self, data: bytes) -> None:
        """Keep only what may be the server's last word."""
        if len(data) < LAST_WORD_BYTES:
            data = self.unread + data
        self.unread = data[-LAST_WORD_BYTES:]

    def on_hangup(self, how: str) -> None:
        """Book the end under the close code, which says more than how the socket ended."""
        code = close_code(self.unread) if self.stage is Stage.HELD else None
        if code is None:
            self.fail(how)
        else:
            self.closed(code)

    def closed(self, code: int) -> None:
        """Book the close and the end."""
        self.cohort.answers[f"close {code}"] += 1
        self.fail(f"close {code}", turned_away=code in CLOSED_FOR_NOW)


class FrameFlooder(Intruder, Flooder):
    """Sends blocks of frames as soon as the WebSocket is open."""

    __slots__ = ()

    def on_open(self, head: wire.Head) -> None:
        """Begin."""
        self.flood()
