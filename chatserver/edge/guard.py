"""Where a fault in a request's task ends.

Owns: that border. May not: know what the task does. The poller has the same border for what needs no task; without
this one a bug behind a wait would end the nursery, and with it everybody's connections.
"""

from collections.abc import Awaitable

from chatserver.net.connection import Connection
from chatserver.net.connections import Connections


async def guarded(connections: Connections, connection: Connection, attending: Awaitable[None]) -> None:
    """Attend to one connection; what nobody foresaw is logged and costs that connection."""
    try:
        await attending
    except Exception:  # noqa: BLE001
        connections.fault(connection)
