"""The language of a WebSocket: commands in, replies and pushes out.

Owns: the interface. May not: know a wire form. `chat.v1` and `/echo` are two dialects; another one is a class with
these methods and a row in `api/dialects/`, without changes in `edge/` or `net/`. A room's ring keeps one encoded form
for each dialect in use among its members.
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
    """A command to send this frame back."""

    frame: bytes


Command: TypeAlias = ClientMessage | Echo


class Dialect(Encoding):
    """One language. All methods are synchronous and know no connection; frames are whole WebSocket frames.

    The methods of `Encoding` encode what is pushed to the members of a room.
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

    def joined(self, id_: MessageId, member: Member, page: Page) -> list[bytes]:
        """The answer to a join with a page of missed messages, in parts that may be shared; the ring continues it."""
        raise NotImplementedError

    def left(self, id_: MessageId, room: str) -> bytes:
        """The answer to a leave."""
        raise NotImplementedError

    def ack(self, id_: MessageId, record: Record) -> bytes:
        """The acknowledgement of a durable record."""
        raise NotImplementedError

    def history(self, id_: MessageId, room: str, page: Page) -> list[bytes]:
        """A page of a room's log, in parts."""
        raise NotImplementedError

    def members(self, id_: MessageId, room: str, presence: Presence) -> bytes:
        """The members of a room."""
        raise NotImplementedError

    def reply(self, json: bytes) -> bytes:
        """A reply that exists only as the JSON of chat.v1; other dialects may drop it."""
        raise NotImplementedError

    def authenticated(self, id_: MessageId, principal: Principal) -> bytes:
        """The answer to `auth`: who the client is from now on."""
        raise NotImplementedError

    def expiring(self, seconds: float) -> bytes:
        """The sign-in expires in this many seconds; empty for no message."""
        return b""

    def pong(self, id_: MessageId) -> bytes:
        """The answer to a ping."""
        raise NotImplementedError

    def refused(self, id_: MessageId, code: ErrorCode, message: str, retry_after: float | None = None) -> bytes:
        """A refusal with its reason; the connection stays."""
        raise NotImplementedError

    def goaway(self, reason: str, retry_after: float) -> bytes:
        """The server will close, and when to come back, in seconds; empty for no message."""
        return b""

    def close(self, reason: Reason, text: str = "", *, code: int | None = None) -> bytes:
        """The close frame."""
        return close_frame(reason.close_code.value if code is None else code, text)


def echoed_code(code: int) -> int:
    """The code for answering a close frame; 1005 means that there was none, and may not be sent."""
    return CloseCode.NORMAL.value if code == 1005 else code
