"""Closed rooms are refused in every request, and no answer tells whether they exist."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from chatserver.log.interface import Draft
from chatserver.settings.rooms import Audience, Guests, RoomPolicy
from tests.api.asking import hold_back
from tests.support.moderating import MODERATOR, moderated, sanction, signed_in
from tests.support.peers import Peer, ask, chatter, connect, publish
from tests.support.serving import Serving, eventually, serving
from tests.support.tokens import bearer, secret_file, token

ROOMS = (
    ("staff-*", RoomPolicy(read=Audience.GRANTED, write=Audience.GRANTED)),
    ("news", RoomPolicy(write=Audience.MODERATORS)),
    ("jobs", RoomPolicy(read=Audience.SIGNED_IN, write=Audience.EVERYONE, list=True)),
)
READS = (
    "/rooms/{room}",
    "/rooms/{room}/messages",
    "/rooms/{room}/messages?wait=1",
    "/rooms/{room}/messages?before=9",
    "/poll?room=lobby&room={room}",
    "/rooms/{room}/events",
    "/rooms/{room}/members",
)


@pytest.fixture
async def closed() -> AsyncIterator[Serving]:
    """A server with a message in every kind of room."""
    async with serving(rooms=ROOMS) as server:
        await write(server, "staff-one", "news", "jobs", "lobby")
        yield server


async def write(server: Serving, *rooms: str) -> None:
    """Write into the log directly, past all rights; no answer may show these messages."""
    for room in rooms:
        server.server.parts.hub.publish(Draft(room, "u_1", "Ann", "secret words"), lambda stored: None)


async def refused(peer: Peer, method: str, path: str, body: bytes = b"") -> Any:
    answer = await peer.request(method, path, body)
    assert (answer.status, answer.error) == (403, "forbidden"), path
    return answer.json


async def test_reading_is_refused_alike_whether_the_room_exists(closed: Serving) -> None:
    async with connect(closed.address) as peer:
        for path in READS:
            told = [
                str(await refused(peer, "GET", path.format(room=room))).replace(room, "")
                for room in ("staff-one", "staff-two")
            ]
            assert told[0] == told[1], "the answers tell whether the room exists"
            answer = await peer.request("HEAD", path.format(room="staff-one"))
            assert answer.status == 403
        for method, path in (("POST", "messages"), ("POST", "typing"), ("PUT", "read")):
            await refused(peer, method, f"/rooms/staff-one/{path}", b"hi")
    async with closed.server.parts.hub.registry.using("staff-one", "192.0.2.1"):
        pass
    async with chatter(closed.address) as friend:
        for command in ("read", "typing"):
            await friend.say(type=command, room="staff-one", offset=1)
            assert (await friend.next("error"))["code"] == "forbidden"
    # A page of another site reads public rooms only.
    for room, status in (("staff-one", 403), ("news", 200)):
        answer = await ask(closed.address, "GET", f"/rooms/{room}/messages", headers={"Origin": "https://evil.example"})
        assert answer.status == status


async def test_reading_and_writing_are_separate_rights(closed: Serving) -> None:
    async with connect(closed.address) as peer:
        assert (await peer.request("GET", "/rooms/news/messages")).status == 200
        for path in ("messages", "typing"):
            await refused(peer, "POST", f"/rooms/news/{path}", b"hi")
        assert (await peer.request("POST", "/rooms/jobs/messages", b"hi")).status == 201
        await refused(peer, "GET", "/rooms/jobs/messages")
        await refused(peer, "GET", "/rooms/jobs/sanctions")


async def test_a_user_learns_before_writing_whether_a_room_takes_messages(tmp_path: Path) -> None:
    """It was found out by writing: by the policy of the room, a sign-in, or a sanction, which a look does not count."""
    async with moderated(tmp_path, rooms=ROOMS) as server:

        async def why(room: str, who: dict[str, str] | None = None) -> Any:
            told = (await ask(server.address, "GET", f"/rooms/{room}", headers=who or {})).json
            assert told["may_write"] is ("why" not in told)
            return told.get("why")

        ann = signed_in("u_ann")
        assert await why("lobby") is None
        assert await why("news") == {"code": "unauthenticated", "message": "sign in to write in news"}
        assert await why("news", ann) == {"code": "forbidden", "message": "you may not write in news"}
        assert await why("news", MODERATOR) is None
        await sanction(server.address, kind="mute", user="u_ann", seconds=600, reason="spam")
        muted = await why("lobby", ann)
        assert 0 < muted.pop("retry_after") <= 600
        assert muted == {"code": "forbidden", "message": "you may not write in lobby for another 10 minutes: spam"}
        assert not any(server.server.parts.services.moderation.refused.values())


async def test_a_writer_who_may_not_read_learns_nothing_about_messages_of_others(closed: Serving) -> None:
    """Whether one exists, was deleted, is an edit or has reactions; an author still edits and deletes."""
    path = "/rooms/jobs/messages"
    async with connect(closed.address) as peer, chatter(closed.address) as friend:
        assert (await peer.request("POST", path, b"mine")).status == 201
        assert (await peer.request("PATCH", f"{path}/2", b"mine again")).status == 200
        assert (await peer.request("DELETE", f"{path}/2")).status == 200
        assert (await peer.request("DELETE", f"{path}/2")).status == 410
        for offset in (1, 9):  # one of another user, and none
            told = [
                await refused(peer, "PATCH", f"{path}/{offset}", b"x"),
                await refused(peer, "DELETE", f"{path}/{offset}"),
                await refused(peer, "PUT", f"{path}/{offset}/reactions/%F0%9F%91%8D"),
                (await peer.request("POST", path, {"text": "x", "reply_to": offset})).json,
            ]
            assert [answer["error"]["code"] for answer in told] == ["forbidden"] * 4
            assert len({answer["error"]["message"] for answer in told[:2]}) == 1
        for command, fields in (
            ("edit", {"offset": 2, "text": "x"}), ("delete", {"offset": 3}), ("delete", {"offset": 9}),
            ("react", {"offset": 1, "emoji": "\U0001f44d", "on": True}), ("publish", {"text": "x", "reply_to": 2}),
        ):  # fmt: skip
            refusal = await friend.ask(command, room="jobs", **fields)
            assert (refusal["type"], refusal["code"]) == ("error", "forbidden")


async def test_a_list_shows_the_rooms_that_the_user_may_read(closed: Serving) -> None:
    answer = await ask(closed.address, "GET", "/rooms")
    assert sorted(room["room"] for room in answer.json["rooms"]) == ["jobs", "lobby", "news"]
    answer = await ask(closed.address, "GET", "/rooms?limit=1")
    assert len(answer.json["rooms"]) == 1
    answer = await ask(closed.address, "GET", "/rooms", headers={"Origin": "https://evil.example"})
    assert len(answer.json["rooms"]) == 3


async def test_lists_of_two_networks_at_one_time_hide_what_each_may_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pages of other sites read as nobody, but one network may be banned where another is not."""
    async with moderated(tmp_path) as server, trio.open_nursery() as nursery:
        await write(server, "lobby", "ops")
        await sanction(server.address, "lobby", kind="ban", network="127.0.0.2")
        await sanction(server.address, "ops", kind="ban", network="127.0.0.3")
        release = hold_back(monkeypatch, server.server.parts.log, "rooms")
        listed: dict[str, list[str]] = {}

        async def ask_from(source: str) -> None:
            answer = await ask(server.address, "GET", "/rooms", headers={"Origin": "https://e.example"}, source=source)
            listed[source] = [room["room"] for room in answer.json["rooms"]]

        for source in ("127.0.0.2", "127.0.0.3"):
            nursery.start_soon(ask_from, source)
        await server.in_phase("serving", 2)
        release.set()
        await eventually(lambda: len(listed) == 2)
        assert listed == {"127.0.0.2": ["ops"], "127.0.0.3": ["lobby"]}


