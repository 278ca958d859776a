"""The library with the real server: each call, on each transport."""

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from chatserver.client import (
    Backoff,
    Chat,
    Connected,
    Deletion,
    Edit,
    Entered,
    Event,
    Invalid,
    Message,
    NotFound,
    RateLimited,
    Reaction,
    Reconnecting,
    Record,
    Rejected,
    TransportName,
    Typing,
    Unavailable,
    User,
    connect,
)  # fmt: skip
from tests.client.fake import FakeServer
from tests.client.listener import SOON, each_transport, texts, until, url
from tests.support.ports import steady_port
from tests.support.serving import serving
from tests.support.serving import until as until_answered


async def publish_all(chat: Chat, room: str, *said: str) -> None:
    for text in said:
        await chat.publish(room, text)


@each_transport
async def test_a_bot_follows_several_rooms_from_now_on_and_answers(transport: TransportName) -> None:
    async with serving() as server, connect(url(server)) as other:
        await publish_all(other, "a", "before")
        async with connect(url(server), name="Bot", transport=transport) as bot:
            assert (await bot.connected()).name == "Bot"
            rooms = [bot.join(name) for name in ("a", "b")]
            for room in rooms:
                assert isinstance(await until(room, Entered), Entered)
            await publish_all(other, "a", "one", "two")
            await publish_all(other, "b", "three")
            assert await texts(rooms[0], 2) == ["one", "two"]
            assert await texts(rooms[1], 1) == ["three"]
            me = await other.connected()
            ack = await rooms[1].publish("four", reply_to=1, mentions=[me.id])
            page = await other.history("b", after=rooms[1].cursor)
            (message,) = page.records
            assert isinstance(message, Message)
            assert (message.offset, message.cursor, message.text, message.user.name) == (2, ack.cursor, "four", "Bot")
            assert (message.reply_to, message.mentions) == (1, (me.id,))
            assert page.recovered
            assert (await bot.history("b", after=1, limit=1)).records == [message]
            names = {user.name for user in (await bot.members("b")).members}
            assert "Bot" in names
            assert {room.room for room in await bot.rooms()} == {"a", "b"}


@each_transport
async def test_each_call_acts_once_and_a_room_is_left(transport: TransportName) -> None:
    async with (
        serving(presence_grace=1.0) as server,
        connect(url(server)) as other,
        connect(url(server), transport=transport) as chat,
    ):
        theirs = other.join("lobby")
        await until(theirs, Entered)  # one that comes later gets the messages as they are by then
        events = theirs.events()
        room = chat.join("lobby")
        await until(room, Entered)
        me = await chat.connected()
        await chat.publish("lobby", "frist")
        await chat.edit("lobby", 1, "first")
        for on in (True, False):
            await chat.react("lobby", 1, "👍", on=on)
        await chat.delete("lobby", 1)
        chat.typing("lobby")
        seen: list[Event] = []
        with trio.fail_after(SOON):
            while not seen or not isinstance(seen[-1], Typing):
                seen += [event] if isinstance(event := await anext(events), Record | Typing) else []
        assert [(type(event), getattr(event, "on", None)) for event in seen] == [
            (Message, None), (Edit, None), (Reaction, True), (Reaction, False), (Deletion, None), (Typing, None),
        ]  # fmt: skip
        await chat.read("lobby", 4)
        assert (await chat.unread())["lobby"].read == 4
        assert chat.join("lobby") is room
        room.leave()
        assert [message.text async for message in room] == ["frist"]
        await until_answered(partial(other.members, "lobby"), lambda found: me not in found.members)
        await other.publish("lobby", "missed")
        room = chat.join("lobby")
        await until(room, Entered)
        await other.publish("lobby", "back")
        assert await texts(room, 1) == ["back"]


@each_transport
async def test_another_run_resumes_where_the_last_one_stopped(transport: TransportName) -> None:
    async with serving() as server, connect(url(server)) as other:
        await publish_all(other, "lobby", "1", "2", "3", "4")
        async with connect(url(server), transport=transport) as first:
            room = first.join("lobby", latest=3)
            assert await texts(room, 2) == ["2", "3"]
            assert room.cursor is not None
        async with connect(url(server), transport=transport, cookie=first.cookie) as second:
            resumed = second.join("lobby", after=room.cursor)
            assert resumed.cursor == room.cursor
            assert await texts(resumed, 1) == ["4"]
            assert second.user == first.user
        old = "chat_session=of-nobody"  # as after a sign-out elsewhere
        async with (
            connect(url(server), transport=transport, cookie=old) as third,
            connect(url(server), transport=transport, cookie=old) as fourth,
        ):
            assert len({first.user, await third.connected(), await fourth.connected()}) == 3


