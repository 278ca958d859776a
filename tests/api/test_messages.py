"""Publishing and history over HTTP."""

import re
from pathlib import Path
from typing import Any

import pytest
import trio

from chatserver.chat.room import Room
from chatserver.log import open_log
from chatserver.log.interface import Draft
from tests.api.asking import TIME
from tests.support.groups import SteppedLog, append
from tests.support.peers import Address, Answer, Chatter, Peer, ask, connect, publish, request
from tests.support.serving import Serving, eventually, serving

PATH = "/rooms/lobby/messages"


async def post(peer: Peer, body: bytes | str, content_type: str = "text/plain") -> Answer:
    data = body.encode() if isinstance(body, str) else body
    return await peer.request("POST", PATH, data, headers={"Content-Type": content_type})


async def history(address: Address, query: str = "", room: str = "lobby") -> Any:
    answer = await ask(address, "GET", f"/rooms/{room}/messages{query}")
    assert answer.status == 200, answer
    return answer.json


async def texts(address: Address) -> list[str]:
    return [message["text"] for message in (await history(address))["messages"]]


# -- publish --------------------------------------------------------------------------------------------------------


async def test_publish_answers_with_the_cursor(server: Serving, peer: Peer) -> None:
    answer = await post(peer, '{"text":"hi"}', "application/json")
    assert answer.status == 201
    assert list(answer.json) == ["room", "offset", "cursor", "time", "user"]
    assert (answer.json["room"], answer.json["offset"]) == ("lobby", 1)
    assert re.fullmatch(r"\w+-1", answer.json["cursor"])
    assert TIME.fullmatch(answer.json["time"])
    (message,) = (await history(server.address))["messages"]
    assert list(message) == ["room", "offset", "cursor", "user", "text", "time"]
    assert message["text"] == "hi"
    assert {**message, **answer.json} == message
    assert message["user"].keys() == {"id", "name"}


async def test_a_byte_order_mark_is_no_part_of_a_body(server: Serving, peer: Peer) -> None:
    """PowerShell and old Notepads begin a file with one, and `curl -d @file` sends it: `!roll` was then no command."""
    for body, content_type in (("\ufeff!roll", "text/plain"), ('\ufeff{"text":"!roll"}', "application/json")):
        assert (await post(peer, body, content_type)).status == 201
    assert await texts(server.address) == ["!roll", "!roll"]


async def test_a_publisher_ahead_of_the_members_is_not_read(
    server: Serving, peer: Peer, friend: Chatter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await friend.ask("join", room="lobby")
    with monkeypatch.context() as patch:
        patch.setattr(Room, "congested", True)
        assert (await post(peer, "hi")).status == 201
        await server.in_phase("paused")
        await peer.send(request("GET", PATH))
    hub = server.server.parts.hub
    assert hub.rooms["lobby"].paused
    hub.broadcaster.resume_publishers(hub.rooms["lobby"])
    assert (await peer.response()).status == 200


async def test_malformed_publishes_are_refused(server: Serving, peer: Peer) -> None:
    """Each is refused with its error, stores nothing, and the connection goes on. More cases: tests/protocol."""
    for body, content_type, status, code in (
        (b"{", "application/json", 400, "bad_json"),
        (b'{"x":' + b"[" * 5000, "application/json", 400, "bad_json"),
        (b'{"text":"a","text":"b"}', "application/json", 400, "bad_field"),
        (b'{"text":"a","name":"Ann"}', "application/json", 400, "bad_field"),  # no choice of names
        (b"a\x07b", "text/plain", 400, "bad_field"),
        (b"hi", "image/png", 415, "unsupported_media_type"),
    ):
        answer = await post(peer, body, content_type)
        assert (answer.status, answer.error) == (status, code)
    answer = await peer.request("POST", PATH, headers={"Content-Length": "0"})
    assert (answer.status, answer.error) == (400, "bad_field")
    for room in ("Lobby", "-a", "a" * 65, "a%2Fb", "a%00b", "%E2%80%AE", "lobby%20", "caf%C3%A9"):
        answer = await ask(server.address, "POST", f"/rooms/{room}/messages", b"hi")
        assert answer.status in (400, 404)
        assert answer.error in ("bad_room", "bad_request", "not_found")
    assert (await post(peer, "hällo a=b&c", "application/x-www-form-urlencoded")).status == 201
    assert await texts(server.address) == ["hällo a=b&c"], "the body may be the text itself"


async def test_201_comes_only_when_it_is_durable() -> None:
    log = SteppedLog()
    async with serving(engine=log) as server, connect(server.address) as peer:
        await peer.send(request("POST", PATH, b"hi"))
        await eventually(lambda: log.groups == 1)
        with trio.move_on_after(0.2) as waited:
            await peer.more()
        assert waited.cancelled_caught, "the answer came before the log had stored it"
        assert await texts(server.address) == []
        log.steps.release()
        assert (await peer.response()).status == 201


async def test_the_same_key_is_the_same_message(tmp_path: Path) -> None:
    """Also after a restart, because a client retries after its connection breaks."""
    url = f"sqlite:{tmp_path / 'chat.db'}"
    async with serving(log=url) as server, connect(server.address) as peer:
        first = await publish(server.address, "lobby", "once", key="k1")
        places = [first]

        async def race() -> None:
            places.append(await publish(server.address, "lobby", "once", key="k1"))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(race)
        assert places == [first] * 21
        body = {"text": "mine", "key": "k1"}
        mine = await peer.request("POST", PATH, body, headers={"User-Agent": "somebody else"})
        assert mine.json["offset"] == 2, "keys belong to a user"
        for ending in ("", "and more", "x" * 1000):  # a long name is cut
            same = await peer.request("POST", PATH, body, headers={"User-Agent": "a" * 256 + ending})
            assert same.json["offset"] == 3
    async with serving(log=url) as server:
        assert await publish(server.address, "lobby", "once", key="k1") == first
        assert await texts(server.address) == ["once", "mine", "mine"]


async def test_messages_over_the_rate_are_refused_before_their_content_is_read() -> None:
    """Otherwise costly texts by 500 peers of one address delay every pong by seconds."""
    async with serving(publish_rate=0.01) as server, connect(server.address) as peer:
        answers = [await post(peer, body) for body in (b"hi", b"\xff", b"hi")]
        assert [answer.status for answer in answers] == [201, 429, 429]
        assert [answer.error for answer in answers[1:]] == ["rate_limited"] * 2
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers[1:])
        assert await texts(server.address) == ["hi"]