async def test_hidden_newest_rooms_do_not_hide_the_others() -> None:
    async with serving(rooms=ROOMS) as server:
        await publish(server.address, "lobby", "hi")
        await write(server, *(f"staff-{number}" for number in range(250)))
        await publish(server.address, "tea", "hi")
        answer = await ask(server.address, "GET", "/rooms?limit=2")
        assert sorted(room["room"] for room in answer.json["rooms"]) == ["lobby", "tea"]


async def test_a_list_shows_rooms_that_the_token_names_however_old_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the thousand rooms written last were looked at."""
    monkeypatch.setattr("chatserver.api.rooms.MAX_READ", 20)
    async with serving(log=f"sqlite:{tmp_path}/chat.db", token_key=(secret_file(tmp_path),)) as server:
        await publish(server.address, "team-red", "hi")
        for number in range(20):
            await publish(server.address, f"other-{number}", "hi")
        await publish(server.address, "team-blue", "hi")
        headers = bearer(token(chat={"rooms": {"team-red": "r", "team-b*": "r", "team-none": "r"}}))
        answer = await ask(server.address, "GET", "/rooms", headers=headers)
    assert [(room["room"], room["messages"]) for room in answer.json["rooms"]] == [("team-blue", 1), ("team-red", 1)]


@pytest.mark.parametrize("most", [1000, 20])
async def test_a_search_finds_what_few_rooms_have_of_a_frequent_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Newer matches in rooms that the user may not read hid them: of ten million messages, all of a common word's.

    The room is found among those written last, or else by the token that names it.
    """
    monkeypatch.setattr("chatserver.log.sqlite_search.CANDIDATES", 2)
    monkeypatch.setattr("chatserver.api.pipelines.search.MAX_READ", most)
    monkeypatch.setattr("chatserver.log.sqlite_index.INDEX_INTERVAL", 0.01)
    async with serving(log=f"sqlite:{tmp_path}/chat.db", token_key=(secret_file(tmp_path),)) as server:
        await publish(server.address, "team-red", "secret words")
        await write(server, *(f"other-{number}" for number in range(25)))
        await publish(server.address, "tea", "hi")
        await eventually(lambda: not server.server.parts.log.index.lag)
        headers = bearer(token(chat={"rooms": {"team-red": "r"}}))
        answer = await ask(server.address, "GET", "/search?q=secret", headers=headers)
        assert [result["room"] for result in answer.json["results"]] == ["team-red"]


