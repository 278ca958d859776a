"""WebSocket echo, for servers that send messages back: victims, newcomers, load at a rate.

Owns: the texts, and how an echo is recognised.
"""

from collections.abc import Callable
from typing import Final

import trio
import trio_websocket

from loadgen import wire
from loadgen.client import Needs, Stage
from loadgen.line import Line
from loadgen.personas import persona
from loadgen.personas._websocket import WebSocketClient
from loadgen.personas.honest import Speaking
from loadgen.victims.probe import CONNECT_TIMEOUT_SECONDS, Context
from loadgen.victims.victim import Newcomer, OperationFailedError, Protocol, Victim

#: Time for a newcomer's closing handshake; its operation is booked by then.
LEAVE_SECONDS: Final = 1.0

WebSocket = trio_websocket.WebSocketConnection


class _Handshake(trio.abc.ReceiveStream):
    """Raises when the server closes before the handshake is done.

    trio-websocket would wait for ever for the rest of the answer, so a victim would lose its whole timeout to a server
    that was gone for a moment.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.is_done = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self.is_done:
            return await self._stream.receive_some(max_bytes)
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError as error:
            raise OperationFailedError(str(error)) from error
        if not data:
            raise OperationFailedError("closed")
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


async def upgrade(context: Context, nursery: trio.Nursery, line: Line) -> WebSocket:
    endpoint = context.endpoint
    fields = (field.encode().partition(b":") for field in endpoint.fields)
    handshake = _Handshake(line.stream)
    # it takes any stream; of the types that it knows it also wants the addresses
    peer = await trio_websocket.wrap_client_stream(
        nursery,
        trio.StapledStream(line.stream, handshake),  # type: ignore[arg-type]
        context.target.authority,
        endpoint.websocket_path,
        subprotocols=[endpoint.subprotocol] if endpoint.subprotocol else None,
        extra_headers=[(name.strip(), value.strip()) for name, _, value in fields],
    )
    handshake.is_done = True
    return peer


async def leave(peer: WebSocket, nursery: trio.Nursery) -> None:
    """Close the WebSocket, and leave even if there is no answer."""
    with trio.move_on_after(LEAVE_SECONDS):
        await peer.aclose()
    nursery.cancel_scope.cancel()


class EchoVictim(Victim):
    """Sends a text and waits for the same text."""

    name = "ws-echo"
    words = "WebSocket echo"

    async def live(self) -> None:
        async with self.dial() as line, trio.open_nursery() as nursery:
            with trio.fail_after(CONNECT_TIMEOUT_SECONDS):
                peer = await upgrade(self.context, nursery, line)
            with self.connected():
                nursery.start_soon(self._listen, peer)
                while True:
                    number = await self.next_operation()
                    with trio.fail_after(self.context.timeout_seconds):
                        await peer.send_message(self.text(number))

    async def _listen(self, peer: WebSocket) -> None:
        while True:
            self.heard(str(await peer.get_message()))


async def _come(context: Context, line: Line, number: int, done: Callable[[], None]) -> None:
    async with trio.open_nursery() as nursery:
        peer = await upgrade(context, nursery, line)
        text = f"newcomer {number}"
        await peer.send_message(text)
        while (said := await peer.get_message()) != text:
            if not said:
                raise OperationFailedError("an empty echo")
        done()
        await leave(peer, nursery)


@persona
class Echo(Speaking, WebSocketClient):
    """WebSocket that sends texts on the open-loop schedule and times their echoes."""

    name = "echo"
    needs = Needs.WEBSOCKET

    def on_open(self) -> None:
        self.hold()
        self._traffic.enter(self)

    def publish(self, number: int, text: str) -> None:
        self.send(wire.frame(wire.FIN | wire.TEXT, text.encode()))

    def on_text(self, frame: wire.Frame) -> None:
        if self.stage is Stage.HELD:
            self.cohort.deliveries += 1
            number = self._traffic.number_in(frame.payload.decode("utf-8", "replace"))
            if number is not None and not self._traffic.acknowledged(number):
                self._traffic.refused(number, "an echo came twice")


PROTOCOL: Final = Protocol(
    name="ws-echo",
    victims=(EchoVictim,),
    newcomer=Newcomer("new-echo", "newcomer, WebSocket echo", _come),
    speaker="echo",
    idle="echo",
    proves=frozenset((Needs.HTTP, Needs.WEBSOCKET)),
)
