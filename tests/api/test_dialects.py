"""Dialects: echo, and a third one, which is a class and a row in a table. chat.v1: test_websocket.py."""

import msgspec
import pytest

from chatserver.api import dialect
from chatserver.api.dialect import ChatV1, Command, Dialect, EchoDialect
from chatserver.api.encoder import WireEncoder
from chatserver.chat.principal import Principal
from chatserver.protocol.client_messages import Join, Leave, Ping, Publish
from chatserver.protocol.errors import MessageError, MessageId
from chatserver.protocol.websocket import text_frame
from chatserver.reasons import ErrorCode
from chatserver.settings.fields import Settings
from tests.support.peers import Peer, chatter, connect, frame, publish, upgrade
from tests.support.serving import neighbour, serving

ENCODER = WireEncoder("k3f9")
ANN, BOB = Principal(1, "here"), Principal(2, "here")


# -- a third one ------------------------------------------------------------------------------------------------------


class Lines(Dialect):
    """Plain text, a line a message: `join lobby`, `say lobby hi`, `leave lobby`, `ping`."""

    def __init__(self, encoder: WireEncoder, settings: Settings) -> None:
        pass

    def decode(self, data: str | bytes) -> Command:
        word, _, rest = str(data).partition(" ")
        room, _, text = rest.partition(" ")
        commands: dict[str, Command] = {"join": Join(room), "leave": Leave(room), "ping": Ping()}
        if word == "say":
            return Publish(room, text)
        if word not in commands:
            raise MessageError(ErrorCode.UNKNOWN_TYPE, f"{word} is not known")
        return commands[word]

    def reply(self, json: bytes) -> bytes:
        told = msgspec.json.decode(json)
        words = {"ack": "said {offset}", "joined": "you are in {room}", "left": "left", "pong": "pong"}
        return text_frame(words[told["type"]].format_map(told).encode())

    def long_reply(self, json: list[bytes]) -> list[bytes]:
        return [self.reply(b"".join(json))]

    def refused(self, id_: MessageId, code: ErrorCode, message: str, retry_after: float | None = None) -> bytes:
        return text_frame(f"no: {message}".encode())

    def push(self, message: bytes, room: str, offset: int) -> bytes:
        return text_frame(f"{room} {offset} {msgspec.json.decode(message)['text']}".encode())


async def test_a_third_dialect_chats_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dialect.DIALECTS, "/lines", Lines)
    async with (
        serving() as server,
        neighbour(server),
        chatter(server.address) as friend,
        connect(server.address) as peer,
    ):
        await publish(server.address, "lobby", "before")
        await friend.ask("join", room="lobby")
        await peer.send(upgrade().replace(b"/ws", b"/lines", 1) + frame("join lobby") + frame("say lobby hi, Ann"))
        await peer.head()
        assert [await line(peer) for _ in range(3)] == ["you are in lobby", "said 2", "lobby 2 hi, Ann"]
        assert (await friend.next("message"))["text"] == "hi, Ann"
        await friend.ask("publish", room="lobby", text="hello, you two")
        assert await line(peer) == "lobby 3 hello, you two"
        await peer.send(frame("dance") + frame("leave lobby") + frame("leave lobby") + frame("ping"))
        told = [await line(peer) for _ in range(4)]
        assert told == ["no: dance is not known", "left", "no: this connection has not joined lobby", "pong"]
        await peer.send(frame(b"\x03\xe8", opcode=8))
        assert await peer.rest() == b"\x88\x02\x03\xe8"


async def line(peer: Peer) -> str:
    """The text of the next frame, which must be short."""
    first, size = await peer.take(2)
    assert first == 0x81
    return (await peer.take(size)).decode()


# -- the interface, and echo ------------------------------------------------------------------------------------------


def test_chat_v1_tells_a_gap_as_two_cursors() -> None:
    frame_of_it = text_frame(b'{"type":"gap","room":"lobby","after":"k3f9-3","until":"k3f9-9"}')
    assert ChatV1(ENCODER, Settings()).gap("lobby", 3, 9) == frame_of_it


def test_echo_gives_the_reason_of_a_refusal_as_text() -> None:
    assert EchoDialect(ENCODER, Settings()).refused(1, ErrorCode.RATE_LIMITED, "slowly", 1.5) == b"\x81\x06slowly"
