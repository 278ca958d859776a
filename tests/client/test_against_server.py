"""The client and the real server: what each promises, together."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from chatserver.client import Client, connect
from chatserver.client.events import (
    Acknowledged,
    Complaint,
    Connected,
    Entered,
    Event,
    Lost,
    Received,
    Reconnecting,
    Refused,
)
from chatserver.client.link import Backoff
from tests.client.listener import SOON, Listener
from tests.support.peers import Address
from tests.support.serving import free_flags, server_process, serving

TEXTS = [f"text {number}" for number in range(200)]


def url(address: Address) -> str:
    return f"{address.host}:{address.port}"


def quick() -> Backoff:
    return Backoff(jitter=lambda: 0.1)


async def read_all(target: str, room: str, *, last: str) -> list[str]:
    """What a newcomer finds in the room's history, in its order."""
    async with connect(target, rooms=[room]) as client:
        listener = Listener(client)
        await listener.until(lambda seen: said(seen)[-1:] == [last])
        return said(listener.seen)


def said(events: Sequence[Event]) -> list[str]:
    return [event.message.text for event in events if isinstance(event, Received)]


async def test_two_people_see_the_same_in_the_same_order() -> None:
    async with (
        serving() as server,
        connect(url(server.address), rooms=["lobby"]) as ann,
        connect(url(server.address), rooms=["lobby"]) as bob,
    ):
        people = [Listener(ann), Listener(bob)]
        for person in people:
            await person.until_kind(Entered)
        for text in TEXTS:
            ann.publish("lobby", f"ann {text}")
            bob.publish("lobby", f"bob {text}")
        async with trio.open_nursery() as nursery:
            for person in people:
                nursery.start_soon(person.texts, 2 * len(TEXTS))
        heard = [said(person.seen) for person in people]
    assert heard[0] == heard[1]
    for name in ("ann", "bob"):
        assert [text for text in heard[0] if text.startswith(name)] == [f"{name} {text}" for text in TEXTS]


async def test_killed_again_and_again_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """Acknowledged, in flight or not yet sent when the server dies: each text is there once, in its order."""
    flags = list(free_flags(tmp_path))
    target, finished = "", trio.Event()
    talker: Listener | None = None

    async def talk(task_status: trio.TaskStatus[Client]) -> None:
        nonlocal talker
        async with connect(target, rooms=["lobby"], backoff=quick()) as client:
            talker = Listener(client)
            task_status.started(client)
            await talker.until_kind(Acknowledged, times=len(TEXTS))
            await talker.texts(len(TEXTS))
            finished.set()

    async with trio.open_nursery() as nursery:
        for life in range(5):
            async with server_process(tmp_path, *flags) as server:
                if life == 0:
                    target = url(server.address)
                    flags[flags.index("--port") + 1] = target.rpartition(":")[2]
                    client = await nursery.start(talk)
                for text in TEXTS[life * 40 : (life + 1) * 40]:
                    client.publish("lobby", text)
                with trio.fail_after(SOON):
                    if life < 4:
                        while client.unacknowledged > 20:
                            await trio.lowlevel.checkpoint()
                    else:
                        await finished.wait()
                        history = await read_all(target, "lobby", last=TEXTS[-1])
    assert talker is not None
    assert said(talker.seen) == TEXTS
    assert not any(isinstance(event, Lost | Refused) for event in talker.seen)
    assert sum(isinstance(event, Reconnecting) for event in talker.seen) >= 4
    assert history == TEXTS[-50:]


async def test_a_drained_server_says_so_and_the_guest_comes_back_as_the_same(tmp_path: Path) -> None:
    flags = list(free_flags(tmp_path))
    async with trio.open_nursery() as nursery:
        async with server_process(tmp_path, *flags) as server:
            target = url(server.address)
            flags[flags.index("--port") + 1] = target.rpartition(":")[2]
            opened: list[Listener] = []

            async def stay() -> None:
                async with connect(target, rooms=["lobby"], backoff=quick()) as client:
                    opened.append(Listener(client))
                    await trio.sleep_forever()

            nursery.start_soon(stay)
            await trio.testing.wait_all_tasks_blocked()
            (listener,) = opened
            await listener.until_kind(Entered)
            server.process.terminate()
            assert await server.ended() == 0
        async with server_process(tmp_path, *flags):
            await listener.until_kind(Entered, times=2)
        nursery.cancel_scope.cancel()
    (reconnecting, *_) = [event for event in listener.seen if isinstance(event, Reconnecting)]
    assert reconnecting.why.startswith("the server is going away")
    users = [event.user for event in listener.seen if isinstance(event, Connected)]
    assert users[0] == users[1]


async def test_a_rate_limit_slows_down_and_loses_nothing() -> None:
    async with serving(publish_rate=40.0) as server, connect(url(server.address), rooms=["lobby"]) as client:
        listener = Listener(client)
        texts = TEXTS[:100]  # 80 at once, the rest at 40 a second
        for text in texts:
            client.publish("lobby", text)
        assert await listener.texts(len(texts)) == texts


@pytest.mark.parametrize("size", [17_000, 70_000, 300_000])
async def test_a_text_too_long_is_refused_and_the_next_goes_on(size: int) -> None:
    async with serving() as server, connect(url(server.address), rooms=["lobby"], backoff=quick()) as client:
        listener = Listener(client)
        key = client.publish("lobby", "x" * size)
        client.publish("lobby", "short")
        assert await listener.texts(1) == ["short"]
        refused = [event for event in listener.seen if isinstance(event, Refused)]
        assert [event.key for event in refused] == [key]


async def test_a_room_that_cannot_be_is_said() -> None:
    async with serving() as server, connect(url(server.address), rooms=["No Such Name!"]) as client:
        listener = Listener(client)
        await listener.until_kind(Complaint)
        (complaint,) = [event for event in listener.seen if isinstance(event, Complaint)]
        assert (complaint.room, complaint.code) == ("No Such Name!", "bad_room")


async def test_who_does_not_read_for_a_while_still_gets_everything() -> None:
    """The server skips ahead of a slow member and says `gap`; the client fetches what lies between."""
    count = 3000
    text = "x" * 500
    async with (
        serving(ring_messages=16, ring_bytes=65_536, send_buffer=4096) as server,
        connect(url(server.address), rooms=["busy"]) as slow,
        connect(url(server.address)) as busy,
    ):
        listener = Listener(slow)
        await listener.until_kind(Entered)
        writer = Listener(busy)
        for number in range(count):
            busy.publish("busy", f"{number} {text}")
        await writer.until_kind(Acknowledged, times=count)  # nobody reads the slow one's events meanwhile
        heard = await listener.texts(count)
        assert [int(text.split()[0]) for text in heard] == list(range(count))
        assert not any(isinstance(event, Lost) for event in listener.seen)
