"""Read markers, unread counts and typing, on every transport."""

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from chatserver.api import services
from chatserver.chat import read_markers
from chatserver.log.interface import LogBusy
from tests.api.asking import event, open_stream
from tests.support.peers import Answer, Chatter, Peer, ask, chatter, connect, publish
from tests.support.serving import Serving, eventually, serving

ANN = {"Cookie": "chat_session=ann-ann-ann-ann-ann-ann"}
BOB = {"Cookie": "chat_session=bob-bob-bob-bob-bob-bob"}


async def put_read(peer: Peer, room: str, offset: int, *, who: dict[str, str] = ANN) -> Answer:
    return await peer.request("PUT", f"/rooms/{room}/read", {"offset": offset}, headers=who)


async def unread(peer: Peer, *, who: dict[str, str] = ANN) -> Any:
    answer = await peer.request("GET", "/unread", headers=who)
    assert answer.status == 200, answer
    return answer.json["rooms"]


def counts(read: int, unread: int, mentions: int = 0) -> dict[str, int]:
    return {"read": read, "unread": unread, "mentions": mentions}


@asynccontextmanager
async def joined(server: Serving, room: str, who: dict[str, str]) -> AsyncIterator[Chatter]:
    async with chatter(server.address, headers=who) as client:
        await client.ask("join", room=room)
        yield client


async def test_read_markers_and_unread_counts(server: Serving, peer: Peer) -> None:
    for number in range(5):
        await publish(server.address, "lobby", f"m{number}")
    await publish(server.address, "ops", "hi")
    assert await unread(peer) == {}
    async with joined(server, "lobby", ANN) as ann:
        await publish(server.address, "lobby", "for Ann", mentions=[ann.hello["user"]["id"]])
        await ann.say(type="read", room="lobby", offset=2)
        assert (await ann.ask("read", room="lobby", offset=1)) == {
            "type": "read", "id": "q2", "room": "lobby", "offset": 1,
        }  # fmt: skip
    answer = await put_read(peer, "ops", 9)
    assert (answer.status, answer.body) == (204, b"")
    assert await unread(peer) == {"lobby": counts(2, 4, 1), "ops": counts(1, 0)}
    assert await unread(peer, who=BOB) == {}
    await publish(server.address, "ops", "more")
    await put_read(peer, "lobby", 1 << 52)
    await put_read(peer, "nowhere", 1)
    assert await unread(peer) == {"lobby": counts(6, 0), "ops": counts(1, 1)}, "later messages are unread"


async def test_markers_outlive_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_markers, "STORE_EVERY", 60.0)  # only the end of the server stores them
    log = f"sqlite:{tmp_path / 'chat.db'}"
    async with serving(log=log) as server:
        for number in range(3):
            await publish(server.address, "lobby", f"m{number}")
        async with connect(server.address) as peer:
            assert (await put_read(peer, "lobby", 2)).status == 204
            assert await unread(peer) == {"lobby": counts(2, 1)}
        os.kill(os.getpid(), signal.SIGTERM)
        await eventually(lambda: server.server.parts.services.markers.waiting == 0)
    async with serving(log=log) as server, connect(server.address) as peer:
        assert await unread(peer) == {"lobby": counts(2, 1)}


@pytest.mark.jumping_clock
async def test_a_users_other_connections_are_told(server: Serving, peer: Peer) -> None:
    """That other users are not told: tests/chat/test_notices.py."""
    for text in ("hi", "there"):
        await publish(server.address, "lobby", text)
    async with (
        joined(server, "lobby", ANN) as ann, joined(server, "lobby", ANN) as phone, connect(server.address) as stream,
    ):  # fmt: skip
        await open_stream(stream, "?after=2", headers=ANN)
        await ann.say(type="read", room="lobby", offset=1)
        told = {"type": "read", "room": "lobby", "offset": 1}
        assert await phone.next("read") == told
        found = await event(stream, "read")
        assert (json.loads(found["data"]), "id" in found) == (told, False)
        await put_read(peer, "lobby", 2)
        assert await ann.next("read") == {**told, "offset": 2}, "a connection is not told of its own marker"
    async with joined(server, "lobby", BOB) as bob, chatter(server.address, headers=BOB) as outside:
        await outside.say(type="read", room="lobby", offset=1)
        assert await bob.next("read") == told