@each_transport
async def test_calls_before_the_first_connection_are_the_same_users(transport: TransportName) -> None:
    """Plain HTTP without our cookie is the guest of our address: it had another name and other read markers."""
    async with serving() as server:
        async with connect(url(server), transport=transport) as first:
            assert (await first.rename("Ann")).name == "Ann"
            await first.publish("lobby", "hi")
            await first.read("lobby", 1)
            (said,) = (await first.history("lobby")).records
            assert said.user == first.user == await first.connected()
        async with connect(url(server), transport=transport) as second:
            assert await second.unread() == {}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(second.rename, "Bob")
                nursery.start_soon(second.unread)
                nursery.start_soon(second.publish, "lobby", "hello")
            said = (await second.history("lobby", limit=1)).records[0]
            assert (said.user.id, second.user) == (second.user and second.user.id, User(said.user.id, "Bob"))


@pytest.mark.jumping_clock
@each_transport
async def test_errors_say_what_can_be_done(transport: TransportName) -> None:
    async with (
        serving(publish_rate=1.0) as server,
        connect(url(server), transport=transport, answer_timeout=3.0) as chat,
    ):
        await publish_all(chat, "lobby", "1", "2")
        for call in (partial(chat.publish, "No Room!", "x"), partial(chat.read, "No Room!", 1)):
            with pytest.raises(Invalid, match="bad_room"):
                await call()
        with pytest.raises(Invalid, match="bad_cursor"):
            await chat.history("lobby", after="?")
        with pytest.raises(Invalid, match="mentions"):  # it was taken as the users u, _ and x
            await chat.publish("lobby", "x", mentions="u_x")
        with pytest.raises(NotFound):
            await chat.edit("lobby", 999, "x")
        with pytest.raises(Invalid, match="bad_room"):
            await anext(chat.join("No Room!"))
        async with connect(url(server), transport=transport, name="x" * 300) as nameless:
            with pytest.raises(Rejected, match="the server answered 400: name: 300 characters, limit 40"):
                await nameless.connected()


async def test_a_bot_keeps_its_name_when_the_server_has_forgotten_it() -> None:
    port = steady_port()
    async with connect(f"127.0.0.1:{port}", name="Dice", backoff=Backoff(jitter=lambda: 0.1)) as bot:
        room = bot.join("lobby")
        for _ in range(2):
            async with serving(port=port), connect(f"127.0.0.1:{port}") as other:
                await until(room, Entered)
                members = partial(other.members, "lobby")
                await until_answered(members, lambda found: "Dice" in [user.name for user in found.members])


@pytest.mark.jumping_clock
async def test_a_server_that_keeps_giving_another_name_is_asked_twice_only(server: FakeServer) -> None:
    server.elsewhere = 201, b'{"user": {"id": "u_me", "name": "Ann"}}'
    async with connect(server.url, name="Ann") as chat:
        events = chat.events()
        await trio.sleep(60)
        assert (chat.user, len(server.cookies)) == (User("u_me", "Me"), 2)
        await server.close_all(1012)
        seen = [type(await anext(events)) for _ in range(3)]
        assert seen == [Connected, Connected, Reconnecting], "at once for a name, and later for all else"


@pytest.mark.jumping_clock
async def test_every_call_has_a_deadline_and_a_repeated_one_acts_once() -> None:
    server = FakeServer()
    async with connect(server.url, answer_timeout=5.0) as chat:
        chat.typing("lobby")
        publish = partial(chat.publish, "lobby", "a", key="k")
        for call in (publish, partial(chat.members, "lobby"), chat.rooms, chat.connected):
            with pytest.raises(Unavailable, match="cannot connect"):
                await call()
        async with server.running():
            chat.try_now()
            await chat.publish("lobby", "and on it goes")
        assert server.typed == 0, "what was typed without a connection"
    async with server.running(), connect(server.url) as chat:
        first = await chat.publish("lobby", "a", key="k")
        with trio.move_on_after(0):
            await chat.publish("lobby", "a", key="k")
        assert (await chat.publish("lobby", "a", key="k")).offset == first.offset


@pytest.mark.jumping_clock
async def test_a_call_over_plain_http_is_repeated_for_as_long_as_it_may_wait(server: FakeServer) -> None:
    """Like those over the WebSocket: a restart of the server made `search` and `rooms` fail at once."""
    async with connect(server.url, answer_timeout=10.0) as chat:
        await chat.connected()
        server.elsewhere = 503, b'{"error": {"code": "draining", "message": "later"}}'
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chat.rooms)
            await trio.sleep(5.0)
            server.elsewhere = 200, b'{"rooms": []}'
        server.elsewhere = 429, b'{"error": {"code": "rate_limited", "message": "slowly"}}'
        with pytest.raises(RateLimited, match="slowly"):
            await chat.rooms()


MODERATING = (
    lambda chat: chat.sanction("mute", "lobby", "u_z"),
    lambda chat: chat.lift("lobby", 1),
    lambda chat: chat.kick("lobby", "u_z"),
)


