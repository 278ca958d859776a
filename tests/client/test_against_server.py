"""The client and the real server: what each promises, together."""

import socket
from pathlib import Path

import pytest
import trio

from chatserver.chat import broadcast
from chatserver.client import connect, link
from chatserver.client.events import Acknowledged, Complaint, Connected, Entered, Lost, Reconnecting, Refused
from chatserver.client.stream import Target, WatchedStream
from tests.client.listener import Listener, listening
from tests.support.peers import Address
from tests.support.serving import free_flags, server_process, serving

TEXTS = [f"text {number}" for number in range(200)]


def url(address: Address) -> str:
    return f"{address.host}:{address.port}"


async def test_two_people_see_the_same_in_the_same_order() -> None:
    async with serving() as server, listening(url(server.address)) as ann, listening(url(server.address)) as bob:
        for person in (ann, bob):
            await person.until(Entered)
        for text in TEXTS:
            ann.client.publish("lobby", f"ann {text}")
            bob.client.publish("lobby", f"bob {text}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bob.texts, 2 * len(TEXTS))
            heard = await ann.texts(2 * len(TEXTS))
        assert heard == await bob.texts(2 * len(TEXTS))
    for name in ("ann", "bob"):
        assert [text for text in heard if text.startswith(name)] == [f"{name} {text}" for text in TEXTS]


async def live(target: str, *, task_status: trio.TaskStatus[Listener]) -> None:
    """Be in the lobby while servers come and go."""
    async with listening(target, jitter=0.1) as listener:
        task_status.started(listener)
        await trio.sleep_forever()


async def test_killed_again_and_again_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """Acknowledged, in flight or not yet sent when the server dies: each text is there once, in its order."""
    flags = list(free_flags(tmp_path))
    async with trio.open_nursery() as nursery:
        for life in range(5):
            async with server_process(tmp_path, *flags) as server:
                if life == 0:
                    target = url(server.address)
                    flags[flags.index("--port") + 1] = target.rpartition(":")[2]
                    talker = await nursery.start(live, target)
                for text in TEXTS[life * 40 : (life + 1) * 40]:
                    talker.client.publish("lobby", text)
                await talker.until(Acknowledged, times=life * 40 + 20)
                if life == 4:
                    assert await talker.texts(len(TEXTS)) == TEXTS
                    async with listening(target) as newcomer:
                        assert await newcomer.texts(50) == TEXTS[-50:]
        nursery.cancel_scope.cancel()
    assert not talker.events(Lost)
    assert not talker.events(Refused)
    assert len(talker.events(Reconnecting)) >= 4


async def test_a_drained_server_says_so_and_the_guest_comes_back_as_the_same(tmp_path: Path) -> None:
    flags = list(free_flags(tmp_path))
    async with trio.open_nursery() as nursery:
        async with server_process(tmp_path, *flags) as server:
            target = url(server.address)
            flags[flags.index("--port") + 1] = target.rpartition(":")[2]
            listener: Listener = await nursery.start(live, target)
            await listener.until(Entered)
            server.process.terminate()
            assert await server.ended() == 0
        async with server_process(tmp_path, *flags):
            await listener.until(Entered, times=2)
        nursery.cancel_scope.cancel()
    assert listener.events(Reconnecting)[0].why.startswith("the server is going away")
    first, again = listener.events(Connected)
    assert first == again


async def test_a_rate_limit_slows_down_and_loses_nothing() -> None:
    async with serving(publish_rate=40.0) as server, listening(url(server.address)) as listener:
        texts = TEXTS[:100]  # 80 at once, the rest at 40 a second
        for text in texts:
            listener.client.publish("lobby", text)
        assert await listener.texts(len(texts)) == texts


@pytest.mark.parametrize("size", [17_000, 70_000, 300_000])
async def test_a_text_too_long_is_refused_and_the_next_goes_on(size: int) -> None:
    async with serving() as server, listening(url(server.address), jitter=0.1) as listener:
        key = listener.client.publish("lobby", "x" * size)
        listener.client.publish("lobby", "short")
        assert await listener.texts(1) == ["short"]
        assert [event.key for event in listener.events(Refused)] == [key]


async def test_a_room_that_cannot_be_is_said() -> None:
    async with serving() as server, listening(url(server.address), "No Such Name!") as listener:
        (complaint,) = await listener.until(Complaint)
        assert (complaint.room, complaint.code) == ("No Such Name!", "bad_room")


async def test_who_does_not_read_for_a_while_still_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server skips ahead of a slow member and says `gap`; the client fetches what lies between."""
    texts = [f"{number} {'x' * 5000}" for number in range(600)]

    async def dial(target: Target, *, timeout: float) -> WatchedStream:  # noqa: ASYNC109
        """Connect with a small window, since the kernel would take in all texts."""
        stream = await trio.open_tcp_stream(target.host, target.port)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        return WatchedStream(stream)

    monkeypatch.setattr(link, "dial", dial)
    monkeypatch.setattr(broadcast, "MAX_BEHIND", 50)
    async with (
        serving(ring_messages=16, ring_bytes=65_536, send_buffer=4096) as server,
        listening(url(server.address)) as slow,
        connect(url(server.address)) as busy,
    ):
        await slow.until(Entered)
        for text in texts:
            busy.publish("lobby", text)
        await Listener(busy).until(Acknowledged, times=len(texts))  # nobody reads the slow one's events meanwhile
        assert await slow.texts(len(texts)) == texts
        assert await server.metric("chatserver_gaps_total") > 0
        assert not slow.events(Lost)
