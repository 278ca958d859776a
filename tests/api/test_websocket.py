"""chat.v1 over WebSocket: the fields of each message, in their order."""

import pytest
import trio

from chatserver.chat.member import Wanted
from chatserver.log.interface import Range, Record
from tests.support.peers import ask, chatter, frame, say
from tests.support.serving import serving


async def test_hello_names_the_user_and_the_limits() -> None:
    async with (
        serving(publish_rate=7.5, message_rate=20.0, ping_interval=25.0) as server,
        chatter(server.address, headers={"Sec-WebSocket-Protocol": "x, chat.v1"}) as friend,
    ):
        assert friend.handshake.headers["sec-websocket-protocol"] == "chat.v1"
        hello = friend.hello
        assert list(hello) == ["type", "protocol", "session", "user", "ping", "limits"]
        assert (hello["protocol"], hello["ping"]) == ("chat.v1", 25)
        assert hello["user"].keys() == {"id", "name"}
        sizes = {"text_bytes": 8192, "message_bytes": 16384, "rooms": 100}
        assert hello["limits"] == {**sizes, "publish_rate": 7.5, "message_rate": 20.0}


async def test_a_binary_message_is_refused() -> None:
    async with serving() as server, chatter(server.address) as friend:
        await friend.peer.send(frame(b'{"type":"ping"}', opcode=2))
        assert (await friend.closed()).code == 1002


