"""The languages of a WebSocket: commands in, replies and pushes out.

Owns: the interface `Dialect`, its two forms `chat.v1` (docs/protocol.md) and `/echo`, and the table of them. May not:
decide anything.

Another dialect is a class with these methods and a row in the table, without changes in `edge/` or `net/`. A room's
ring keeps one encoded form for each dialect in use among its members.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from chatserver.api.encoder import WireEncoder, faces
from chatserver.chat.principal import Principal
from chatserver.chat.ring import Encoding
from chatserver.protocol import client_messages, encoders
from chatserver.protocol.client_messages import ClientMessage
from chatserver.protocol.errors import MessageId
from chatserver.protocol.upgrade import SUBPROTOCOL
from chatserver.protocol.validation import MAX_TEXT_BYTES
from chatserver.protocol.websocket import binary_frame, close_frame, text_frame, text_frame_parts
from chatserver.reasons import CloseCode, ErrorCode, Reason
from chatserver.settings.fields import Settings


class Echo(msgspec.Struct, gc=False):
    """A command to send this frame back."""

    frame: bytes


Command: TypeAlias = ClientMessage | Echo


class Dialect(Encoding):
    """One language. All methods are synchronous and know no connection; frames are whole WebSocket frames.

    Those of `Encoding` encode what is pushed to the members of a room.
    """

    #: the subprotocol that is chosen when the client offers it
    subprotocol: str | None = None
    #: whether binary messages are accepted
    binary = False

    def hello(self, principal: Principal, token: str) -> bytes:
        """The first message, right after the 101; empty for none."""
        return b""

    def decode(self, data: str | bytes) -> Command:
        """The command in a message, with its fields checked: nothing later checks them. Raises MessageError."""
        raise NotImplementedError

    def reply(self, json: bytes) -> bytes:
        """The reply to a command, given as the JSON of chat.v1, as a push is."""
        raise NotImplementedError

    def long_reply(self, json: list[bytes]) -> list[bytes]:
        """A reply with a page of messages, in parts that may be shared."""
        raise NotImplementedError

    def refused(self, id_: MessageId, code: ErrorCode, message: str, retry_after: float | None = None) -> bytes:
        """A refusal with its reason; the connection stays."""
        raise NotImplementedError

    def expiring(self, seconds: float) -> bytes:
        """The sign-in expires in this many seconds; empty for no message."""
        return b""

    def goaway(self, reason: str, retry_after: float) -> bytes:
        """The server will close, and when to come back, in seconds; empty for no message."""
        return b""

    def close(self, reason: Reason, text: str = "", *, code: int | None = None) -> bytes:
        """The close frame."""
        return close_frame(reason.close_code.value if code is None else code, text)


def echoed_code(code: int) -> int:
    """The code for answering a close frame; 1005 means that there was none, and may not be sent."""
    return CloseCode.NORMAL.value if code == 1005 else code


class ChatV1(Dialect):
    """`chat.v1`: JSON text frames."""

    subprotocol = SUBPROTOCOL

    def __init__(self, encoder: WireEncoder, settings: Settings) -> None:
        self._encoder = encoder
        self._hello_end = encoders.hello_end(settings.ping_interval, _told_limits(settings))

    def hello(self, principal: Principal, token: str) -> bytes:
        return text_frame(encoders.hello(token, principal.face, self._hello_end))

    def decode(self, data: str | bytes) -> Command:
        return client_messages.decode(data)

    def reply(self, json: bytes) -> bytes:
        return text_frame(json)

    def long_reply(self, json: list[bytes]) -> list[bytes]:
        return text_frame_parts(json)

    def refused(self, id_: MessageId, code: ErrorCode, message: str, retry_after: float | None = None) -> bytes:
        return text_frame(encoders.error(id_, code, message, retry_after))

    def expiring(self, seconds: float) -> bytes:
        return text_frame(encoders.expiring(seconds))

    def goaway(self, reason: str, retry_after: float) -> bytes:
        return text_frame(encoders.goaway(reason, retry_after))

    def moderated(self, left: str, message: str, retry_after: float | None) -> bytes:
        return text_frame(encoders.error(None, ErrorCode.FORBIDDEN, message, retry_after, room=left))

    def push(self, message: bytes, room: str, offset: int) -> bytes:
        return text_frame(encoders.message_push(message))

    def gap(self, room: str, after: int, until: int) -> bytes:
        return text_frame(encoders.gap(room, self._encoder.cursor(after), self._encoder.cursor(until)))

    def presence(self, room: str, joined: Sequence[Principal], left: Sequence[Principal], members: int) -> bytes:
        return text_frame(encoders.presence(room, faces(joined), faces(left), members))

    def typing(self, room: str, who: Principal) -> bytes:
        return text_frame(encoders.typing(room, who.face))

    def read(self, room: str, offset: int) -> bytes:
        return text_frame(encoders.read(room, offset))


def _told_limits(settings: Settings) -> dict[str, int | float]:
    """The limits in `hello`, so that a client need not learn them by being refused."""
    return {
        "text_bytes": MAX_TEXT_BYTES,
        "message_bytes": settings.max_message_bytes,
        "rooms": settings.max_rooms_per_connection,
        "publish_rate": settings.publish_rate,
        "message_rate": settings.message_rate,
    }


class EchoDialect(Dialect):
    """`/echo`: each message goes back as it came, through the same connection code. For conformance suites."""

    binary = True

    def __init__(self, encoder: WireEncoder, settings: Settings) -> None:
        pass  # it needs neither

    def decode(self, data: str | bytes) -> Command:
        return Echo(text_frame(data.encode()) if isinstance(data, str) else binary_frame(data))

    def refused(self, id_: MessageId, code: ErrorCode, message: str, retry_after: float | None = None) -> bytes:
        return text_frame(message.encode())


#: Makers of dialects by path; called once for each server.
DIALECTS: dict[str, Callable[[WireEncoder, Settings], Dialect]] = {"/ws": ChatV1, "/echo": EchoDialect}


def dialects(encoder: WireEncoder, settings: Settings) -> Mapping[str, Dialect]:
    """The dialects that the settings enable; `/echo` is optional."""
    return {path: make(encoder, settings) for path, make in DIALECTS.items() if path != "/echo" or settings.echo}
