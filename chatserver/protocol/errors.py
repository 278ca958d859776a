"""The errors of peers, as three exceptions of one family.

Each carries its answer, so that the edge translates once: an `HttpError` has a status (from its code), a `FrameError` a
close code (from its reason), a `MessageError` the id of the refused message. Whatever bytes a peer sends, the parsers
of this package raise nothing else; tests/protocol fuzzes that promise.
May not: carry exception text of our own bugs. `message` is written for the peer to read.
"""

from typing import TypeAlias

from chatserver.reasons import ErrorCode, Reason

Headers: TypeAlias = tuple[tuple[str, str], ...]  # of an answer, by name
MessageId: TypeAlias = int | float | str | None  # what a client put in `id`; None when it sent none


class ProtocolError(Exception):
    """An error of the peer. `message` names the thing, the value and the limit."""

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
    """A chat.v1 message or field that is refused; the answer is an error, and the connection stays.

    `id` is that of the message, if it could be read. Over HTTP the answer has the status of `code`. `wait` is the
    seconds until the message would be accepted, if known. `room` is the refused one among the rooms of a poll ("*": all
    of them).
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


def bad_field(field: str, rule: str) -> MessageError:
    """The refusal of a field's value; `rule` says what is wrong with it, or what it may be."""
    return MessageError(ErrorCode.BAD_FIELD, f"{field}: {rule}")


def too_often(wait: float, what: str = "messages") -> str:
    """The message of a refusal by a rate limit."""
    return f"too many {what}; try again in {max(wait, 0.1):.1f} s"