@pytest.mark.jumping_clock
async def test_two_people_join_talk_and_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two people join, receive the same messages, list the members, read the history, and leave."""
    monkeypatch.setattr("chatserver.server.HOUSEKEEPING", 1)
    monkeypatch.setattr("chatserver.chat.presence.NOTICE_INTERVAL", 0.1)
    async with serving(presence_grace=1.0) as server, chatter(server.address) as friend:
        user = friend.hello["user"]
        joined = await friend.ask("join", room="lobby")
        assert list(joined) == ["type", "id", "room", "cursor", "recovered", "messages", "members"]
        assert (joined["type"], joined["recovered"], joined["messages"], joined["members"]) == ("joined", True, [], 1)
        told = await friend.next("presence")
        assert list(told) == ["type", "room", "joined", "left", "members"]
        assert (told["joined"], told["left"], told["members"]) == ([user], [], 1)
        async with chatter(server.address) as other:
            await other.ask("publish", room="lobby", text="I have not joined, and hear nothing")
            await other.ask("ping")
            assert list(other._heard) == []
            assert len((await other.ask("join", room="lobby", after=joined["cursor"]))["messages"]) == 1
            told = await friend.next("presence")
            assert (told["joined"], told["left"], told["members"]) == ([other.hello["user"]], [], 2)
            await friend.next("message")
            ack = await friend.ask("publish", room="lobby", text="hi")
            assert list(ack) == ["type", "id", "room", "offset", "cursor", "time"]
            assert (ack["type"], ack["offset"]) == ("ack", 2)
            own, theirs = await friend.next("message"), await other.next("message")
            assert own == theirs
            assert list(own) == ["type", "room", "offset", "cursor", "user", "text", "time"]
            assert (own["user"], own["text"]) == (user, "hi")
            assert (own["cursor"], own["time"]) == (ack["cursor"], ack["time"])
            members = await friend.ask("members", room="lobby")
            assert list(members) == ["type", "id", "room", "members", "count"]
            assert (members["members"], members["count"]) == ([user, other.hello["user"]], 2)
        told = await friend.next("presence")
        assert (told["joined"], told["left"], told["members"]) == ([], [other.hello["user"]], 1)
        assert [each["offset"] for each in (await friend.ask("join", room="lobby", after=1))["messages"]] == [2]
        assert (await friend.ask("join", room="lobby", after="other-57"))["recovered"] is False
        monkeypatch.setattr("chatserver.api.conversation.JOINED", Wanted(1))
        assert [each["offset"] for each in (await friend.ask("join", room="lobby", after=0))["messages"]] == [1]
        assert (await friend.next("message"))["offset"] == 2, "the rest follows, without any news in the room"
        page = await friend.ask("history", room="lobby", limit=1)
        assert list(page) == ["type", "id", "room", "cursor", "recovered", "messages"]
        assert page["messages"] == [{name: value for name, value in own.items() if name != "type"}]
        assert list(await friend.ask("leave", room="lobby")) == ["type", "id", "room"]
        await friend.ask("publish", room="lobby", text="I have left, and hear nothing")
        await friend.ask("ping")
        assert [each for each in friend._heard if each["type"] == "message"] == []
        assert (await ask(server.address, "GET", "/rooms/lobby")).json["members"] == 0


async def test_a_malformed_message_is_refused_with_its_id_and_the_connection_goes_on() -> None:
    """The malformed messages: tests/protocol/test_client_messages.py."""
    async with serving(message_rate=0) as server, chatter(server.address) as friend:
        for text, code, id_ in (
            ('{"type":"dance","id":7}', "unknown_type", {"id": 7}),
            ('{"type":"join","id":"ä","room":"Lobby"}', "bad_room", {"id": "ä"}),
            ('{"type":"leave","id":1.5,"room":"lobby"}', "not_joined", {"id": 1.5}),
            ('{"type":"publish","id":0,"room":"lobby","text":null}', "bad_field", {"id": 0}),
            ('{"type":"ping","id":[1]}', "bad_field", {}),
            (r'{"type":"publish","id":8,"room":"lobby","text":"cut \ud83d"}', "bad_json", {"id": 8}),
            (
                r'{"type":"publish","room":"lobby","text":"\ude00 \\ud83d","id":"\ud83d\ude00"}',
                "bad_json",
                {"id": "😀"},
            ),
            ("[" * 16_000, "bad_json", {}),
            ("", "bad_json", {}),
        ):
            await friend.peer.send(frame(text))
            error = await friend.hear()
            assert error.pop("message")
            assert error == {"type": "error", "code": code, **id_}
        await friend.say(type="ping")
        assert await friend.hear() == {"type": "pong"}
        assert await server.metric("chatserver_messages_total") == 0


async def test_a_slow_reader_of_a_busy_room_hears_its_other_rooms() -> None:
    """It got their messages only when it had all of the busy one, which may never be."""
    rooms = ("first", "busy", "last")
    async with (
        serving(send_buffer=4096) as server,
        chatter(server.address, receive_buffer=4096) as slow,
        chatter(server.address) as friend,
    ):
        for room in rooms:
            await slow.ask("join", room=room)
        for number in range(200):
            await friend.say(type="publish", room="busy", text=f"{number} {1000 * 'x'}")
        for room in rooms:
            await friend.ask("publish", room=room, text="hi")
        heard = [(await slow.next("message"))["room"] for _ in range(203)]
        assert max(heard.index("first"), heard.index("last")) < 100


async def test_a_slow_reader_of_a_busy_room_is_heard() -> None:
    """It was read only once it had all messages of its rooms: in a room that is busy enough it could never speak."""
    async with (
        serving(send_buffer=4096) as server,
        chatter(server.address, receive_buffer=4096) as slow,
        chatter(server.address) as friend,
    ):
        await slow.ask("join", room="busy")
        await friend.ask("join", room="quiet")
        for number in range(400):
            await friend.say(type="publish", room="busy", text=f"{number} {1000 * 'x'}")
        await friend.ask("publish", room="busy", text="the last one")
        await slow.say(type="publish", room="quiet", text=5000 * "z")  # not in one read
        await slow.say(type="leave", room="busy")
        heard = 0
        while (await slow.hear())["type"] != "left":
            heard += 1
        assert heard < 200, "of the 401 messages and more"
        assert (await friend.next("message"))["text"] == 5000 * "z"


async def test_a_slow_readers_next_message_waits_for_the_answer_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the kernel takes bytes again in the meantime, which goes on with the messages that are here."""
    async with (
        serving(send_buffer=4096) as server,
        chatter(server.address, receive_buffer=4096) as slow,
        chatter(server.address) as friend,
    ):
        log, asked, go_on = server.server.parts.log, trio.Event(), trio.Event()
        read = log.read

        async def wait_and_read(wanted: Range) -> list[Record]:
            asked.set()
            await go_on.wait()
            return await read(wanted)

        await slow.ask("join", room="busy")
        monkeypatch.setattr(log, "read", wait_and_read)
        await slow.peer.send(say(type="history", id=1, room="old") + say(type="ping", id=2))
        await asked.wait()
        for number in range(50):
            await friend.say(type="publish", room="busy", text=f"{number} {1000 * 'x'}")
        for _ in range(50):
            await slow.next("message")
        go_on.set()
        assert [(await slow.next("history", "pong"))["id"] for _ in range(2)] == [1, 2]