@pytest.mark.jumping_clock
@pytest.mark.parametrize("moderate", MODERATING)
async def test_what_has_no_key_is_repeated_only_if_it_was_not_done(
    server: FakeServer, moderate: Callable[[Chat], Awaitable[object]]
) -> None:
    """After a lost answer `lift` raised NotFound though it had lifted, and `sanction` stored two."""
    lost = 0, b""
    late = 503, b'{"error": {"code": "unavailable", "message": "the log is late"}}'
    async with connect(server.url, answer_timeout=10.0) as chat:
        for server.elsewhere in (lost, late, (502, b"of a proxy")):
            server.posted = 0
            with pytest.raises(Unavailable, match="; the change may have been made"):
                await moderate(chat)
            assert server.posted == 1
        server.posted, server.elsewhere = 0, (503, b'{"error": {"code": "draining", "message": "later"}}')
        with pytest.raises(Unavailable, match=r"^later \("):
            await moderate(chat)
        assert server.posted == 10


@pytest.mark.jumping_clock
async def test_what_has_no_key_waits_for_a_server_that_restarts() -> None:
    server = FakeServer(elsewhere=(200, b'{"ended": 2}'))
    async with connect(server.url) as chat, trio.open_nursery() as nursery:
        async with server.running():
            await chat.connected()
        nursery.start_soon(chat.kick, "lobby", "u_z")
        await trio.sleep(5.0)
        async with server.running():
            await trio.sleep(5.0)
    assert server.posted == 1


@pytest.mark.jumping_clock
async def test_a_write_does_not_wait_for_a_cancelled_one(server: FakeServer) -> None:
    """It was sent only when the cancelled one would have been sent again."""
    server.errors = [{"code": "rate_limited", "message": "slowly", "retry_after": 1000}]
    async with connect(server.url, answer_timeout=math.inf) as chat, trio.open_nursery() as nursery:

        async def publish_for_2_seconds() -> None:
            with trio.move_on_after(2):
                await chat.publish("lobby", "first")

        nursery.start_soon(publish_for_2_seconds)
        await trio.sleep(1)
        with trio.fail_after(SOON):
            assert (await chat.publish("lobby", "second")).offset == 1


@pytest.mark.parametrize("page", [b"<html>", b'{"rooms": [{"room": "\xff"}], "user": {"id": "\xff", "name": ""}}'])
async def test_an_answer_of_another_server_is_an_error_of_the_library(server: FakeServer, page: bytes) -> None:
    """The error is a ChatError; otherwise a page of a proxy in front makes `/rooms` end the terminal client."""
    server.elsewhere = 200, page
    async with connect(server.url) as chat:
        for call in (chat.rooms, chat.unread, partial(chat.search, "tea"), partial(chat.rename, "Ann")):
            with pytest.raises(Unavailable, match="not an answer of a chat server"):
                await call()
        server.log.append({"cursor": "e1-1", "text": "no offset"})
        with pytest.raises(Unavailable, match="not a record of a room"):
            await chat.history("lobby")


async def test_a_text_that_cannot_be_sent_is_an_error_of_its_call_only(server: FakeServer) -> None:
    """The task of the connection must not raise it, which would end the client."""
    async with connect(server.url) as chat:
        with pytest.raises(Invalid, match="this text is not valid UTF-8"):
            await chat.publish("lobby", "half a pair: \ud83d")
        for room in ("\ud83d", None):  # over SSE and long-poll, that is part of a path
            with pytest.raises(Invalid):
                chat.join(room)  # type: ignore[arg-type]
        for latest in (-1, 51):  # these were taken, and gave 0 and 50
            with pytest.raises(Invalid, match="latest"):
                chat.join("lobby", latest=latest)
        for call in (chat.search, chat.rename):
            with pytest.raises(Invalid):
                await call("\ud83d")
        for output in (b"done", bytearray(b"done"), memoryview(b"done")):  # of a command; it was published as base64
            with pytest.raises(Invalid, match=r"got `bytes` - at `\$.text`"):
                await chat.publish("lobby", output)  # type: ignore[arg-type]
        untyped: Any = chat
        for bytes_call in (
            partial(untyped.rename, b"Ann"),
            partial(untyped.search, b"tea"),
            partial(untyped.search, "tea", user=b"u_x"),
            partial(untyped.sanction, "mute", "lobby", user=b"u_x"),
            partial(untyped.sanction, "mute", "lobby", user="u_x", reason=b"spam"),
            partial(untyped.sanctions, "lobby", user=b"u_x"),
            partial(untyped.kick, "lobby", "u_x", reason=b"spam"),
        ):
            with pytest.raises(Invalid, match="got `bytes`"):
                await bytes_call()
        with pytest.raises(TypeError):
            await chat.publish("lobby", object())  # type: ignore[arg-type]
        assert (await chat.publish("lobby", "and on it goes")).offset == 1
    for name in ("\ud83d", b"Ann"):
        with pytest.raises(Invalid):
            async with connect(server.url, name=name):  # type: ignore[arg-type]
                pass
