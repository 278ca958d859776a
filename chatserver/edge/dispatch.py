"""Who attends to which state, and what a connection carries there: the two columns that the table cannot name.

Owns: the binding. May not: attend to anything itself.
"""

from dataclasses import dataclass

from chatserver.api.session import WebSocketSession
from chatserver.chat.hub import Hub
from chatserver.chat.member import Member, PollWaiter
from chatserver.edge.exchange import Exchange, PausedPublisher, Upload
from chatserver.edge.http import HttpExchanges
from chatserver.edge.requests import BodyHandler, RequestHandler
from chatserver.edge.waiting import HeldHandler, PausedHandler, ServingHandler, StreamHandler, ThrottledHandler
from chatserver.edge.websocket import OpenHandler, PingedHandler, WebSocketHandler
from chatserver.meters import ByteBudget
from chatserver.net.connections import Connections
from chatserver.net.handler import Handler
from chatserver.net.states import State
from chatserver.settings.fields import Settings


@dataclass(frozen=True, slots=True)
class WebSocketHandlers:
    """One for each state; all but their `expired` are alike."""

    open: OpenHandler
    pinged: PingedHandler
    other: WebSocketHandler


def bind(
    connections: Connections, settings: Settings, budget: ByteBudget, *,
    hub: Hub, exchanges: HttpExchanges, websockets: WebSocketHandlers,
) -> None:  # fmt: skip
    """Fill in the columns, for the states of HTTP and WebSocket."""
    requests = RequestHandler(connections, settings, budget, dispatch=exchanges.dispatch)
    rows: dict[State, tuple[Handler, type | None]] = {
        State.HEAD: (requests, None),
        State.KEEPALIVE: (requests, None),
        State.BODY: (BodyHandler(connections, settings, budget, dispatch=exchanges.dispatch), Upload),
        State.THROTTLED: (ThrottledHandler(connections, exchanges), None),
        State.SERVING: (ServingHandler(connections, exchanges), Exchange),
        State.PAUSED: (PausedHandler(connections, exchanges, hub), PausedPublisher),
        State.HELD: (HeldHandler(connections, exchanges, hub), PollWaiter),
        State.STREAM: (StreamHandler(connections, exchanges, hub), Member),
        State.OPEN: (websockets.open, WebSocketSession),
        State.PINGED: (websockets.pinged, WebSocketSession),
        State.MESSAGE: (websockets.other, WebSocketSession),
        State.REPLYING: (websockets.other, WebSocketSession),
    }
    for state, (handler, context) in rows.items():
        connections.bind(state, handler, context)
