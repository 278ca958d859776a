"""The kinds of victims: what `--victim` may name, and what reports call each.

Owns: the closed list. May not: import the victims themselves, which a conductor does not need.
"""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

#: Those that stay connected, in the order of reports.
ESTABLISHED: Final = MappingProxyType(
    {
        "ws": "WebSocket round trip",
        "poll": "long-poll round trip",
        "sse": "event stream round trip",
        "get": "GET",
        "ws-echo": "WebSocket echo",
    }
)

#: Those that connect, do one operation and leave.
NEWCOMERS: Final = MappingProxyType(
    {
        "new-ws": "newcomer, WebSocket",
        "new-get": "newcomer, GET",
        "new-echo": "newcomer, WebSocket echo",
    }
)

WHAT: Final = MappingProxyType({**ESTABLISHED, **NEWCOMERS})

#: How somebody new comes to a server that such victims use.
_COMES_AS: Final = MappingProxyType(
    {"ws": "new-ws", "poll": "new-ws", "sse": "new-ws", "get": "new-get", "ws-echo": "new-echo"}
)

#: Who uses a chat: most come by WebSocket, some by what is left where that does not work.
CHAT_MIX: Final = MappingProxyType({"ws": 60.0, "poll": 15.0, "sse": 15.0, "get": 10.0})

#: Those whose message the server acknowledges, so that it can be asked for again.
KEEPS_MESSAGES: Final = frozenset({"ws", "poll", "sse"})


def newcomers_of(kinds: Iterable[str]) -> list[str]:
    """The kinds of newcomers that come beside these victims."""
    return sorted({_COMES_AS[kind] for kind in kinds})
