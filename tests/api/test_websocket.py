"""chat.v1 over WebSocket (CONTRACT section 4)."""

from pathlib import Path

import pytest

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


async def test_what_makes_no_sense_is_refused_under_its_id_and_the_connection_lives() -> None:
    """What that is, tests/protocol/test_client_messages.py says."""
    async with serving(message_rate=0) as server, chatter(server.address) as friend:
        for text, code, id_ in (
            ('{"type":"dance","id":7}', "unknown_type", {"id": 7}),
            ('{"type":"join","id":"ä","room":"Lobby"}', "bad_room", {"id": "ä"}),
            ('{"type":"leave","id":1.5,"room":"lobby"}', "not_joined", {"id": 1.5}),
            ('{"type":"publish","id":0,"room":"lobby","text":null}', "bad_field", {"id": 0}),
            ('{"type":"ping","id":[1]}', "bad_field", {}),
            ("[" * 16_000, "bad_json", {}),
            ("", "bad_json", {}),
        ):
            await raw(friend, text)
            error = await friend.hear()
            assert error.pop("message")
            assert error == {"type": "error", "code": code, **id_}
        await friend.say(type="ping")
        assert await friend.hear() == {"type": "pong"}
        assert await server.metric("chatserver_messages_total") == 0
