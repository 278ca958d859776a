"""What a WebSocket speaks: commands in, replies and pushes out.

Owns: the interface. May not: know a wire form. `chat.v1` and `/echo` are two dialects; another one is a class with
these methods and a row in `api/dialects/`, and nothing in `edge/` or `net/` changes. A room's ring keeps one encoded
form for each dialect that somebody in it speaks.
"""

from typing import TypeAlias

import msgspec

from chatserver.api.pages import Page
from chatserver.chat.member import Member
from chatserver.chat.presence import Presence
from chatserver.chat.principal import Principal
from chatserver.chat.ring import Encoding
from chatserver.log.interface import Record
from chatserver.protocol.client_messages import ClientMessage
from chatserver.protocol.errors import MessageId
from chatserver.protocol.websocket import close_frame
from chatserver.reasons import CloseCode, ErrorCode, Reason


class Echo(msgspec.Struct, gc=False):
    """A command that brings its own answer: send this frame back."""

    frame: bytes


Command: TypeAlias = ClientMessage | Echo


class Dialect(Encoding):
    """One language. All methods are synchronous and know no connection; frames are whole WebSocket frames.

    What is pushed into a room, and how, is said by the methods of `Encoding`.
    """

    #: the subprotocol that is chosen when the client offers it
    subprotocol: str | None = None
    #: whether binary messages are taken
    binary = False

    def hello(self, principal: Principal, token: str) -> bytes:
        """What is said first, right behind the 101; empty for nothing."""
        return b""

    def decode(self, data: str | bytes) -> Command:
        """The command in a message. Raises MessageError."""
        raise NotImplementedError

    def joined(self, id_: MessageId, member: Member, page: Page) -> list[bytes]:
        """In a room now, with what was missed, in parts that others may have as well; more follows from the ring."""
        raise NotImplementedError

    def left(self, id_: MessageId, room: str) -> bytes:
        """Not in it any more."""
        raise NotImplementedError

    def published(self, id_: MessageId, record: Record) -> bytes:
        """Durable."""
        raise NotImplementedError

    def history(self, id_: MessageId, room: str, page: Page) -> list[bytes]:
        """A page of a room's log, in parts."""
        raise NotImplementedError

    def members(self, id_: MessageId, room: str, presence: Presence) -> bytes:
        """Who is there."""
        raise NotImplementedError

    def reply(self, json: bytes) -> bytes:
        """A reply of the chat's that only those dialects have who speak its JSON."""
        raise NotImplementedError

    def authenticated(self, id_: MessageId, principal: Principal) -> bytes:
        """Who the client is from now on."""
        raise NotImplementedError

    def expiring(self, seconds: float) -> bytes:
        """Its sign-in runs out in so many seconds. Empty for nothing."""
        return b""

    def alive(self, id_: MessageId) -> bytes:
        """The answer to a ping."""
        raise NotImplementedError

    def refused(self, id_: MessageId, code: ErrorCode, message: str, retry_after: float | None = None) -> bytes:
        """Not done, and why; the connection lives."""
        raise NotImplementedError

    def goaway(self, reason: str, retry_after: float) -> bytes:
        """The server will close; when to come back, in seconds. Empty for nothing."""
        return b""

    def close(self, reason: Reason, text: str = "", *, code: int | None = None) -> bytes:
        """The close frame."""
        return close_frame(reason.close_code.value if code is None else code, text)


def echoed_code(code: int) -> int:
    """The code of our answer to a close frame; 1005 stands for none, and may not be sent."""
    return CloseCode.NORMAL.value if code == 1005 else code
