"""What the slow share who come by WebSocket: they listen, answer pings, and note how they are told to go. No persona.

A crowd that did not answer pings would be thrown out for that, and show nothing about what it came for.
"""

from loadgen import wire
from loadgen.personas._flood import Intruder


class Lingerer(Intruder):
    """A WebSocket that stays for as long as it is let."""

    __slots__ = ()

    def hear(self, data: bytes) -> None:
        """Take frame after frame."""
        frames, self.unread = wire.read_frames(self.unread + data)
        for frame in frames:
            if self.fd < 0:
                return  # an earlier frame ended this client
            if frame.opcode == wire.PING:
                self.on_ping(frame.payload)
            elif frame.opcode == wire.CLOSE:
                self.on_close(frame.close_code)
            elif frame.opcode == wire.TEXT:
                self.on_text(frame)

    def on_ping(self, payload: bytes) -> None:
        """Answer, as a browser does."""
        self.send(wire.frame(wire.PONG, payload))

    def on_text(self, frame: wire.Frame) -> None:
        """React to a message."""

    def on_close(self, code: int) -> None:
        """Go: there is nothing more to hold."""
        self.closed(code)