async def test_guests_may_only_read() -> None:
    async with serving(guests=Guests.READ, rooms=ROOMS) as server:
        await write(server, "lobby")
        async with connect(server.address) as peer, chatter(server.address) as friend:
            await refused(peer, "POST", "/rooms/lobby/messages", b"hi")
            assert (await peer.request("GET", "/rooms/lobby/messages")).status == 200
            assert (await friend.ask("join", room="lobby"))["type"] == "joined"
            assert (await friend.ask("publish", room="lobby", text="hi"))["code"] == "forbidden"


async def test_guests_without_rights(tmp_path: Path) -> None:
    """Guests may load the page, where people sign in, and request the server's health."""
    async with serving(guests=Guests.NONE, token_key=(str(tmp_path / "key"),)) as server:
        async with connect(server.address) as peer:
            reads = [("GET", path.format(room="lobby")) for path in READS]
            for method, path in (
                *reads, ("GET", "/rooms"), ("GET", "/search?q=hi"), ("GET", "/unread"), ("GET", "/session"),
                ("POST", "/session"),
            ):  # fmt: skip
                answer = await peer.request(method, path)
                assert (answer.status, answer.error) == (401, "unauthenticated")
            page = await peer.request("GET", "/")
            assert (page.status, "set-cookie" in page.headers) == (200, False)
            assert (await peer.request("GET", "/healthz")).status == 200
        async with chatter(server.address) as friend:
            assert (await friend.ask("join", room="lobby"))["code"] == "unauthenticated"
            assert (await friend.ask("auth", token="x" * 22))["code"] == "unauthenticated"
            assert (await friend.ask("ping"))["type"] == "pong"
