"""A message arrives once and in order: one suite for every transport."""

from pathlib import Path

import pytest
import trio

from tests.support.peers import Address, ask, chatter, publish
from tests.support.serving import Serving, serving, until
from tests.support.transports import TRANSPORTS, Subscriber, collect, subscribe

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)

EACH = 15


async def publish_many(address: Address, count: int, *, room: str = "lobby", text: str = "m{}") -> None:
    """Publish over one WebSocket, without waiting for each ack."""
    async with chatter(address) as friend:
        for number in range(count):
            await friend.say(type="publish", room=room, text=text.format(number))
        for _ in range(count):
            await friend.next("ack")


async def check(listener: Subscriber, *, first: int = 1, last: int) -> None:
    """Each offset of the range arrives once, in order, from one room."""
    messages = await collect(listener, last + 1 - first)
    assert [message["offset"] for message in messages] == list(range(first, last + 1))
    assert {message["room"] for message in messages} == {"lobby"}


async def test_messages_of_concurrent_publishers_arrive_once_and_in_order(server: Serving, transport: str) -> None:
    async with subscribe(transport, server.address, "lobby") as listener:
        texts = ['quotes "\\" \t tab\nline 👩‍👩‍👧 ünï \u2028 </script> \u200f', *"bcd"]
        sent: dict[int, str] = {}

        async def over_http(text: str) -> None:
            for count in range(EACH):
                stored = await publish(server.address, "lobby", f"{text}/{count}")
                sent[stored["offset"]] = f"{text}/{count}"

        async with trio.open_nursery() as nursery:
            for text in texts:
                nursery.start_soon(over_http, text)
            heard = await collect(listener, 4 * EACH)
        assert [message["offset"] for message in heard] == list(range(1, 4 * EACH + 1))
        assert {message["offset"]: message["text"] for message in heard} == sent


async def test_a_log_longer_than_the_ring_and_a_page(transport: str, tmp_path: Path) -> None:
    async with serving(log=f"sqlite:{tmp_path / 'chat.db'}", ring_messages=16) as server:
        await publish_many(server.address, 400)
        async with subscribe(transport, server.address, "lobby") as listener, trio.open_nursery() as nursery:
            nursery.start_soon(publish_many, server.address, 100)
            await check(listener, last=500)
            assert not listener.told_of_loss


async def test_a_reader_that_pauses_misses_nothing(transport: str) -> None:
    """The reader falls behind the ring and far behind its socket's buffers, and is fed from the log."""
    async with (
        serving(ring_messages=16, send_buffer=4096) as server,
        subscribe(transport, server.address, "lobby", receive_buffer=4096) as listener,
    ):
        await publish_many(server.address, 200, text="{} " + "x" * 1000)
        await check(listener, last=200)
        assert not listener.told_of_loss


async def test_retention_while_serving_is_told(transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatserver.server.RETENTION", 0.05)
    async with serving(log=f"sqlite:{tmp_path / 'chat.db'}", retain_messages=5, ring_messages=16) as server:
        await publish_many(server.address, 40)
        await until(lambda: ask(server.address, "GET", "/rooms/lobby"), lambda answer: answer.json["messages"] <= 5)
        async with subscribe(transport, server.address, "lobby", "3") as listener:
            await check(listener, first=36, last=40)
            assert listener.told_of_loss