@pytest.mark.parametrize("transport", ["websocket", "http"])
async def test_typing_is_told_to_the_others(server: Serving, peer: Peer, transport: str) -> None:
    async with joined(server, "lobby", ANN) as ann, joined(server, "lobby", BOB) as bob, connect(server.address) as eve:
        await open_stream(eve, "?after=0")
        if transport == "websocket":
            await ann.say(type="typing", room="lobby")
        else:
            answer = await peer.request("POST", "/rooms/lobby/typing", headers=ANN)
            assert (answer.status, answer.body) == (204, b"")
        told = {"type": "typing", "room": "lobby", "user": ann.hello["user"]}
        assert await bob.next("typing") == told
        found = await event(eve, "typing")
        assert (json.loads(found["data"]), "id" in found) == (told, False)


async def test_silent_commands_are_counted_like_others(server: Serving) -> None:
    """Commands without an answer are not bounded otherwise."""
    async with serving(message_rate=1.0) as limited, chatter(limited.address) as client:
        for _ in range(200):
            await client.say(type="typing", room="lobby")
            await client.say(type="read", room="lobby", offset=1)
        error = await client.next("error")
        assert error["code"] == "rate_limited"


async def test_malformed_markers_are_refused(server: Serving, peer: Peer) -> None:
    for method, path, body, status, code in [
        ("PUT", "/rooms/Lobby/read", b'{"offset":1}', 400, "bad_room"),
        ("PUT", "/rooms/lobby/read", b'{"offset":-1}', 400, "bad_field"),
        ("PUT", "/rooms/lobby/read", b"", 400, "bad_json"),
        ("POST", "/rooms/lobby/read", b'{"offset":1}', 405, "method_not_allowed"),
        ("GET", "/rooms/lobby/typing", b"", 405, "method_not_allowed"),
        ("POST", "/rooms/Lobby/typing", b"", 400, "bad_room"),
        ("POST", "/unread", b"", 405, "method_not_allowed"),
    ]:
        answer = await peer.request(method, path, body, headers={"Content-Type": "application/json"})
        assert (answer.status, answer.error) == (status, code), path
    foreign = {"Origin": "https://evil.example"}
    for method, path in (("GET", "/unread"), ("POST", "/rooms/lobby/typing"), ("PUT", "/rooms/lobby/read")):
        assert (await ask(server.address, method, path, headers=foreign)).status == 403


async def test_a_marker_that_cannot_be_kept_is_refused_for_now(server: Serving, peer: Peer) -> None:
    await publish(server.address, "lobby", "hi")
    markers = server.server.parts.services.markers
    with mock.patch.object(markers, "move", side_effect=LogBusy("the disk is slow")):
        answers = [await put_read(peer, "lobby", 1)]
        async with joined(server, "lobby", ANN) as ann:  # the room is now in memory, so no task reads its last offset
            answers.append(await put_read(peer, "lobby", 1))
            error = await ann.ask("read", room="lobby", offset=1)
    for answer in answers:
        assert (answer.status, answer.error, answer.headers["retry-after"]) == (503, "unavailable", "1")
    assert (error["code"], error["retry_after"]) == ("unavailable", 1.0)


async def test_one_network_moves_a_bounded_number_of_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cookie is another user: one address pushed out the markers of everybody else."""
    monkeypatch.setattr(services, "MARKERS_SHARE", 0.1)
    async with serving(publish_rate=0.01) as server, connect(server.address) as peer:
        await publish(server.address, "lobby", "hi")
        statuses = [(await put_read(peer, "lobby", 1, who=who)).status for who in (ANN, BOB)]
        assert statuses == [204, 429]
        async with joined(server, "lobby", ANN) as ann:
            assert (await ann.ask("read", room="lobby", offset=1))["code"] == "rate_limited"
        async with connect(server.address, source="127.0.0.2") as elsewhere:
            assert (await put_read(elsewhere, "lobby", 1)).status == 204
