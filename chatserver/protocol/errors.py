"""What a peer can do wrong, as three exceptions of one family.

Each carries what to answer, so that the edge translates once: an `HttpError` has a status (from its code), a
`FrameError` a close code (from its reason), a `MessageError` the id of the message it is about. No bytes a
peer can send make a parser of this package raise anything else; tests/protocol fuzzes that promise.
May not: carry exception text of our own bugs. What stands in `message` is written for the peer to read.
"""

from typing import TypeAlias

from chatserver.reasons import ErrorCode, Reason

Headers: TypeAlias = tuple[tuple[str, str], ...]  # of an answer, by name
MessageId: TypeAlias = int | float | str | None  # what a client put in `id`; None when it sent none


class ProtocolError(Exception):
    """Anything a peer did wrong. `message` names the thing, the value and the limit."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class HttpError(ProtocolError):
    """A request that cannot be served: answer with the status of `code` and with `headers`, close for `reason`."""

    def __init__(
        self, code: ErrorCode, message: str, *, reason: Reason = Reason.BAD_REQUEST, headers: Headers = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.headers = headers


class FrameError(ProtocolError):
    """A broken or oversized WebSocket frame: close for `reason`."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class MessageError(ProtocolError):
    """A chat.v1 message or a field that makes no sense; answer an error, and the connection lives.

    `id` is the message's own, whenever it could be read. Over HTTP the answer goes out with the status of `code`.
    `wait` is how many seconds from now it would be right, if that is known. `room` is the room that was refused, as
    one of many in a poll ("*": all of them).
    """

    def __init__(
        self, code: ErrorCode, message: str, id: MessageId = None, *, wait: float | None = None,  # noqa: A002 (as sent)
        room: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.code = code
        self.id = id
        self.wait = wait
        self.room = room
