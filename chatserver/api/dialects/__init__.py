"""The dialects by their paths, and the one of `/echo`, which is small enough to be here."""

from collections.abc import Callable, Mapping

from chatserver.api.dialect import Command, Dialect, Echo
from chatserver.api.dialects.chat_v1 import ChatV1
from chatserver.api.encoder import WireEncoder
from chatserver.protocol.errors import MessageId
from chatserver.protocol.websocket import binary_frame, text_frame
from chatserver.reasons import ErrorCode
from chatserver.settings.fields import Settings


class EchoDialect(Dialect):
    """`/echo`: each message goes back as it came, through the same connection code. For conformance suites."""

    binary = True

    def __init__(self, encoder: WireEncoder, settings: Settings) -> None:
        pass  # it needs neither

    def decode(self, data: str | bytes) -> Command:
        return Echo(text_frame(data.encode()) if isinstance(data, str) else binary_frame(data))

    def refused(self, id_: MessageId, code: ErrorCode, message: str, retry_after: float | None = None) -> bytes:
        return text_frame(message.encode())


#: Makers of dialects by path; called once for each server.
DIALECTS: dict[str, Callable[[WireEncoder, Settings], Dialect]] = {"/ws": ChatV1, "/echo": EchoDialect}


def dialects(encoder: WireEncoder, settings: Settings) -> Mapping[str, Dialect]:
    """The dialects that the settings enable; `/echo` is optional."""
    return {path: make(encoder, settings) for path, make in DIALECTS.items() if path != "/echo" or settings.echo}
