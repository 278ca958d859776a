"""Slowloris at the door of the WebSockets."""

from loadgen import wire
from loadgen.client import Needs
from loadgen.personas import persona
from loadgen.personas.drip_head import DripHead


@persona
class SlowHandshake(DripHead):
    """Sends the WebSocket upgrade a byte a second, and never ends it.

    A WebSocket library that reads the handshake itself needs its own clock for it, and holds a task with its buffers
    meanwhile: 8,000 of them took trio-websocket's healthy clients from 0.6 to 430 ms at the 99th percentile.
    """

    __slots__ = ()

    name = "slow-handshake"
    needs = Needs.WEBSOCKET

    def head(self) -> bytes:
        """Return the upgrade."""
        return wire.upgrade_request(self.cohort.place.websocket_path, self.cohort.place.host)
