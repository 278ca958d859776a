"""The dialects there are, by the path at which they are spoken."""

from collections.abc import Callable, Mapping

from chatserver.api.dialect import Dialect
from chatserver.api.dialects.chat_v1 import ChatV1
from chatserver.api.dialects.echo import EchoDialect
from chatserver.api.encoder import WireEncoder
from chatserver.settings.fields import Settings

#: Made once for a server, at the path given.
DIALECTS: dict[str, Callable[[WireEncoder, Settings], Dialect]] = {"/ws": ChatV1, "/echo": EchoDialect}


def dialects(encoder: WireEncoder, settings: Settings) -> Mapping[str, Dialect]:
    """Those that this server speaks: `/echo` only if it was asked for."""
    made = {path: make(encoder, settings) for path, make in DIALECTS.items()}
    if not settings.echo:
        made.pop("/echo", None)
    return made
