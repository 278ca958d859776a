"""`/echo`: each message goes back as it came, through the same connection code. For conformance suites."""

from chatserver.api.dialect import Command, Dialect, Echo, Echoed, Refused, Reply
from chatserver.api.encoder import WireEncoder
from chatserver.protocol.websocket import binary_frame, text_frame
from chatserver.settings.fields import Settings


class EchoDialect(Dialect):
    """See the module."""

    binary = True

    def __init__(self, encoder: WireEncoder, settings: Settings) -> None:
        pass  # it needs neither

    def decode(self, data: str | bytes) -> Command:
        """Everything is a message."""
        return Echo(data)

    def reply(self, reply: Reply) -> list[bytes]:
        """What was sent."""
        match reply:
            case Echoed(str(text)):
                return [text_frame(text.encode())]
            case Echoed(bytes(data)):
                return [binary_frame(data)]
            case Refused():
                return [text_frame(reply.message.encode())]
            case _:
                raise AssertionError(f"{type(reply).__name__} answers no echo")
