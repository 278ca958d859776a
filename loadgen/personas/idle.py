"""A browser tab in the background: connected, joined and silent."""

from loadgen.personas import persona
from loadgen.personas._websocket import Member


@persona
class Idle(Member):
    """WebSocket joined to a room that says nothing and answers pings.

    Most of a chat's connections at any moment. A server that spends a task or a thread on each pays for all of them.
    """

    __slots__ = ()

    name = "idle"
