"""chat.v1 over WebSocket (CONTRACT section 4)."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.groups import GatedLog
from tests.support.peers import Chatter, ask, chatter, frame, publish
from tests.support.serving import serving


async def raw(friend: Chatter, text: str) -> None:
    await friend.peer.send(frame(text))


async def test_hello() -> None:
    async with (
        serving(publish_rate=7.5, message_rate=20.0, ping_interval=25.0) as server,
        chatter(server.address) as friend,
    ):
        hello = friend.hello
        assert list(hello) == ["type", "protocol", "session", "user", "ping", "limits"]
        assert hello["protocol"] == "chat.v1"
        assert hello["ping"] == 25
        assert hello["user"].keys() == {"id", "name"}
        sizes = {"text_bytes": 8192, "message_bytes": 16384, "rooms": 100}
        assert hello["limits"] == {**sizes, "publish_rate": 7.5, "message_rate": 20.0}


async def test_join_gives_what_was_missed_or_the_latest() -> None:
    async with serving() as server, chatter(server.address) as friend:
        for number in range(60):
            await friend.ask("publish", room="lobby", text=f"m{number}")
        joined = await friend.ask("join", room="lobby")
        assert list(joined) == ["type", "id", "room", "cursor", "recovered", "messages", "members"]
        assert joined["type"] == "joined"
        assert [m["offset"] for m in joined["messages"]] == list(range(11, 61))
        assert joined["recovered"] is True
        assert joined["members"] == 1
        epoch = joined["cursor"].partition("-")[0]
        again = await friend.ask("join", room="lobby", after=f"{epoch}-57")
        assert [m["offset"] for m in again["messages"]] == [58, 59, 60]
        assert (again["recovered"], again["members"]) == (True, 1)
        bare = await friend.ask("join", room="lobby", after=58)
        assert [m["offset"] for m in bare["messages"]] == [59, 60]
        lost = await friend.ask("join", room="lobby", after="other-57")
        assert lost["recovered"] is False


async def test_joining_far_back_pushes_the_rest(tmp_path: Path) -> None:
    """`joined` carries a page; what comes behind it is pushed, once and in order, among what is new."""
    async with serving(log=f"sqlite:{tmp_path / 'c.db'}") as server, chatter(server.address) as friend:
        for number in range(130):
            await friend.say(type="publish", room="lobby", text=f"m{number}")
        for _ in range(130):
            await friend.next("ack")
        joined = await friend.ask("join", room="lobby", after=0)
        await publish(server.address, "lobby", "new")
        offsets = [m["offset"] for m in joined["messages"]]
        while len(offsets) < 131:
            offsets.append((await friend.next("message"))["offset"])
        assert offsets == list(range(1, 132))


async def test_publish_is_acknowledged_and_comes_like_everyones() -> None:
    async with serving() as server, chatter(server.address) as friend, chatter(server.address) as other:
        await friend.ask("join", room="lobby")
        await other.ask("join", room="lobby")
        ack = await friend.ask("publish", room="lobby", text="hi")
        assert list(ack) == ["type", "id", "room", "offset", "cursor", "time"]
        assert (ack["type"], ack["offset"]) == ("ack", 1)
        own, theirs = await friend.next("message"), await other.next("message")
        assert own == theirs
        assert list(own) == ["type", "room", "offset", "cursor", "user", "text", "time"]
        assert own["user"] == friend.hello["user"]
        assert (own["cursor"], own["time"], own["text"]) == (ack["cursor"], ack["time"], "hi")


async def test_who_has_not_joined_hears_nothing_and_may_publish() -> None:
    async with serving() as server, chatter(server.address) as friend:
        assert (await friend.ask("publish", room="lobby", text="hi"))["type"] == "ack"
        assert (await friend.ask("ping"))["type"] == "pong"
        assert list(friend._heard) == []


async def test_the_same_key_is_the_same_message() -> None:
    async with serving() as server, chatter(server.address) as friend:
        await friend.ask("join", room="lobby")
        first = await friend.ask("publish", room="lobby", text="once", key="k")
        second = await friend.ask("publish", room="lobby", text="once", key="k")
        assert {**second, "id": first["id"]} == first
        await friend.ask("publish", room="lobby", text="two", key="k2")
        assert [(await friend.next("message"))["text"] for _ in range(2)] == ["once", "two"]


async def test_the_ack_comes_only_when_it_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    log = GatedLog()
    monkeypatch.setattr("chatserver.server.open_log", lambda url: log)
    async with serving() as server, chatter(server.address) as friend:
        await friend.ask("join", room="lobby")
        await friend.say(type="publish", id=1, room="lobby", text="hi")
        assert (await friend.ask("ping"))["type"] == "pong"  # attended to after it, answered before it
        assert list(friend._heard) == []
        log.release.set()
        assert {(await friend.next("ack", "message"))["type"] for _ in range(2)} == {"ack", "message"}


async def test_leave() -> None:
    async with serving() as server, chatter(server.address) as friend:
        await friend.ask("join", room="lobby")
        left = await friend.ask("leave", room="lobby")
        assert list(left) == ["type", "id", "room"]
        assert left["type"] == "left"
        await publish(server.address, "lobby", "unheard")
        assert (await friend.ask("leave", room="lobby"))["code"] == "not_joined"
        assert not [message for message in friend._heard if message["type"] == "message"]


async def test_history() -> None:
    async with serving(ring_messages=16) as server, chatter(server.address) as friend:
        for number in range(60):
            await friend.ask("publish", room="lobby", text=f"m{number}")

        async def offsets(**fields: Any) -> list[int]:
            page = await friend.ask("history", room="lobby", **fields)
            assert list(page) == ["type", "id", "room", "cursor", "recovered", "messages"]
            return [message["offset"] for message in page["messages"]]

        for _ in range(2):  # from the log, then with the room in memory
            assert await offsets() == list(range(11, 61))
            assert await offsets(limit=2) == [59, 60]
            assert await offsets(after=0, limit=2) == [1, 2]
            assert await offsets(after="58") == [59, 60]
            assert await offsets(before=3) == [1, 2]
            assert await offsets(before=60, limit=2) == [58, 59]
            await friend.ask("join", room="lobby")
        assert (await friend.ask("history", room="lobby", before=3, after=3))["code"] == "bad_field"
        assert (await friend.ask("history", room="lobby", limit=201))["code"] == "bad_field"
        assert (await friend.ask("history", room="lobby", after="a-b-c"))["code"] == "bad_cursor"


async def test_members_and_presence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatserver.server.HOUSEKEEPING", 0.1)
    monkeypatch.setattr("chatserver.chat.presence.TELL_EVERY", 0.1)
    async with serving() as server, chatter(server.address) as friend:
        await friend.ask("join", room="lobby")
        arrived = await friend.next("presence")
        assert (arrived["joined"], arrived["members"]) == ([friend.hello["user"]], 1)
        async with chatter(server.address) as other:
            await other.ask("join", room="lobby")
            told = await friend.next("presence")
            assert list(told) == ["type", "room", "joined", "left", "members"]
            assert (told["joined"], told["left"], told["members"]) == ([other.hello["user"]], [], 2)
            members = await friend.ask("members", room="lobby")
            assert members["type"] == "members"
            assert members["members"] == [friend.hello["user"], other.hello["user"]]
            assert members["count"] == 2
        told = await friend.next("presence")
        assert (told["joined"], told["left"], told["members"]) == ([], [other.hello["user"]], 1)


async def test_several_rooms_on_one_connection() -> None:
    async with serving(max_empty_rooms=10) as server, chatter(server.address) as friend:
        rooms = [f"room{number}" for number in range(10)]
        for room in rooms:
            await friend.ask("join", room=room)
        await friend.ask("leave", room="room3")
        await friend.ask("leave", room="room9")
        for _ in range(3):
            for room in rooms:
                await publish(server.address, room, "hi")
        heard = [await friend.next("message") for _ in range(24)]
        for room in rooms:
            offsets = [message["offset"] for message in heard if message["room"] == room]
            assert offsets == ([] if room in ("room3", "room9") else [1, 2, 3])


async def test_too_many_rooms() -> None:
    async with serving(max_rooms_per_connection=3) as server, chatter(server.address) as friend:
        for number in range(3):
            assert (await friend.ask("join", room=f"room{number}"))["type"] == "joined"
        refused = await friend.ask("join", room="another")
        assert (refused["type"], refused["code"]) == ("error", "too_many_rooms")
        assert (await friend.ask("join", room="room1"))["type"] == "joined"  # is in it already
        await friend.ask("leave", room="room0")
        assert (await friend.ask("join", room="another"))["type"] == "joined"


async def test_many_rooms_that_nobody_wrote_in() -> None:
    """So many for each connection, always; rooms with a past are not counted, and one of them may get one."""
    async with (
        serving(max_empty_rooms=2) as server,
        chatter(server.address) as friend,
        chatter(server.address) as other,
    ):
        await publish(server.address, "old", "hi")
        for number in range(2):
            assert (await friend.ask("join", room=f"room{number}"))["type"] == "joined"
        refused = await friend.ask("join", room="another")
        assert (refused["type"], refused["code"]) == ("error", "too_many_rooms")
        assert "in which nobody has written" in refused["message"]
        assert (await friend.ask("join", room="room1"))["type"] == "joined"  # is in it already
        assert (await friend.ask("join", room="old"))["type"] == "joined"
        for number in range(2):
            assert (await other.ask("join", room=f"mine{number}"))["type"] == "joined"
        for room in ("mine2", "room0"):  # a new one, and one that is in memory since somebody is in it
            assert (await other.ask("join", room=room))["code"] == "too_many_rooms"
        rooms = (await ask(server.address, "GET", "/rooms")).json["rooms"]
        assert {room["room"]: room["members"] for room in rooms} == {
            "old": 1, **{f"room{number}": 1 for number in range(2)}, **{f"mine{number}": 1 for number in range(2)},
        }  # fmt: skip
        await other.ask("leave", room="mine1")
        assert (await other.ask("join", room="room0"))["type"] == "joined"
        await other.ask("leave", room="room0")
        assert (await other.ask("join", room="mine1"))["type"] == "joined"
        await publish(server.address, "mine0", "hi")
        assert (await other.ask("join", room="mine2"))["type"] == "joined"


async def test_alone_in_a_room() -> None:
    async with serving() as server, chatter(server.address) as friend:
        joined = await friend.ask("join", room="den")
        assert joined["members"] == 1
        members = await friend.ask("members", room="den")
        assert (members["members"], members["count"]) == ([friend.hello["user"]], 1)
        assert (await ask(server.address, "GET", "/rooms/den")).json["members"] == 1
        assert (await friend.ask("history", room="den"))["messages"] == []
        assert (await friend.ask("join", room="den"))["members"] == 1
        await friend.ask("publish", room="den", text="hi")
        assert (await friend.next("message"))["offset"] == 1
        assert (await friend.ask("leave", room="den"))["type"] == "left"


async def test_too_many_messages() -> None:
    async with serving(publish_rate=1.0) as server, chatter(server.address) as friend:
        answers = [await friend.ask("publish", room="lobby", text="hi") for _ in range(6)]
        refused = [answer for answer in answers if answer["type"] == "error"]
        assert refused
        assert {answer["code"] for answer in refused} == {"rate_limited"}
        assert all(0 < answer["retry_after"] <= 10 for answer in refused)
        assert (await friend.ask("ping"))["type"] == "pong"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"type":"typing","id":7,"room":"lobby"}', "unknown_type"),
        ('{"type":"auth","id":7,"token":"t"}', "unknown_type"),
        ('{"type":"dance","id":7}', "unknown_type"),
        ('{"id":7}', "bad_field"),
        ('{"type":["join"],"id":7}', "bad_field"),
        ('{"type":"join","id":7}', "bad_field"),
        ('{"type":"join","id":7,"room":"Lobby"}', "bad_room"),
        ('{"type":"join","id":7,"room":"a\\u202eb"}', "bad_room"),
        ('{"type":"join","id":7,"room":"lobby","after":"x-y"}', "bad_cursor"),
        ('{"type":"join","id":7,"room":"lobby","after":-1}', "bad_cursor"),
        ('{"type":"join","id":7,"room":"lobby","after":1e400}', "bad_field"),
        ('{"type":"publish","id":7,"room":"lobby"}', "bad_field"),
        ('{"type":"publish","id":7,"room":"lobby","text":null}', "bad_field"),
        ('{"type":"publish","id":7,"room":"lobby","text":" "}', "bad_field"),
        ('{"type":"publish","id":7,"room":"lobby","text":"a\\u0000b"}', "bad_field"),
        ('{"type":"publish","id":7,"room":"lobby","text":"a\\u202eb"}', "bad_field"),
        ('{"type":"publish","id":7,"room":"lobby","text":"e' + "\\u0301" * 1000 + '"}', "bad_field"),
        ('{"type":"publish","id":7,"room":"lobby","room":"ops","text":"hi"}', "bad_field"),
        ('{"type":"leave","id":7,"room":"lobby"}', "not_joined"),
    ],
)
async def test_a_message_that_makes_no_sense_names_itself_and_the_connection_lives(text: str, code: str) -> None:
    async with serving() as server, chatter(server.address) as friend:
        await raw(friend, text)
        error = await friend.hear()
        assert (error["type"], error["id"], error["code"]) == ("error", 7, code)
        assert error["message"]
        assert (await friend.ask("ping"))["type"] == "pong"
        assert await server.metric("chatserver_messages_total") == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        '"join"',
        "{}",
        "[" * 16_000,
        '{"a":' * 3_000,
        '{"type":"ping","id":' + "9" * 400 + "}",
        '{"type":"ping","id":[1]}',
        '{"type":"ping","id":"' + "x" * 65 + '"}',
        '{"type":"ping","id":NaN}',
        '{"type":"ping"}garbage',
    ],
)
async def test_what_is_no_message_at_all(text: str) -> None:
    async with serving() as server, chatter(server.address) as friend:
        await raw(friend, text)
        error = await friend.hear()
        assert error["type"] == "error"
        assert error["code"] in ("bad_json", "bad_field")
        assert "id" not in error
        assert (await friend.ask("ping"))["type"] == "pong"


@pytest.mark.parametrize("id_", [0, -5, 1.5, "a", "ä" * 64, 2**53 - 1])
async def test_any_id_comes_back_unchanged(id_: object) -> None:
    async with serving() as server, chatter(server.address) as friend:
        await friend.say(type="ping", id=id_)
        pong = await friend.hear()
        assert pong == {"type": "pong", "id": id_}
        assert type(pong["id"]) is type(id_)


async def test_without_an_id_there_is_none_in_the_answer() -> None:
    async with serving() as server, chatter(server.address) as friend:
        await friend.say(type="ping")
        assert await friend.hear() == {"type": "pong"}
