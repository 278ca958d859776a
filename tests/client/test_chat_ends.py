"""How a chat of the library ends: by its block, by an exception or a cancellation, or by the server."""

import asyncio
import math
import pickle
from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.testing

from chatserver.client import (
    Chat,
    ChatError,
    Entered,
    Forbidden,
    Rejected,
    Room,
    TransportName,
    connect,
    websocket,
)  # fmt: skip
from tests.client.fake import FakeServer
from tests.client.listener import SOON, each_transport, until, url
from tests.support.serving import eventually, serving


@each_transport
async def test_an_exception_of_the_block_closes_every_connection(
    transport: TransportName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: a WebSocket was cancelled, and then waited for a close frame that nothing read."""
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT", math.inf)
    async with serving() as server:
        with suppress(KeyError):
            async with connect(url(server), transport=transport) as chat:
                await until(chat.join("lobby"), Entered)
                await chat.rooms()
                raise KeyError
        await eventually(lambda: not server.server.parts.connections.held)
        assert chat.user is not None, "it is still referenced: its sockets were not left to the garbage collector"


def test_a_client_that_runs_on_asyncio_names_the_mistake() -> None:
    async def main() -> None:
        async with connect("host:1"):
            pass

    with pytest.raises(RuntimeError, match="needs trio"):
        asyncio.run(main())


@pytest.mark.jumping_clock
async def test_a_client_that_may_not_return_raises_everywhere() -> None:
    server = FakeServer(refusals=[403])
    async with server.running(), connect(server.url) as chat:
        await raises_everywhere(chat, chat.join("lobby"), Rejected, match="403")


@pytest.mark.jumping_clock
async def test_a_chat_whose_block_is_left_raises_everywhere(server: FakeServer) -> None:
    """An iteration waited for ever, and `rooms` opened a connection that nothing closed."""
    async with connect(server.url) as chat:
        room = chat.join("lobby")
        await until(room, Entered)
    await raises_everywhere(chat, room, ChatError, match="closed")


@pytest.mark.jumping_clock
async def test_a_call_of_another_task_ends_with_the_block(server: FakeServer) -> None:
    """It went on after `closed` was promised, and left its connection open."""
    server.elsewhere = None

    async def ask(chat: Chat) -> None:
        with pytest.raises(ChatError, match="closed"):
            await chat.rooms()

    async with trio.open_nursery() as nursery:
        async with connect(server.url) as chat:
            await chat.connected()
            nursery.start_soon(ask, chat)
            await trio.testing.wait_all_tasks_blocked(0.1)
        nursery.cancel_scope.deadline = trio.current_time() + 1.0  # less than its own, to which the clock would jump
    assert not nursery.cancel_scope.cancelled_caught


async def raises_everywhere(chat: Chat, room: Room, error: type[ChatError], *, match: str) -> None:
    """Each time another exception: one that was raised for each kept all their frames, 1.7 KB a time, for ever."""
    raised: list[ChatError] = []
    for call in (
        chat.connected,
        chat.rooms,
        partial(chat.publish, "lobby", "a"),
        partial(anext, room),
        partial(anext, room),
        lambda: anext(chat.join("late")),
        lambda: anext(chat.events()),
    ):
        with pytest.raises(error, match=match) as found, trio.fail_after(SOON):
            await call()
        raised.append(found.value)
    assert len(set(map(id, raised))) == len(raised)
    assert all(pickle.loads(pickle.dumps(each)).args == each.args for each in raised)


@each_transport
async def test_a_cancelled_block_may_say_something_last(transport: TransportName) -> None:
    """Under a shield of its own; the connection had been cancelled with it, and nothing was sent."""
    async with serving() as server:
        with trio.CancelScope() as scope:
            async with connect(url(server), transport=transport, answer_timeout=SOON) as chat:
                await chat.connected()
                scope.cancel()
                with trio.CancelScope(shield=True):
                    assert (await chat.publish("lobby", "bye")).offset == 1


@pytest.mark.jumping_clock
async def test_an_exception_of_the_block_is_not_in_a_group(server: FakeServer) -> None:
    """Otherwise `except ChatError` around the block catches nothing."""
    server.errors = [{"code": "forbidden", "message": "no"}]
    cause = ValueError()

    async def fail_when_cancelled() -> None:
        with trio.move_on_after(0.01):
            async with connect(server.url):
                try:
                    await trio.sleep_forever()
                except trio.Cancelled:
                    raise KeyError from cause

    with pytest.raises(Forbidden) as caught:
        async with connect(server.url) as chat:
            await chat.publish("lobby", "hi")
    assert caught.value.__context__ is None
    with pytest.raises(KeyError) as other:
        async with connect(server.url):
            raise KeyError from cause
    assert other.value.__cause__ is cause
    with pytest.raises(ExceptionGroup, match="ours"):
        async with connect(server.url):
            raise ExceptionGroup("ours", [ValueError()])
    with trio.move_on_after(0.01) as scope:
        async with connect(server.url):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    with pytest.raises(KeyError):
        await fail_when_cancelled()


async def test_a_misspelt_transport_is_an_error(server: FakeServer) -> None:
    """Without a check of types, `websocket` was a long-poll; then it was one of two errors in a group."""
    with pytest.raises(ValueError, match="'websocket' is none of ws, poll, sse"):
        async with connect(server.url, transport="websocket") as chat:  # type: ignore[arg-type]
            await chat.connected()
