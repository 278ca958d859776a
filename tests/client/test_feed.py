"""What waits for a slow reader of the library: bounded, in order, and nothing of it lost without a word."""

from contextlib import suppress

import pytest
import trio
import trio.testing

from chatserver.client import (
    ChatError,
    Entered,
    Expiring,
    Gap,
    Message,
    Presence,
    Room,
    connect,
)
from chatserver.client.feed import LOW_WATER, MAX_QUEUED_EVENTS, Feed
from tests.client.fake import FakeServer, message
from tests.client.listener import SOON, texts, until


@pytest.mark.jumping_clock
async def test_messages_removed_before_a_slow_reader_are_a_gap(server: FakeServer) -> None:
    async with connect(server.url) as chat:
        room = chat.join("lobby")
        await until(room, Entered)
        for number in range(2 * MAX_QUEUED_EVENTS):
            await server.say(str(number))
        await trio.testing.wait_all_tasks_blocked()
        server.epoch, server.log[:] = "e2", [message(offset, "anew", epoch="e2") for offset in (1, 2, 3)]
        seen: list[str] = []
        with trio.fail_after(SOON):
            async for event in room.events():
                seen += ["gap"] if isinstance(event, Gap) else [event.text] if isinstance(event, Message) else []
                if seen[-3:] == ["anew"] * 3:
                    break
    kept = len(seen) - 4
    assert MAX_QUEUED_EVENTS <= kept < 2 * MAX_QUEUED_EVENTS
    assert seen == [*(str(number) for number in range(kept)), "gap", *["anew"] * 3]


async def test_a_feed_is_bounded_by_its_readers() -> None:
    drained: list[int] = []
    feed = Feed(lambda: drained.append(len(drained)))
    for number in range(MAX_QUEUED_EVENTS):
        assert not feed.full
        feed.put(Presence("lobby", members=number))
    assert feed.full
    for number in range(MAX_QUEUED_EVENTS):
        assert await anext(feed) == Presence("lobby", members=number)
        assert len(drained) == int(number + 1 >= MAX_QUEUED_EVENTS - LOW_WATER)
    feed.put(Presence("lobby"))
    with trio.testing.assert_checkpoints():
        await anext(feed)
    with trio.fail_after(SOON):
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(anext, feed)
            await trio.testing.wait_all_tasks_blocked()  # the readers do not ask again and again
            for _ in range(2):  # one event for each reader
                feed.put(Presence("lobby"))
    feed.end()
    with pytest.raises(StopAsyncIteration):
        await anext(feed)


async def test_a_server_cannot_fill_the_memory_of_a_client_that_does_not_read(server: FakeServer) -> None:
    """What a server sends unasked was kept without a bound if it had the form of a moderator's notice."""
    async with connect(server.url) as chat:
        feed = chat.events()
        await chat.connected()
        for number in range(2 * MAX_QUEUED_EVENTS):
            room = {"room": f"other-{number}"} if number % 2 else {}
            await server.tell(type="error", code="forbidden", message="you may not write", **room)
        await chat.members("lobby")
        assert feed.full
    kept = 0
    with suppress(ChatError):  # closed
        async for _ in feed:
            kept += 1
    assert kept == MAX_QUEUED_EVENTS


@pytest.mark.jumping_clock
async def test_a_slow_reader_hears_of_its_token_next_and_not_of_every_return(server: FakeServer) -> None:
    """The end of the token was not told to it; each return to a room was queued, thousands if the server restarted."""
    async with connect(server.url) as chat:
        feed = chat.events()
        chat.join("lobby")
        await chat.members("lobby")
        for number in range(MAX_QUEUED_EVENTS):
            await server.say(str(number))
        for _ in range(3):
            await chat.members("lobby")
            assert feed.full
            await server.close_all(1012)
        await chat.members("lobby")
        for seconds in (30, 20):
            await server.tell(type="expiring", seconds=seconds)
        await chat.members("lobby")
    assert await anext(feed) == Expiring(20)
    for _ in range(MAX_QUEUED_EVENTS):
        await anext(feed)
    with pytest.raises(ChatError, match="closed"):
        await anext(feed)


async def test_all_events_begin_with_those_that_a_room_still_has_and_the_room_has_none_any_more(
    server: FakeServer,
) -> None:
    """What had come into a room was lost to a later `events`, and a reader of the room waited for ever."""

    async def is_misused(room: Room) -> None:
        with pytest.raises(RuntimeError, match=r"chat.events\(\) has the events of all rooms"):
            async for _ in room:
                pass

    async with connect(server.url) as chat, trio.open_nursery() as nursery:
        room, waiting = chat.join("lobby"), chat.join("tea")
        nursery.start_soon(is_misused, waiting)
        await chat.members("lobby")
        sent = [f"{number}" for number in range(MAX_QUEUED_EVENTS + 9)]
        for text in sent:
            await server.say(text)
        await chat.members("lobby")
        assert room.events().full, "so the room is paused"
        assert await texts(room, 1) == sent[:1]
        seen: list[str] = []
        with trio.fail_after(SOON):
            async for event in chat.events():
                if isinstance(event, Message):
                    seen.append(event.text)
                if len(seen) == len(sent) - 1:
                    break
            assert seen == sent[1:]
            for misused in (room, waiting, chat.join("ops")):
                await is_misused(misused)
