"""What a WebSocket speaks: commands in, replies and pushes out.

Owns: the interface, and the commands and replies that pass through it. May not: know a wire form. `chat.v1` and `/echo`
are two dialects (api/dialects/); another one is a class with these methods and a row in `api/dialects`, and nothing in
`edge/` or `net/` changes. A room's ring keeps one encoded form for each dialect that somebody in it speaks.
"""

from typing import TypeAlias

import msgspec

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
    """A command: send this back."""

    data: str | bytes


Command: TypeAlias = ClientMessage | Echo


class Joined(msgspec.Struct, gc=False):
    """In a room now, with what was missed; more follows from the ring."""

    id: MessageId
    member: Member
    recovered: bool
    messages: list[bytes]


class Left(msgspec.Struct, gc=False):
    """Not in it any more."""

    id: MessageId
    room: str


class Published(msgspec.Struct, gc=False):
    """Durable."""

    id: MessageId
    record: Record


class HistoryPage(msgspec.Struct, gc=False):
    """A page of a room's log."""

    id: MessageId
    room: str
    reaches: int
    recovered: bool
    messages: list[bytes]


class MemberList(msgspec.Struct, gc=False):
    """Who is there."""

    id: MessageId
    room: str
    presence: Presence


class Alive(msgspec.Struct, gc=False):
    """The answer to a ping."""

    id: MessageId


class Echoed(msgspec.Struct, gc=False):
    """What was sent."""

    data: str | bytes


class Refused(msgspec.Struct, gc=False):
    """Not done, and why; the connection lives."""

    id: MessageId
    code: ErrorCode
    message: str
    retry_after: float | None = None


Reply: TypeAlias = Joined | Left | Published | HistoryPage | MemberList | Alive | Echoed | Refused


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

    def reply(self, reply: Reply) -> list[bytes]:
        """A frame, in parts that others may have as well."""
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
