import pytest

from chatserver.protocol.errors import FrameError, HttpError, MessageError, ProtocolError
from chatserver.reasons import CloseCode, ErrorCode, Reason


def test_what_each_carries() -> None:
    http = HttpError(ErrorCode.TOO_LARGE, "too large", reason=Reason.BODY_TOO_LARGE, headers=(("A", "b"),))
    assert (http.status, http.reason, http.headers, str(http)) == (
        413,
        Reason.BODY_TOO_LARGE,
        (("A", "b"),),
        "too large",
    )
    assert FrameError(Reason.BAD_TEXT, "not UTF-8").close_code is CloseCode.BAD_TEXT
    message = MessageError(ErrorCode.BAD_ROOM, "no such name", 7)
    assert (message.status, message.id, message.message) == (400, 7, "no such name")


@pytest.mark.parametrize("kind", [HttpError, FrameError, MessageError])
def test_they_are_one_family(kind: type[Exception]) -> None:
    assert issubclass(kind, ProtocolError)
