"""Where a target is asked what: the paths and requests of a run.

Owns: what may be said of a request on the command line and in a scenario. The defaults are the chat contract's.
"""

from typing import Final

import msgspec


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One target's ways in."""

    path: str = "/"  # what plain requests ask for
    websocket_path: str = "/ws"
    method: str = "GET"
    fields: tuple[str, ...] = ()  # of plain requests and upgrades: "Name: value"
    body: bytes = b""
    subprotocol: str = ""

    @property
    def upgrade_fields(self) -> tuple[str, ...]:
        """The fields of a request for a WebSocket, beside those that it always has."""
        return (*self.fields, f"Sec-WebSocket-Protocol: {self.subprotocol}") if self.subprotocol else self.fields


#: Where chatserver, and most others, are asked when nobody says otherwise.
USUAL: Final = Endpoint()
