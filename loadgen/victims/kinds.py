"""The kinds of victims: what `--victim` may name, and what reports call each.

Owns: the closed list. May not: import the victims themselves, which a conductor does not need.
"""

from types import MappingProxyType
from typing import Final

#: In the order of reports.
WHAT: Final = MappingProxyType(
    {
        "ws": "WebSocket round trip",
        "poll": "long-poll round trip",
        "sse": "event stream round trip",
        "get": "GET",
        "ws-echo": "WebSocket echo",
    }
)

#: Who uses a chat: most come by WebSocket, some by what is left where that does not work.
CHAT_MIX: Final = MappingProxyType({"ws": 60.0, "poll": 15.0, "sse": 15.0, "get": 10.0})
