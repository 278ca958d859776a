"""The dialects there are, by the path at which they are spoken, and `/echo`, which is small enough to be here."""

from collections.abc import Callable, Mapping

from chatserver.api.dialect import Command, Dialect, Echo, Echoed, Refused, Reply
from chatserver.api.dialects.chat_v1 import ChatV1
from chatserver.api.encoder import WireEncoder
from chatserver.protocol.websocket import binary_frame, text_frame
from chatserver.settings.fields import Settings


class EchoDialect(Dialect):
    """`/echo`: each message goes back as it came, through the same connection code. For conformance suites."""

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


#: Made once for a server, at the path given.
DIALECTS: dict[str, Callable[[WireEncoder, Settings], Dialect]] = {"/ws": ChatV1, "/echo": EchoDialect}


def dialects(encoder: WireEncoder, settings: Settings) -> Mapping[str, Dialect]:
    """Those that this server speaks: `/echo` only if it was asked for."""
    made = {path: make(encoder, settings) for path, make in DIALECTS.items()}
    if not settings.echo:
        made.pop("/echo", None)
    return made
