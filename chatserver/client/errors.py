# ruff: noqa: N818  (callers read `except Forbidden`; the base class says that these are errors)
"""The exceptions: one family, with one class for each way to react.

Owns: the hierarchy, and the class for each error of the server. May not: raise anything.
"""


class ChatError(Exception):
    """A request failed. `code` is the server's name for the reason, `message` is for people.

    `retry_after` is in seconds, if waiting helps; the library has already waited as long as it may.
    """

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        # `args` stay what `__new__` made them, with which `copy` and `pickle` make the exception again.
        self.code = code
        self.message = message
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class Unavailable(ChatError):
    """No connection, no answer, or a passing failure. A write may have happened: repeat it with the same `key`."""


class RateLimited(Unavailable):
    """Too many requests; `retry_after` says when the next is allowed."""


class Unauthenticated(ChatError):
    """The token is missing or not valid."""


class Forbidden(ChatError):
    """This user may not do that."""


class NotFound(ChatError):
    """What the request names does not exist, or this server cannot do it."""


class Invalid(ChatError):
    """The server refuses this text, name, room or cursor; a retry fails again."""


class Rejected(ChatError):
    """The server has told this client not to come back. A write under way may have happened."""


class BadUrl(ChatError, ValueError):
    """Not a valid address of a server."""

    def __init__(self, message: str) -> None:
        super().__init__("bad_url", message)


#: Codes after which the same request may succeed later.
RETRYABLE = frozenset({"rate_limited", "unavailable", "full", "draining", "internal", "timeout"})

#: Those after which it was certainly not done, so that one without a key may be repeated.
NOT_DONE = frozenset({"rate_limited", "full", "draining", "no_connection"})

_CLASSES: dict[str, type[ChatError]] = {
    "unauthenticated": Unauthenticated,
    "forbidden": Forbidden,
    **dict.fromkeys(("not_found", "gone", "unknown_type", "method_not_allowed", "not_implemented"), NotFound),
    **dict.fromkeys(("bad_json", "bad_field", "bad_room", "bad_cursor", "too_large", "bad_request"), Invalid),
}


def is_retryable(code: str, retry_after: float | None) -> bool:
    """Whether the same request may succeed later. The end of a mute or a ban is not waited for."""
    return code in RETRYABLE or (retry_after is not None and code != "forbidden")


def error_of(code: str, message: str, retry_after: float | None = None) -> ChatError:
    """Return the exception for an error from the server."""
    other = Unavailable if is_retryable(code, retry_after) else _CLASSES.get(code, ChatError)
    return (RateLimited if code == "rate_limited" else other)(code, message, retry_after)
