"""Dialects: chat.v1 and echo say what they should, and a third one is a class and a row in a table."""

import json
import re
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from chatserver.api import dialects
from chatserver.api.dialect import Command, Dialect, Echo
from chatserver.api.dialects import EchoDialect
from chatserver.api.dialects.chat_v1 import ChatV1
from chatserver.api.encoder import WireEncoder
from chatserver.api.pages import Page
from chatserver.chat.member import Member
from chatserver.chat.presence import Presence
from chatserver.chat.principal import Principal
from chatserver.log.interface import Record
from chatserver.protocol.client_messages import Join, Leave, Ping, Publish
from chatserver.protocol.errors import MessageError, MessageId
from chatserver.protocol.websocket import text_frame
from chatserver.reasons import ErrorCode, Reason
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
            raise MessageError(ErrorCode.UNKNOWN_TYPE, f"nobody knows how to {word}")
        return commands[word]

    def joined(self, id_: MessageId, member: Member, page: Page) -> list[bytes]:
        return [text_frame(f"you are in {member.room.name}".encode())]

    def left(self, id_: MessageId, room: str) -> bytes:
        return text_frame(b"left")

    def published(self, id_: MessageId, record: Record) -> bytes:
        return text_frame(b"said %d" % record.offset)

    def alive(self, id_: MessageId) -> bytes:
        return text_frame(b"alive")

    def refused(self, id_: MessageId, code: ErrorCode, message: str, retry_after: float | None = None) -> bytes:
        return text_frame(f"no: {message}".encode())

    def push(self, message: bytes, room: str, offset: int) -> bytes:
        return text_frame(f"{room} {offset} {json.loads(message)['text']}".encode())

    def gap(self, room: str, after: int, until: int) -> bytes:
        return text_frame(f"{room} lost {after + 1} to {until}".encode())


async def test_a_third_dialect_chats_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dialects.DIALECTS, "/lines", Lines)
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
        await friend.ask("publish", room="lobby", text="hello, whoever you are")
        assert await line(peer) == "lobby 3 hello, whoever you are"
        await peer.send(frame("dance") + frame("leave lobby") + frame("leave lobby") + frame("ping"))
        told = [await line(peer) for _ in range(4)]
        assert told == ["no: nobody knows how to dance", "left", "no: this connection has not joined lobby", "alive"]
        await peer.send(frame(b"\x03\xe8", opcode=8))
        assert await peer.rest() == b"\x88\x02\x03\xe8"


async def line(peer: Peer) -> str:
    """The text of the next frame, which is short."""
    first, size = await peer.take(2)
    assert first == 0x81
    return (await peer.take(size)).decode()


def test_the_toy_fits_in_forty_lines() -> None:
    toy = re.search(r"^class Lines.*?(?=^async def)", Path(__file__).read_text(), re.DOTALL | re.MULTILINE)
    assert toy is not None
    assert len(toy[0].strip().splitlines()) <= 40


# -- chat.v1 ----------------------------------------------------------------------------------------------------------


def said(*parts: bytes) -> Any:
    """The message in a frame, which is one, whole and not masked."""
    wire = b"".join(parts)
    assert wire[0] == 0x81
    start = {126: 4, 127: 10}.get(wire[1], 2)
    return json.loads(wire[start:])


@pytest.fixture
def v1() -> ChatV1:
    return ChatV1(ENCODER, Settings(ping_interval=25.0, max_rooms_per_connection=7))


def test_replies(v1: ChatV1) -> None:
    record = Record("lobby", 7, 1_763_800_000_123, "u_1", "Ann", "hi")
    message = ENCODER.message(record)
    presence = Presence()
    presence.enter(ANN)
    page = {"room": "lobby", "cursor": "k3f9-7", "messages": [json.loads(message)]}
    told: list[tuple[Any, dict[str, Any]]] = [
        (said(v1.left(1, "lobby")), {"type": "left", "id": 1, "room": "lobby"}),
        (said(v1.published("x", record)), {"type": "ack", "id": "x", "room": "lobby", "offset": 7, "cursor": "k3f9-7"}),
        (said(*v1.history(2, "lobby", Page(7, True, [message]))), {"id": 2, "recovered": True, **page}),
        (said(*v1.history(2, "lobby", Page(7, False, [message]))), {"type": "history", "recovered": False, **page}),
        (said(v1.members(3, "lobby", presence)), {"type": "members", "id": 3, "room": "lobby", "count": 1}),
        (said(v1.alive(4)), {"type": "pong", "id": 4}),
        (said(v1.refused(5, ErrorCode.RATE_LIMITED, "slowly", 1.5)), {"type": "error", "id": 5, "message": "slowly",
                                                                      "code": "rate_limited", "retry_after": 1.5}),
    ]  # fmt: skip
    for reply, expected in told:
        assert {name: reply.get(name) for name in expected} == expected


def test_pushes(v1: ChatV1) -> None:
    record = Record("lobby", 7, 0, "u_1", "Ann", "hi")
    push = said(v1.push(ENCODER.message(record), "lobby", 7))
    assert (push["type"], push["offset"], push["text"]) == ("message", 7, "hi")
    gap = said(v1.gap("lobby", 3, 9))
    assert (gap["type"], gap["after"], gap["until"]) == ("gap", "k3f9-3", "k3f9-9")
    presence = said(v1.presence("lobby", [ANN], [BOB], 5))
    assert [user["id"] for user in (*presence["joined"], *presence["left"])] == [ANN.face.id, BOB.face.id]
    assert presence["members"] == 5
    goaway = said(v1.goaway("restart", 2.5))
    assert (goaway["type"], goaway["reason"], goaway["retry_after"]) == ("goaway", "restart", 2.5)


@pytest.mark.parametrize("reason", Reason)
def test_a_close_has_the_reasons_code_or_the_one_that_is_echoed(v1: ChatV1, reason: Reason) -> None:
    wire = v1.close(reason, "why")
    assert wire[2:] == reason.close_code.value.to_bytes(2, "big") + b"why"
    assert v1.close(reason, code=3999)[2:4] == (3999).to_bytes(2, "big")


# -- echo, and the interface ------------------------------------------------------------------------------------------


def test_echo_says_what_was_said() -> None:
    echo = EchoDialect(ENCODER, Settings())
    assert echo.binary
    for data, opcode in (("héllo", 0x81), (b"\0\1", 0x82), ("", 0x81)):
        command = echo.decode(data)
        assert isinstance(command, Echo)
        assert (command.frame[0], command.frame[2:]) == (opcode, data.encode() if isinstance(data, str) else data)
    assert echo.refused(1, ErrorCode.RATE_LIMITED, "slowly", 1.5) == b"\x81\x06slowly"


def test_echo_is_spoken_only_where_it_was_asked_for() -> None:
    assert set(dialects.dialects(ENCODER, Settings())) == {"/ws"}
    assert set(dialects.dialects(ENCODER, Settings(echo=True))) == {"/ws", "/echo"}


def test_a_dialect_need_not_greet_tell_presence_or_say_goodbye() -> None:
    plain = Dialect()
    assert (plain.hello(ANN, "t"), plain.goaway("restart", 1.0)) == (b"", b"")
    assert plain.presence("lobby", [ANN], [], 1) is None
    for must in ("decode", "joined", "left", "published", "history", "members", "alive", "refused", "push", "gap"):
        method = getattr(plain, must)
        with pytest.raises(NotImplementedError):
            method(*signature(method).parameters)
