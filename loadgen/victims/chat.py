"""A member over WebSocket: the usual victim."""

from typing import Final

import msgspec
import trio
import trio_websocket

from loadgen.victims.victim import CONNECT_TIMEOUT_SECONDS, OperationFailedError, Victim, text_of


class _Reply(msgspec.Struct):
    """What a victim reads of a chat.v1 message."""

    type: str
    id: int | str | None = None
    text: str = ""
    code: str = ""


decoder: Final = msgspec.json.Decoder(_Reply)
_JOIN_ID: Final = -1


class WebSocketVictim(Victim):
    """Publishes in its own room and waits for the message to come back: one task speaks, one listens."""

    kind = "ws"

    async def live(self) -> None:
        """Join, then publish on schedule."""
        async with await self.dial() as stream, trio.open_nursery() as nursery:
            with trio.fail_after(CONNECT_TIMEOUT_SECONDS):
                runner = self.runner
                peer = await trio_websocket.wrap_client_stream(
                    nursery, stream, runner.target.authority, runner.endpoint.websocket_path
                )
                await join(peer, self.room)
            with self.runner.counted(self):
                nursery.start_soon(self._listen, peer)
                await self._speak(peer)

    async def _speak(self, peer: trio_websocket.WebSocketConnection) -> None:
        while True:
            number = await self.next_operation()
            message = {"type": "publish", "id": number, "room": self.room, "text": text_of(number)}
            with trio.fail_after(self.runner.timeout_seconds):
                await peer.send_message(encode(message))

    async def _listen(self, peer: trio_websocket.WebSocketConnection) -> None:
        while True:
            reply = decoder.decode(await peer.get_message())
            if reply.type == "message":
                self.heard(reply.text)
            elif reply.type == "ack" and isinstance(reply.id, int):
                self.acknowledged.add(reply.id)
            elif reply.type == "error" and isinstance(reply.id, int):
                self.refused(reply.id, f"error {reply.code}")


class EchoVictim(Victim):
    """For servers that are no chat: sends a text and waits for the same text."""

    kind = "ws-echo"

    async def live(self) -> None:
        """Connect, then echo on schedule."""
        async with await self.dial() as stream, trio.open_nursery() as nursery:
            with trio.fail_after(CONNECT_TIMEOUT_SECONDS):
                runner = self.runner
                peer = await trio_websocket.wrap_client_stream(
                    nursery, stream, runner.target.authority, runner.endpoint.websocket_path
                )
            with self.runner.counted(self):
                nursery.start_soon(self._listen, peer)
                while True:
                    number = await self.next_operation()
                    with trio.fail_after(self.runner.timeout_seconds):
                        await peer.send_message(text_of(number))

    async def _listen(self, peer: trio_websocket.WebSocketConnection) -> None:
        while True:
            self.heard(str(await peer.get_message()))


async def join(peer: trio_websocket.WebSocketConnection, room: str) -> None:
    """Become a member of a room."""
    await peer.send_message(encode({"type": "join", "id": _JOIN_ID, "room": room}))
    while (reply := decoder.decode(await peer.get_message())).type != "joined":
        if reply.type == "error":
            raise OperationFailedError(f"error {reply.code}")


def encode(message: dict[str, object]) -> str:
    """Write a chat.v1 message."""
    return msgspec.json.encode(message).decode()
