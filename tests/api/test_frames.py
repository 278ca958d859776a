"""WebSockets at the level of frames: early frames, pipelines, closes, /echo."""

from pathlib import Path

import pytest
import trio

from tests.support.peers import Chatter, Peer, ask, chatter, frame, say, upgrade
from tests.support.serving import Serving, serving


@pytest.mark.parametrize("drip", [False, True])
async def test_frames_in_the_read_of_the_handshake_are_not_lost(peer: Peer, *, drip: bool) -> None:
    """The frames arrive in one read with the request (trio-websocket loses them), or a byte at a time."""
    early = say(type="join", id=1, room="lobby") + say(type="publish", id=2, room="lobby", text="early")
    wire = upgrade() + early + say(type="ping", id=3)
    first = len(wire) - 4
    for part in [wire[at : at + 1] for at in range(len(wire))] if drip else [wire[:first], wire[first:]]:
        await peer.send(part)
    assert (await peer.head()).status == 101
    friend = Chatter(peer)
    assert (await friend.hear())["type"] == "hello"
    assert (await friend.next("joined"))["id"] == 1
    assert (await friend.next("ack"))["id"] == 2
    assert (await friend.next("message"))["text"] == "early"
    assert (await friend.next("pong"))["id"] == 3


@pytest.mark.parametrize("joined", [False, True])
async def test_pipelined_publishes_are_acknowledged_once_and_in_order(tmp_path: Path, *, joined: bool) -> None:
    """Many times the limit in flight, without waiting: each is acknowledged once, in order, and stored once."""
    async with (
        serving(log=f"sqlite:{tmp_path / 'c.db'}", ring_messages=32) as server,
        chatter(server.address) as friend,
        trio.open_nursery() as nursery,
    ):
        if joined:
            await friend.ask("join", room="lobby")
        wire = b"".join(say(type="publish", id=n, room="lobby", text=f"m{n}") for n in range(1, 601))
        nursery.start_soon(friend.peer.send, wire)
        acks = [await friend.next("ack") for _ in range(600)]
        assert [(ack["id"], ack["offset"]) for ack in acks] == [(n, n) for n in range(1, 601)]
        if joined:
            heard = [await friend.next("message") for _ in range(600)]
            assert [message["text"] for message in heard] == [f"m{n}" for n in range(1, 601)]


CLOSE = frame((1000).to_bytes(2, "big"), opcode=8)


async def test_a_publisher_that_closes_right_after_its_messages(server: Serving) -> None:
    """They are stored, acknowledged before the close is answered, and the close counts as normal."""
    async with chatter(server.address) as friend:
        wire = b"".join(say(type="publish", id=n, room="lobby", text=f"m{n}") for n in range(99))
        await friend.peer.send(wire + CLOSE)
        assert [(await friend.next("ack"))["id"] for _ in range(99)] == [*range(99)]
        assert (await friend.closed()).code == 1000
    await server.counted("peer-closed")
    assert await server.closes("peer-reset") == 0
    page = (await ask(server.address, "GET", "/rooms/lobby/messages?after=0&limit=200")).json
    assert [message["text"] for message in page["messages"]] == [f"m{n}" for n in range(99)]


@pytest.mark.jumping_clock
async def test_a_close_does_not_wait_for_ever_for_the_log(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one inside of an unfinished message. They wait at the same time."""
    monkeypatch.setattr(server.server.parts.log, "submit", lambda *_: None)
    unanswered = say(type="publish", id=1, room="lobby", text="hi")
    async with chatter(server.address) as friend, chatter(server.address) as other:
        await friend.peer.send(unanswered + CLOSE + say(type="ping", id=2))
        await other.peer.send(unanswered + frame("half", fin=False))
        await server.in_phase("message")
        await other.peer.send(CLOSE)
        for each in (friend, other):
            assert await each.peer.rest() == b"\x88\x02\x03\xe8"
    await server.counted("peer-closed", 2)


async def test_a_close_is_answered_with_its_code(server: Serving) -> None:
    for times, code in enumerate((1000, 1001, 3000, 4999, None), 1):
        async with chatter(server.address) as friend:
            await friend.peer.send(frame(b"" if code is None else code.to_bytes(2, "big") + b"bye", opcode=8))
            assert await friend.peer.rest() == b"\x88\x02" + (code or 1000).to_bytes(2, "big"), code
        await server.counted("peer-closed", times)


# -- /echo ----------------------------------------------------------------------------------------------------------


async def test_echo_sends_everything_back() -> None:
    payload = bytes(range(256)) * 8
    async with serving(echo=True) as server, chatter(server.address, path="/echo") as friend:
        await friend.peer.send(frame("héllo") + frame("") + frame(payload, opcode=2))
        assert await friend.peer.take(10) == b"\x81\x06" + "héllo".encode() + b"\x81\x00"
        assert await friend.peer.take(4 + len(payload)) == b"\x82\x7e\x08\x00" + payload


@pytest.mark.parametrize("fragments", [1, 4])
async def test_an_operator_may_allow_long_messages(fragments: int) -> None:
    """Autobahn's cases 9 send 16 MiB, which must not be copied at each read and each fragment."""
    size = 2 << 20
    async with (
        serving(echo=True, max_message_bytes=size, all_unfinished_bytes=2 * size) as server,
        chatter(server.address, path="/echo") as friend,
    ):
        payload = bytes(range(256)) * (size // 256)
        part = size // fragments
        async with trio.open_nursery() as nursery:
            for number in range(fragments):
                piece = payload[number * part : (number + 1) * part]
                await friend.peer.send(frame(piece, opcode=0 if number else 2, fin=number == fragments - 1))
            nursery.start_soon(friend.peer.send, frame(b"p", opcode=9))
            assert await friend.peer.take(10) == b"\x82\x7f" + size.to_bytes(8, "big")
            assert await friend.peer.take(size) == payload
            assert await friend.peer.take(3) == b"\x8a\x01p"
