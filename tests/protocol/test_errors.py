import pytest

from chatserver.protocol.errors import FrameError, HttpError, MessageError, ProtocolError
from chatserver.reasons import ErrorCode, Reason


def test_what_each_carries() -> None:
    http = HttpError(ErrorCode.TOO_LARGE, "too large", reason=Reason.BODY_TOO_LARGE, headers=(("A", "b"),))
    assert (http.code, http.reason, http.headers, str(http)) == (
        ErrorCode.TOO_LARGE, Reason.BODY_TOO_LARGE, (("A", "b"),), "too large"
    )  # fmt: skip
    message = MessageError(ErrorCode.BAD_ROOM, "no such name", 7)
    assert (message.code, message.id, message.message) == (ErrorCode.BAD_ROOM, 7, "no such name")


@pytest.mark.parametrize("kind", [HttpError, FrameError, MessageError])
def test_they_are_one_family(kind: type[Exception]) -> None:
    assert issubclass(kind, ProtocolError)
