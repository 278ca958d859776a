"""WebSocket echo, for servers that send messages back: victims, newcomers, load at a rate.

Owns: the texts, and how an echo is recognised.
"""

from abc import abstractmethod
from functools import partial
from typing import Final

import trio

from loadgen.clients.client import Needs, Stage, state
from loadgen.net import wire
from loadgen.net.line import Line
from loadgen.net.websocket import BINARY, WebSocket, upgrade
from loadgen.personas import persona
from loadgen.personas.honest import Talker
from loadgen.victims.probe import CONNECT_TIMEOUT_SECONDS, Context
from loadgen.victims.victim import Protocol, Victim


async def connect(context: Context, line: Line) -> WebSocket:
    """Open a WebSocket as the command line describes it."""
    endpoint = context.endpoint
    return await upgrade(line, endpoint.websocket_path, context.target.authority, *endpoint.upgrade_fields)


class ByWebSocket(Victim):
    """Has one WebSocket; one task sends, one receives."""

    repeats = True

    async def live(self) -> None:
        async with self.context.dial(self.index) as line:
            with trio.fail_after(CONNECT_TIMEOUT_SECONDS):
                peer = await connect(self.context, line)
                await self._enter(peer)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, peer)
                await self.speak(partial(self._say, peer))
                nursery.cancel_scope.cancel()
            await peer.close()

    async def _enter(self, peer: WebSocket) -> None:
        """Do what comes before the first operation."""

    @abstractmethod
    async def _say(self, peer: WebSocket, number: int) -> None:
        """Begin an operation."""

    @abstractmethod
    async def _listen(self, peer: WebSocket) -> None:
        """Take what comes, until a failure raises."""


class EchoVictim(ByWebSocket):
    """Sends a text and waits for the same text."""

    name = "ws-echo"
    words = "WebSocket echo"

    async def _say(self, peer: WebSocket, number: int) -> None:
        self.sent_since_reply += 1
        await peer.send(self.text(number))

    async def _listen(self, peer: WebSocket) -> None:
        while True:
            text = (await peer.message()).decode("utf-8", "replace")
            self.sent_since_reply = 0
            self.heard(text)


@persona
class Echo(Talker):
    """WebSocket that sends texts on the open-loop schedule and times their echoes."""

    needs = Needs.WEBSOCKET

    _whole = state(b"")  # of a text that comes in fragments

    def on_open(self) -> None:
        self._whole = b""
        self.hold()
        self.enter()

    def publish(self, number: int, text: str) -> None:
        self.send(wire.frame(wire.FIN | wire.TEXT, text.encode()))

    def on_text(self, frame: wire.Frame) -> None:
        if frame.opcode == wire.BINARY:
            raise wire.WireError(BINARY)
        text = self._whole + frame.payload if self._whole else frame.payload
        self._whole = b"" if frame.final else text
        if len(text) > wire.MAX_FRAME_BYTES:
            raise wire.WireError(f"a message of more than {wire.MAX_FRAME_BYTES:,} bytes")
        if self.stage is Stage.HELD and frame.final:
            self.cohort.deliveries += 1
            number = self._traffic.number_in(text.decode("utf-8", "replace"))
            if number is not None and not self._traffic.acknowledged(self, number):
                self._traffic.refused(number, "an echo came twice, or to another client")


PROTOCOL: Final = Protocol(
    name="ws-echo",
    victims=(EchoVictim,),
    speaker="echo",
    idle="echo",
    proves=frozenset((Needs.HTTP, Needs.WEBSOCKET)),
)
