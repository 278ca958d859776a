"""A message published arrives once, in order: one suite for every transport."""

from pathlib import Path

import pytest
import trio

from chatserver.log import open_log
from chatserver.log.interface import Draft
from tests.support.groups import append
from tests.support.peers import Address, ask, chatter, publish
from tests.support.serving import Serving, eventually, serving
from tests.support.transports import TRANSPORTS, Subscriber, collect, subscribe

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)

PUBLISHERS = 4
EACH = 15


async def publish_many(address: Address, count: int, *, room: str = "lobby", text: str = "m{}") -> None:
    """Over one WebSocket, without waiting for the acks in between."""
    async with chatter(address) as friend:
        for number in range(count):
            await friend.say(type="publish", room=room, text=text.format(number))
        for _ in range(count):
            await friend.next("ack")


def check(messages: list[object], *, first: int = 1, last: int) -> None:
    """Every offset of a range, once, in order."""
    offsets = [message["offset"] for message in messages if isinstance(message, dict)]
    assert offsets == list(range(first, last + 1))


async def test_publishers_side_by_side(transport: str) -> None:
    async with serving() as server, subscribe(transport, server.address, "lobby") as listener:
        sent: dict[int, str] = {}

        async def over_http(number: int) -> None:
            for count in range(EACH):
                stored = await publish(server.address, "lobby", f"{number}/{count}")
                sent[stored["offset"]] = f"{number}/{count}"

        async with trio.open_nursery() as nursery:
            for number in range(PUBLISHERS):
                nursery.start_soon(over_http, number)
            heard = await collect(listener, PUBLISHERS * EACH)
        check(heard, last=PUBLISHERS * EACH)
        assert {message["offset"]: message["text"] for message in heard} == sent


async def test_what_was_said_before_comes_first(transport: str) -> None:
    async with serving() as server:
        await publish_many(server.address, 30)
        async with subscribe(transport, server.address, "lobby") as listener:
            heard = await collect(listener, 30)
            await publish_many(server.address, 5)
            heard += await collect(listener, 5)
        check(heard, last=35)


async def test_other_rooms_are_not_heard(transport: str) -> None:
    async with serving() as server, subscribe(transport, server.address, "lobby") as listener:
        await publish_many(server.address, 20, room="ops")
        await publish_many(server.address, 3)
        heard = await collect(listener, 3)
        assert {message["room"] for message in heard} == {"lobby"}


async def test_a_cursor_goes_on_where_it_was(transport: str) -> None:
    async with serving() as server:
        heard: list[object] = []
        cursor = None
        for round_ in range(1, 6):
            await publish_many(server.address, 10)
            async with subscribe(transport, server.address, "lobby", cursor) as listener:
                while len(heard) < 10 * round_:
                    heard += await listener.batch()
                cursor = listener.cursor
                assert not listener.told_of_loss
        check(heard, last=50)


async def test_a_log_longer_than_the_ring_and_a_page(transport: str, tmp_path: Path) -> None:
    async with serving(log=f"sqlite:{tmp_path / 'chat.db'}", ring_messages=16) as server:
        await publish_many(server.address, 400)
        async with subscribe(transport, server.address, "lobby") as listener, trio.open_nursery() as nursery:
            nursery.start_soon(publish_many, server.address, 100)
            check(await collect(listener, 500), last=500)
            assert not listener.told_of_loss


async def test_every_character_arrives_as_it_was(transport: str) -> None:
    text = 'quotes "\\" \t tab\nline 👩‍👩‍👧 ünï \u2028 </script> \u200f'
    async with serving() as server, subscribe(transport, server.address, "lobby") as listener:
        await publish(server.address, "lobby", text)
        (message,) = await collect(listener, 1)
        assert message["text"] == text


async def test_a_reader_that_pauses_misses_nothing(transport: str) -> None:
    """It falls behind the ring and far behind its socket's buffers, and is fed from the log."""
    async with (
        serving(ring_messages=16, send_buffer=4096) as server,
        subscribe(transport, server.address, "lobby", receive_buffer=4096) as listener,
    ):
        await publish_many(server.address, 200, text="{} " + "x" * 1000)
        check(await collect(listener, 200), last=200)
        assert not listener.told_of_loss


async def test_another_epoch_is_told(transport: str) -> None:
    async with serving() as server:
        await publish_many(server.address, 3)
        async with subscribe(transport, server.address, "lobby", "otherlife-2") as listener:
            await _until_told(listener, server)


async def test_a_place_never_reached_is_told(transport: str) -> None:
    """A bare number beyond the end: this client's log is not ours."""
    async with serving() as server:
        await publish_many(server.address, 3)
        async with subscribe(transport, server.address, "lobby", "77") as listener:
            await _until_told(listener, server)


async def test_what_retention_took_is_told(transport: str, tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'chat.db'}"
    log = open_log(url)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run, lambda records: None)
        for number in range(20):
            await append(log, Draft("lobby", "u_1", "Ann", f"m{number}"))
        assert await log.retain(max_messages=5, max_age_ms=0, now_ms=0) == {"lobby": 16}
        nursery.cancel_scope.cancel()
    async with serving(log=url) as server, subscribe(transport, server.address, "lobby", "3") as listener:
        heard: list[object] = []
        while len(heard) < 5:
            heard += await listener.batch()
        check(heard, first=16, last=20)
        assert listener.told_of_loss


async def test_retention_while_serving_is_told(transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatserver.server.RETENTION", 0.05)
    async with serving(log=f"sqlite:{tmp_path / 'chat.db'}", retain_messages=5, ring_messages=16) as server:
        await publish_many(server.address, 40)

        async def forgotten() -> bool:
            answer = await ask(server.address, "GET", "/rooms/lobby")
            return bool(answer.json["messages"] <= 5)

        await eventually(forgotten)
        async with subscribe(transport, server.address, "lobby", "3") as listener:
            heard: list[object] = []
            while len(heard) < 5:
                heard += await listener.batch()
            assert listener.told_of_loss
        check(heard, first=36, last=40)


async def _until_told(listener: Subscriber, server: Serving) -> None:
    while not listener.told_of_loss:
        await listener.batch()
    await publish(server.address, "lobby", "and on")
    heard: list[object] = []
    while not any(isinstance(message, dict) and message["text"] == "and on" for message in heard):
        heard += await listener.batch()
