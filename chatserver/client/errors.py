# ruff: noqa: N818  (callers read `except Forbidden`; the base class says that these are errors)
"""What goes wrong, as exceptions: one family, one class for each thing a caller can do about it.

Owns: the hierarchy, and which error of the server's becomes which. May not: raise anything.
"""


class ChatError(Exception):
    """Something was not done. `code` is the server's name for why, `message` is for people.

    `retry_after` is in seconds, where waiting helps; the library has waited already, as long as it was allowed to.
    """

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.retry_after = retry_after


class Unavailable(ChatError):
    """No connection, no answer, or the server cannot now. A write may have happened: repeat it with the same `key`."""


class RateLimited(Unavailable):
    """Too often; `retry_after` says when it is allowed again."""


class Unauthenticated(ChatError):
    """The token is missing, not believed or no longer valid."""


class Forbidden(ChatError):
    """This user may not do that."""


class NotFound(ChatError):
    """There is no such thing, or this server cannot do it."""


class Invalid(ChatError):
    """The server does not take this text, name, room or cursor; sent again, it fails again."""


class Rejected(ChatError):
    """The server does not want this client back, whatever it does."""


class BadUrl(ChatError, ValueError):
    """Not the address of a server."""

    def __init__(self, message: str) -> None:
        super().__init__("bad_url", message)


#: Codes after which the same request may succeed.
PASSING = frozenset({"rate_limited", "unavailable", "full", "draining", "internal", "timeout"})

_CLASSES: dict[str, type[ChatError]] = {
    **dict.fromkeys(PASSING, Unavailable),
    "rate_limited": RateLimited,
    "unauthenticated": Unauthenticated,
    "forbidden": Forbidden,
    **dict.fromkeys(("not_found", "gone", "unknown_type", "method_not_allowed", "not_implemented"), NotFound),
    **dict.fromkeys(("bad_json", "bad_field", "bad_room", "bad_cursor", "too_large", "bad_request"), Invalid),
}


def error_of(code: str, message: str, retry_after: float | None = None) -> ChatError:
    """Return the exception for an error that the server told."""
    return _CLASSES.get(code, ChatError)(code, message, retry_after)
