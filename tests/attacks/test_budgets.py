"""A peer over its budget is refused, slowed down, or closed for `flood`; the neighbour never notices.

Rates are low, so that a few hundred frames use up a budget. The tests also check that nothing is refused up to the
burst, since a budget must not affect honest peers.
"""

import os
import select
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from itertools import count, groupby
from pathlib import Path
from typing import Any

import pytest
import trio

from chatserver.api.conversation import Conversation, Outcome
from chatserver.edge.websocket import CONTROL, REFUSAL, REFUSALS, STEP_MESSAGES
from chatserver.net.poller import READ_BYTES
from chatserver.protocol.websocket import MAX_SEPARATE_CONTROLS
from tests.attacks.siege import PERSON
from tests.support.peers import (
    PATIENCE,
    Chatter,
    ClosedError,
    Peer,
    ask,
    chatter,
    connect,
    frame,
    request,
    say,
    upgrade,
)
from tests.support.serving import eventually, neighbour, serving

pytestmark = pytest.mark.jumping_clock

#: Answers and control frames a second of one WebSocket: the budget is 10 s of them, and one for each room.
RATE, ROOMS = 5.0, 10
BURST = 60
LIMITS: dict[str, Any] = {"message_rate": RATE, "max_rooms_per_connection": ROOMS}


async def until_closed(attacker: Chatter, wire: bytes) -> tuple[int, list[Any]]:
    """Send the same again and again. Returns the close code and all messages before it."""
    heard = []

    async def send() -> None:
        with suppress(trio.BrokenResourceError):  # closed while it sends
            while True:
                await attacker.peer.send(wire)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while True:
            try:
                heard.append(await attacker.hear())
            except ClosedError as closed:
                nursery.cancel_scope.cancel()
                return closed.code, heard


def kernel_buffers() -> int:
    """The most bytes that both buffers of a loopback connection and the server take."""
    most = (Path(f"/proc/sys/net/ipv4/{name}").read_text().split()[2] for name in ("tcp_rmem", "tcp_wmem"))
    return (1 << 20) + sum(map(int, most))


async def send_for_ever(peer: Peer, data: bytes) -> int:
    """Send the same for a second. Returns the number of sent bytes."""
    sent = 0
    with trio.move_on_after(1.0):
        while True:
            await peer.stream.send_all(data)
            sent += len(data)
    return sent


# -- WebSocket ------------------------------------------------------------------------------------------------------


async def test_pings_of_a_peer_that_does_not_read_are_answered_from_a_bounded_buffer() -> None:
    """When its pongs fill the kernel's buffer the peer is no longer read, and FLUSH closes it."""
    async with serving(message_rate=0.0, flush_window=1.0, send_buffer=4096) as server, neighbour(server):
        async with connect(server.address, receive_buffer=4096) as deaf:
            await deaf.send(upgrade())
            await deaf.head()
            with pytest.raises(trio.BrokenResourceError):
                await deaf.send(frame(b"x" * 125, opcode=9) * 500_000)
        await server.counted("flush-deadline")