# -- history --------------------------------------------------------------------------------------------------------


async def test_pages_of_history(tmp_path: Path) -> None:
    """From the log; that a page from the ring is the same: tests/api/test_pages.py."""
    url = f"sqlite:{tmp_path / 'chat.db'}"
    log = open_log(url)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run, lambda records: None)
        for number in range(1, 121):
            await append(log, Draft("lobby", "u_1", "Ann", f"m{number}"))
        nursery.cancel_scope.cancel()
    async with serving(log=url) as server:
        epoch = (await history(server.address))["cursor"].partition("-")[0]
        for query, offsets, reaches in (
            ("", range(71, 121), 120),
            ("?limit=3", range(118, 121), 120),
            ("?after=0&limit=3", range(1, 4), 3),
            ("?after=117", range(118, 121), 120),
            (f"?after={epoch}-118", range(119, 121), 120),
            ("?after=120", [], 120),
            ("?before=4", range(1, 4), 3),
            ("?before=100&limit=2", range(98, 100), 99),
            ("?before=500&limit=2", range(119, 121), 120),
            ("?before=1", [], 0),
            ("?after=other-118&limit=5", range(116, 121), 120),
            ("?before=other-118&limit=5", range(116, 121), 120),
        ):
            page = await history(server.address, query)
            assert list(page) == ["room", "cursor", "recovered", "messages"]
            assert [message["offset"] for message in page["messages"]] == list(offsets), query
            assert (page["cursor"], page["recovered"]) == (f"{epoch}-{reaches}", "other" not in query), query


async def test_malformed_queries_of_history(peer: Peer) -> None:
    for query, code in (
        *((query, "bad_field") for query in ("limit=0", "limit=201", "limit=ten", "limit=1&limit=2")),
        *((query, "bad_field") for query in ("wait=-1", "wait=nan", "wait=inf", "after=1&before=2")),
        *(
            (f"{name}={number}", "bad_field")
            for name in ("limit", "wait")
            for number in ("1_0", "+5", "1.2.3", "%D9%A3")
        ),
        ("before=2&wait=5", "bad_field"),
        *((query, "bad_cursor") for query in ("after=x-y", "after=-1", "after=" + "9" * 30)),
        ("after=%FF", "bad_request"),
    ):
        answer = await peer.request("GET", f"{PATH}?{query}")
        assert (answer.status, answer.error) == (400, code), query


async def test_a_room_without_messages_is_empty(server: Serving) -> None:
    for query in ("", "?before=1000"):
        page = await history(server.address, query, room="nobody")
        assert (page["messages"], page["recovered"]) == ([], True)
        assert page["cursor"].endswith("-0"), "offset 0 of the room"
