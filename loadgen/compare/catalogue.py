"""The servers that are compared: the name of each, its protocols, and the kit that runs it.

Owns: the list. A new peer is a script in loadgen/peers/ and one row here. May not: install or start anything, which is
the part of a row's `kit`, see loadgen/compare/kits.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Flag, auto
from types import MappingProxyType
from typing import Final

from loadgen.compare.kits import Chatserver, Kit, Nginx, Node, Script


class Can(Flag):
    """What a server can do, which decides the scenarios that it takes part in."""

    HTTP = auto()  # answers GET /
    POST = auto()  # takes messages over HTTP
    POLL = auto()  # holds long-polls
    WEBSOCKET = auto()  # accepts clients at /ws, and confirms their join
    CHAT = auto()  # speaks chat.v1 there
    ALL = HTTP | POST | POLL | WEBSOCKET | CHAT


@dataclass(frozen=True, kw_only=True)
class Peer:
    name: str
    title: str
    can: Can
    kit: Kit
    url: str = ""  # of a server that runs already
    groups: frozenset[str] = frozenset()  # the only groups of scenarios that it takes part in; empty = all that it can
    relay: str = ""  # path where a server that only relays takes messages for all members at /ws, see relay.py


OURS: Final = "chatserver"

_PEERS: Final = (
    Peer(name=OURS, title="this project's server, default limits", can=Can.ALL, kit=Chatserver()),
    Peer(name="chatserver-memory", title="the same with its log in memory, as all others have it", can=Can.ALL,
         kit=Chatserver("--log", "memory:"), groups=frozenset(("fanout", "beside"))),
    Peer(name="floor", title="a bare epoll loop in Python: no validation, no deadlines", can=Can.ALL,
         kit=Script("floor.py")),
    Peer(name="threaded", title="a thread for each connection, standard library", can=Can.ALL,
         kit=Script("threaded.py")),
    Peer(name="thread-pool", title="the same with 256 threads, as many as Apache has", can=Can.ALL,
         kit=Script("threaded.py", "--workers", "256"), groups=frozenset(("attack",))),
    Peer(name="websockets", title="websockets on asyncio, its broadcast()", can=Can.HTTP | Can.WEBSOCKET | Can.CHAT,
         kit=Script("websockets_asyncio.py")),
    Peer(name="trio-websocket", title="trio-websocket, a task for each member", can=Can.WEBSOCKET | Can.CHAT,
         kit=Script("trio_websocket_chat.py")),
    Peer(name="aiohttp", title="aiohttp", can=Can.ALL, kit=Script("aiohttp_chat.py")),
    Peer(name="uvicorn", title="Starlette on uvicorn with uvloop and httptools", can=Can.ALL,
         kit=Script("uvicorn_starlette.py")),
    Peer(name="hypercorn", title="Starlette on hypercorn, on trio", can=Can.ALL, kit=Script("hypercorn_starlette.py")),
    Peer(name="node-ws", title="ws on node", can=Can.ALL, kit=Node("node_ws")),
    Peer(name="nchan", title="nginx with nchan, one worker; no chat.v1", can=Can.HTTP | Can.WEBSOCKET,
         kit=Nginx("nchan"), relay="/publish"),
)  # fmt: skip

PEERS: Final[Mapping[str, Peer]] = MappingProxyType({peer.name: peer for peer in _PEERS})
