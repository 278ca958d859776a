"""What the WebSocket personas share: open, join a room, answer pings. No persona itself."""

import msgspec

from loadgen import wire
from loadgen.client import CLOSED_FOR_NOW, Client, Stage


class Envelope(msgspec.Struct):
    """The fields of chat.v1 that a virtual client looks at; it skips all others."""

    type: str
    id: int | str | None = None
    room: str = ""
    text: str = ""
    code: str = ""
    offset: int = 0
    cursor: str = ""


_decoder = msgspec.json.Decoder(Envelope)

#: What a member's join is called; its publishes count from 0.
JOIN_ID = -1


class WebSocketClient(Client):
    """A client that opens a WebSocket in good order and minds its control frames."""

    __slots__ = ()

    honest = True

    def opening(self) -> bytes:
        """Ask for the upgrade."""
        place = self.cohort.place
        return wire.upgrade_request(place.websocket_path, place.host, *place.endpoint.upgrade_fields)

    def on_open(self) -> None:
        """React to the WebSocket's being open."""
        raise NotImplementedError

    def on_text(self, frame: wire.Frame) -> None:
        """React to a frame that is no control frame."""
        raise NotImplementedError

    def on_data(self, data: bytes) -> None:
        """Finish the handshake, then take frame after frame."""
        data = self.unread + data if self.unread else data
        if self.stage is Stage.OPENING and data.startswith(b"HTTP/"):
            head = wire.read_head(data)
            if head is None:
                self.unread = data
                return
            if head.status != 101:
                self.reject(head.status)
                return
            wire.check_upgrade(head)
            data = data[head.size :]
            self.on_open()
        frames, self.unread = wire.read_frames(data)
        for frame in frames:
            if self.fd < 0:
                return  # an earlier frame ended this client
            self.on_frame(frame)

    def on_frame(self, frame: wire.Frame) -> None:
        """Answer a ping, mind a close, look into text."""
        if frame.opcode == wire.PING:
            self.send(wire.frame(wire.PONG, frame.payload))
        elif frame.opcode == wire.CLOSE:
            self.send(wire.frame(wire.CLOSE, frame.payload[:2]))
            self.fail(f"close {frame.close_code}", turned_away=frame.close_code in CLOSED_FOR_NOW)
        elif frame.opcode != wire.PONG:
            self.on_text(frame)


class Member(WebSocketClient):
    """A WebSocket client joined to a room."""

    __slots__ = ()

    def joining(self) -> bytes:
        """Return the first frame."""
        return join(JOIN_ID, self.room)

    def on_open(self) -> None:
        """Ask to be let into the room."""
        self.send(self.joining())

    def on_text(self, frame: wire.Frame) -> None:
        """Wait for the join to be answered; afterwards only count what is said."""
        message = decode(frame)
        if message.type == "message":
            self.cohort.deliveries += 1
        elif message.type == "joined" and self.stage is not Stage.HELD:
            self.hold()
            self.on_joined(message)
        elif message.type == "error" and self.stage is not Stage.HELD:
            self.fail(f"error {message.code}")

    def on_joined(self, message: Envelope) -> None:
        """React to being a member now."""


def decode(frame: wire.Frame) -> Envelope:
    """Read a text frame as a chat.v1 message."""
    if frame.opcode != wire.TEXT or not frame.final:
        raise wire.WireError("chat.v1 in something else than one text frame")
    try:
        return _decoder.decode(frame.payload)
    except msgspec.MsgspecError:
        raise wire.WireError("a text frame that is not chat.v1") from None


def encoded(message: dict[str, object]) -> bytes:
    """Encode a chat.v1 message as a frame."""
    return wire.frame(wire.TEXT, msgspec.json.encode(message))


def join(number: int, room: str, after: str = "") -> bytes:
    """Encode a join as a frame; with `after`, to catch up from a cursor."""
    message: dict[str, object] = {"type": "join", "id": number, "room": room}
    return encoded(message | {"after": after} if after else message)


def leave(number: int, room: str) -> bytes:
    """Encode a leave as a frame."""
    return encoded({"type": "leave", "id": number, "room": room})


def ping(number: int) -> bytes:
    """Encode chat.v1's own ping as a frame."""
    return encoded({"type": "ping", "id": number})


def publish(room: str, number: int, text: str) -> bytes:
    """Encode a publish as a frame."""
    return encoded({"type": "publish", "id": number, "room": room, "text": text})