#: Answers at the price of one message each, up to the end of a peer's patience.
ANSWERS = BURST + REFUSALS * REFUSAL
#: Endless input, and the least number of answers of each kind or code.
WITHOUT_END: dict[str, tuple[bytes, dict[str, float]]] = {
    "fragments of messages that do end": (
        frame("{}", fin=False) + frame("", opcode=0, fin=False) * 62 + frame("", opcode=0), {"bad_field": ANSWERS},
    ),
    "publishes": (
        say(type="publish", room="r", text="x"),
        {"ack": 20, "rate_limited": BURST / REFUSAL + REFUSALS},  # the burst of its user; then the connection's
    ),
    "joins": (
        b"".join(say(type="join", room=f"r{number}") for number in range(1000)),
        {"joined": ROOMS, "too_many_rooms": 1, "rate_limited": 1},
    ),
    "joins and leaves": (say(type="join", room="r") + say(type="leave", room="r"), {"joined": 1, "left": 1}),
    "read markers": (say(type="read", room="r", id=1, offset=1), {"rate_limited": REFUSALS}),
    "nonsense": (say(type="nonsense", room="r", id=1), {"unknown_type": ANSWERS}),
    **{
        kind: (say(type=kind, room="r", id=1), {"rate_limited": REFUSALS})
        for kind in ("history", "members", "ping", "leave")
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", WITHOUT_END)
async def test_endless_messages_are_refused_and_then_closed(kind: str) -> None:
    """Each refusal has the time to wait."""
    wire, least = WITHOUT_END[kind]
    async with serving(publish_rate=10.0, max_empty_rooms=ROOMS, **LIMITS) as server, neighbour(server, room="other"):
        async with chatter(server.address) as attacker:
            code, heard = await until_closed(attacker, wire)
        told = Counter(message.get("code", message["type"]) for message in heard)
        assert code == 1008
        assert all(told[each] >= times for each, times in least.items()), told
        assert told.total() >= BURST, "nothing is refused up to the burst"
        assert told["rate_limited"] <= 2 * REFUSALS, "a refusal costs more than an answer"
        assert told["joined"] <= (ROOMS if kind == "joins" else BURST)
        assert all(message["retry_after"] > 0 for message in heard if message.get("code") == "rate_limited")
        await server.counted("flood")


async def test_a_client_that_waits_as_told_is_never_closed() -> None:
    async with serving(message_rate=50.0, max_rooms_per_connection=1) as server, chatter(server.address) as eager:
        for _ in range(501):
            await eager.say(type="members", room="r")
        refused = granted = 0
        while refused < 20:
            answer = await eager.ask("ping")
            if answer["type"] == "pong":
                granted += 1
                continue
            assert answer["code"] == "rate_limited"
            refused += 1
            await trio.sleep(answer["retry_after"])
        assert granted >= refused - 1, "the wait was enough"
        assert await server.closes("flood") == 0


#: Control frames within every budget of `LIMITS`.
WITHIN = (BURST + REFUSALS * REFUSAL) // CONTROL


@pytest.mark.parametrize("opcode", [9, 10])
async def test_each_of_many_pings_and_pongs_in_a_read_counts(opcode: int) -> None:
    """Otherwise peers that send thousands in one read are read too seldom to use up a budget."""
    async with serving(**LIMITS) as server, neighbour(server):
        async with chatter(server.address) as friend:
            await friend.peer.send(frame(b"", opcode=opcode) * (WITHIN - 1))
            assert (await friend.ask("ping"))["code"] == "rate_limited", "only answers are refused"
        async with chatter(server.address) as attacker:
            await attacker.peer.send(frame(b"", opcode=opcode) * (WITHIN + 1))
            assert (await attacker.closed()).code == 1008
        await server.counted("flood")


@pytest.mark.parametrize(
    ("count", "answers"), [(MAX_SEPARATE_CONTROLS, MAX_SEPARATE_CONTROLS), (MAX_SEPARATE_CONTROLS + 1, 1)]
)
async def test_of_many_pings_in_a_read_the_last_is_answered(count: int, answers: int) -> None:
    """RFC 6455 section 5.5.3."""
    async with serving() as server, connect(server.address) as peer:
        await peer.send(upgrade())
        await peer.head()
        pings = [frame(b"%03d" % number, opcode=9) for number in range(count)]
        await peer.send(b"".join(pings) + say(type="ping"))
        expected = b"".join(b"\x8a\x03%03d" % number for number in range(count - answers, count))
        heard = await peer.until(b'"pong"')
        assert heard[heard.index(b"\x8a") :].startswith(expected)
        assert heard.count(b"\x8a\x03") == answers


async def test_a_ping_is_answered_whatever_was_spent() -> None:
    """RFC 6455 section 5.5.2 has no exception; a flood of pings ends all the same."""
    async with serving(**LIMITS) as server, connect(server.address) as peer:
        await peer.send(upgrade())
        await peer.head()
        for payload in (b"first", b"last"):  # the first run spends the budget
            await peer.send(frame(payload, opcode=9) * (BURST // CONTROL + 1))
            await peer.until(b"\x8a%c%b" % (len(payload), payload))


async def test_granted_publishes_and_answers_to_our_pings_are_not_counted() -> None:
    """Publishes have their own rate, that of their user."""
    async with (
        serving(message_rate=0.1, max_rooms_per_connection=1, ping_interval=1.0) as server,
        chatter(server.address) as bot,
    ):
        for number in range(20):  # ten times its burst
            assert (await bot.ask("publish", room="r", text=str(number)))["type"] == "ack"
        while bot.pings < 4:
            with trio.move_on_after(0.1):
                await bot.hear()
        assert await server.closes("flood") == 0


@pytest.mark.parametrize(
    ("reading", "step"), [(lambda: 0.0, STEP_MESSAGES), (count().__next__, 1)], ids=["quick messages", "slow messages"]
)
async def test_many_messages_in_one_read_are_handled_a_few_at_a_time(
    reading: Callable[[], float], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise 650 clients with eight messages in each read delay others by 5 s, and slow ones, like joins, longer.

    Two clients send two dozen messages each before the server reads; their steps alternate.
    """
    heard: list[object] = []
    handle = Conversation.handle

    def hearing(self: Conversation, connection: object, *arguments: Any) -> Outcome:
        heard.append(connection)
        return handle(self, connection, *arguments)

    async with serving() as server, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(chatter(server.address, source=PERSON.format(n))) for n in (1, 2)]
        monkeypatch.setattr(Conversation, "handle", hearing)
        # If the CPU is taken away in the middle of a step, the step seems to have used up its class's share.
        monkeypatch.setattr("chatserver.net.scheduler.perf_counter", lambda: 0.0)
        monkeypatch.setattr("chatserver.edge.websocket.perf_counter", reading)
        for peer in peers:  # at once: no other task runs in between
            os.write(peer.peer.transport.socket.fileno(), say(type="ping") * 24)
        ours = [each.descriptor for each in server.server.parts.connections.table if each is not None]
        while len(select.select(ours, [], [], PATIENCE)[0]) < 2:
            pass  # a busy kernel delivers the second later
        for peer in peers * 24:
            assert (await peer.hear())["type"] == "pong"
    assert [len(list(run)) for _, run in groupby(heard)] == [step] * (48 // step), "steps alternate"


# -- HTTP -----------------------------------------------------------------------------------------------------------


async def test_endless_requests_are_throttled() -> None:
    """All are answered in order, but no faster than the rate."""
    async with serving(request_rate=100.0) as server, neighbour(server), connect(server.address) as hasty:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hasty.send, b"".join(request("GET", f"/nothing-{number}") for number in range(300)))
            nursery.start_soon(server.in_phase, "throttled")
            for number in range(300):
                assert f"/nothing-{number}" in (await hasty.response()).json["error"]["message"]
        assert (await hasty.request("GET", "/healthz")).status == 200


async def test_a_client_that_leaves_while_it_is_throttled() -> None:
    """The client sends a FIN after its requests, or closes."""
    async with serving(request_rate=1.0) as server, neighbour(server):
        for requests in (3, 1000):
            async with connect(server.address) as hasty:
                await hasty.send(request("GET", "/healthz") * requests)
                await server.in_phase("throttled")
                if requests == 3:
                    await hasty.end()
                    assert (await hasty.rest()).count(b"200 OK") == 3
        await server.held(1)


@pytest.mark.parametrize("size", [0, READ_BYTES], ids=["many a read", "one a read"])
async def test_the_next_request_waits_for_the_write_of_the_last_answer(size: int) -> None:
    """Ten pages arrive in order through a tiny window, and one answer at a time is kept."""
    page = request("GET", "/", headers={"Pad": "x"})
    page = page.replace(b"Pad: x", b"Pad: x".ljust(len(b"Pad: x") + size - len(page), b"x"))
    async with (
        serving(send_buffer=4096) as server,
        neighbour(server),
        connect(server.address, receive_buffer=1024) as sipper,
    ):
        whole = len((await ask(server.address, "GET", "/")).body)
        await sipper.send(page * 10)
        table = server.server.parts.connections.table
        most = 0

        await eventually(lambda: any(each and each.blocked for each in table))
        for _ in range(10):
            assert len((await sipper.response()).body) == whole
            kept = [sum(map(len, each.backlog.chunks)) for each in table if each and each.backlog]
            most = max(most, *kept, 0)
        assert 0 < most <= whole + 1024, "one answer, and its head"


# -- the end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun", "goes_on", "code"),
    [
        (request("POST", "/rooms/r/messages", headers={"Content-Length": "100000000"}), b"x" * 65_536, b" 413 "),
        (b"\x16\x03\x01", b"\x00" * 65_536, b" 400 "),
        (upgrade() + frame("x", masked=False), frame("x" * 10_000), b"\x03\xea"),
    ],
    ids=["body", "not HTTP", "frames"],
)
async def test_a_client_that_goes_on_sending_can_still_read_its_refusal(
    begun: bytes, goes_on: bytes, code: bytes
) -> None:
    """Closing at once would send RST, which destroys what the client has not read. So its bytes are read for a while,
    but at most as many as a body has; after that it cannot send on."""
    async with serving(close_deadline=3.0) as server, neighbour(server), connect(server.address) as rude:
        await rude.send(begun)
        assert await send_for_ever(rude, goes_on) < kernel_buffers()
        assert code in await rude.rest()
