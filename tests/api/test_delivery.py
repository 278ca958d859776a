"""A message arrives once and in order over every transport: each test has a reader on each, side by side."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from unittest import mock

import pytest
import trio

from chatserver.net.scheduler import Scheduler
from tests.support.peers import Address, ask, chatter, publish
from tests.support.serving import Serving, serving, until
from tests.support.transports import TRANSPORTS, Subscriber, collect, subscribe

EACH = 15


async def publish_many(address: Address, count: int, *, text: str = "m{}") -> None:
    """Publish over one WebSocket, without waiting for each ack."""
    async with chatter(address) as friend:
        for number in range(count):
            await friend.say(type="publish", room="lobby", text=text.format(number))
        for _ in range(count):
            await friend.next("ack")


@asynccontextmanager
async def readers(
    address: Address, after: str | None = None, *, receive_buffer: int = 0
) -> AsyncIterator[dict[str, Subscriber]]:
    """A reader of the lobby over each transport."""
    async with AsyncExitStack() as stack:
        yield {
            transport: await stack.enter_async_context(
                subscribe(transport, address, "lobby", after, receive_buffer=receive_buffer)
            )
            for transport in TRANSPORTS
        }


async def check(
    found: dict[str, Subscriber], *, first: int = 1, last: int, loss: bool = False
) -> dict[str, dict[int, str]]:
    """Each reader gets each offset of the range once, in order, from one room. Returns the texts that each got."""
    heard: dict[str, dict[int, str]] = {}

    async def check_one(transport: str, reader: Subscriber) -> None:
        messages = await collect(reader, last + 1 - first)
        assert [message["offset"] for message in messages] == list(range(first, last + 1)), transport
        assert {message["room"] for message in messages} == {"lobby"}
        assert reader.told_of_loss is loss, transport
        heard[transport] = {message["offset"]: message["text"] for message in messages}

    async with trio.open_nursery() as nursery:
        for each in found.items():
            nursery.start_soon(check_one, *each)
    return heard


async def test_messages_of_concurrent_publishers_arrive_once_and_in_order(server: Serving) -> None:
    async with readers(server.address) as found:
        texts = ['quotes "\\" \t tab\nline 👩‍👩‍👧 ünï \u2028 </script> \u200f', *"bcd"]
        sent: dict[int, str] = {}

        async def over_http(text: str) -> None:
            for count in range(EACH):
                stored = await publish(server.address, "lobby", f"{text}/{count}")
                sent[stored["offset"]] = f"{text}/{count}"

        async with trio.open_nursery() as nursery:
            for text in texts:
                nursery.start_soon(over_http, text)
            heard = await check(found, last=4 * EACH)
        assert heard == dict.fromkeys(TRANSPORTS, sent)


async def test_a_log_longer_than_the_ring_and_a_page(tmp_path: Path) -> None:
    async with serving(log=f"sqlite:{tmp_path / 'chat.db'}", ring_messages=16) as server:
        await publish_many(server.address, 400)
        async with readers(server.address) as found, trio.open_nursery() as nursery:
            nursery.start_soon(publish_many, server.address, 100)
            await check(found, last=500)


async def test_the_thread_that_stores_messages_is_woken_by_a_deferred_call(tmp_path: Path) -> None:
    with mock.patch.object(Scheduler, "defer", autospec=True, side_effect=Scheduler.defer) as defer:
        async with serving(log=f"sqlite:{tmp_path / 'chat.db'}") as server:
            await publish(server.address, "lobby", "hi")
    assert defer.called


async def test_a_reader_that_pauses_misses_nothing() -> None:
    """The readers fall behind the ring and far behind their sockets' buffers, and are fed from the log."""
    async with (
        serving(ring_messages=16, send_buffer=4096) as server,
        readers(server.address, receive_buffer=4096) as found,
    ):
        await publish_many(server.address, 200, text="{} " + "x" * 1000)
        await check(found, last=200)


async def test_retention_while_serving_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatserver.server.RETENTION", 0.05)
    async with serving(log=f"sqlite:{tmp_path / 'chat.db'}", retain_messages=5, ring_messages=16) as server:
        await publish_many(server.address, 40)
        await until(lambda: ask(server.address, "GET", "/rooms/lobby"), lambda answer: answer.json["messages"] <= 5)
        async with readers(server.address, "3") as found:
            await check(found, first=36, last=40, loss=True)
