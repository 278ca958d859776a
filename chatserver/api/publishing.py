"""From a text to a place in the log: what HTTP and WebSocket publishing share.

Owns: who a draft is from, and the words for a log that cannot take it. May not: answer.
"""

from chatserver.api.services import LOG_RETRY
from chatserver.chat.principal import Principal, author
from chatserver.chat.registry import RoomsFullError
from chatserver.log.interface import Draft, LogBusy, LogError
from chatserver.reasons import ErrorCode


def draft_of(principal: Principal, room: str, text: str, key: str | None) -> Draft:
    """A message from somebody."""
    face = author(principal.number) if type(principal) is Principal else principal.face
    return Draft(room, face.id, face.name, text, key)


def too_often(wait: float) -> str:
    """What somebody is told who must wait."""
    return f"too many messages; try again in {wait:.1f} s"


def log_failure(error: LogError) -> tuple[ErrorCode, str, float]:
    """Code, sentence and seconds to wait for a room that cannot be opened, or a message that may not have been stored.

    The operator's words in `error` stay in our log: they name paths and disks.
    """
    if isinstance(error, RoomsFullError):
        return ErrorCode.UNAVAILABLE, "as many rooms are open as may be; this one was not among them", LOG_RETRY
    if isinstance(error, LogBusy):
        return ErrorCode.UNAVAILABLE, "the server is busy; the message was not stored, send it again", LOG_RETRY
    return ErrorCode.UNAVAILABLE, "the message could not be stored; send it again with the same key", LOG_RETRY
