"""The library with the real server: users who sign in, on each transport."""

from functools import partial
from pathlib import Path

import pytest
import trio

from chatserver.client import (
    ChatError,
    Complaint,
    Connected,
    Entered,
    Event,
    Forbidden,
    Message,
    Presence,
    Rejected,
    TransportName,
    Unauthenticated,
    User,
    connect,
)
from chatserver.reasons import Reason
from tests.client.fake import FakeServer
from tests.client.listener import SOON, each_transport, listening, url
from tests.support.serving import serving
from tests.support.serving import until as until_answered
from tests.support.tokens import secret_file, token


@each_transport
async def test_a_server_without_guests_requires_a_sign_in(transport: TransportName) -> None:
    async with serving(guests="none") as server, connect(url(server), transport=transport) as chat:
        with pytest.raises(ChatError) as raised:
            await chat.publish("lobby", "x")
        assert isinstance(raised.value, Unauthenticated | Forbidden | Rejected)


@each_transport
async def test_a_guest_signs_in_and_stays_the_user_on_the_next_connection(
    transport: TransportName, tmp_path: Path
) -> None:
    """An event stream stayed the guest's: the guest was in the room beside the user, with the guest's rights."""
    async with (
        serving(token_key=(secret_file(tmp_path),), presence_grace=1.0) as server,
        listening(url(server), transport=transport) as listener,
    ):
        await listener.until(Entered)
        listener.say("a guest")
        await listener.acknowledged(1)
        ann = await listener.chat.authenticate(token(sub="u_ann", name="Ann"))
        assert (ann, listener.chat.user) == (User("u_ann", "Ann"), ann)
        listener.say("signed in")
        await listener.acknowledged(2)
        await until_answered(partial(listener.chat.members, "lobby"), lambda found: found.members == (ann,))
        server.server.parts.connections.close_all(Reason.EVICTED)
        listener.say("still")
        await listener.until(Message, times=3)
        assert [message.user == ann for message in listener.events(Message)] == [False, True, True]


async def test_a_new_token_takes_away_a_room_and_nothing_else(tmp_path: Path) -> None:
    """The server's word for that ended the connection, and so all rooms, as a breach of the protocol."""
    first, second = [token(sub="u_ann", chat={"rooms": dict.fromkeys(rooms, "rw")}) for rooms in ("ab", "b")]
    async with serving(token_key=(secret_file(tmp_path),)) as server, connect(url(server), token=first) as chat:
        seen: list[Event] = []
        for room in "ab":
            chat.join(room)
        await chat.history("a")  # on the same connection, so the rooms have been joined
        await chat.authenticate(second)
        with trio.fail_after(SOON):
            async for event in chat.events():
                seen.append(event)
                if isinstance(event, Complaint):
                    break
        assert seen[-1] == Complaint("a", "forbidden", "you may not read a")
        assert [type(event) for event in seen if not isinstance(event, Presence)] == [
            Connected, Entered, Entered, Complaint,
        ]  # fmt: skip
        assert (await chat.publish("b", "still here")).offset == 1


@pytest.mark.jumping_clock
@pytest.mark.parametrize("code", [1012, 4503])
async def test_a_token_whose_answer_is_lost_is_that_of_the_next_connection(code: int) -> None:
    """It began with the old one, which had expired meanwhile: the server refused it, and that was the end.

    So was a 4503, with which the server says that the old one has run out, although the new one was on its way.
    """
    server = FakeServer(deaf=True)
    async with server.running(), connect(server.url, token="old") as chat, trio.open_nursery() as nursery:
        await chat.connected()
        nursery.start_soon(chat.authenticate, "new")
        while not server.unheard:
            await trio.lowlevel.checkpoint()
        server.deaf = False
        await server.close_all(code)
    assert server.signed_in == [b"Bearer old", b"Bearer new"]


@pytest.mark.jumping_clock
async def test_a_refused_token_is_not_that_of_the_next_connection(server: FakeServer) -> None:
    async with connect(server.url, token="old") as chat:
        await chat.connected()
        server.errors = [{"code": "unauthenticated", "message": "no"}]
        with pytest.raises(Unauthenticated):
            await chat.authenticate("bad")
        await server.close_all(1012)
        await chat.members("lobby")
    assert server.signed_in == [b"Bearer old"] * 2


@each_transport
async def test_a_malformed_token_is_refused_before_it_is_sent(transport: TransportName) -> None:
    """Otherwise a line break in a header field ends the client, with the token in the traceback."""
    with pytest.raises(Unauthenticated, match="this is no token"):
        async with connect("host:1", token="a\nb"):
            pass
    async with serving() as server, connect(url(server), transport=transport) as chat:
        for none in ("a\nb", "", "\n"):  # with an empty one `chat.user` became the guest of our address, over HTTP
            with pytest.raises(Unauthenticated, match="this is no token"):
                await chat.authenticate(none)
        with pytest.raises(Unauthenticated, match="is not valid"):
            await chat.authenticate("as-from-a-file\n")
        assert (await chat.publish("lobby", "and on it goes")).offset == 1


@each_transport
async def test_a_token_that_is_refused_on_a_new_connection_gives_way_to_the_old_one(
    transport: TransportName, tmp_path: Path
) -> None:
    """It was the end of the client, whose old token was good for another hour."""
    old = token(sub="u_ann", name="Ann")
    async with (
        serving(token_key=(secret_file(tmp_path),)) as server,
        connect(url(server), token=old, transport=transport) as chat,
    ):
        with pytest.raises(Unauthenticated):
            await chat.authenticate("bad")  # before there is a connection
        assert (await chat.publish("lobby", "still here")).offset == 1
        assert chat.user == User("u_ann", "Ann")
