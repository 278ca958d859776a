"""FLUSH: peers that do not read, and honest peers that read slowly.

For a while both look the same: the kernel takes no more bytes. Acknowledged bytes tell them apart.
"""

from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock

from chatserver.net import flush
from loadgen.net.sockets import deafen, undeafen
from tests.support.darkness import needs_darkness
from tests.support.peers import chatter, connect, publish, say, upgrade
from tests.support.serving import Serving, eventually, neighbour, serving
from tests.support.transports import TRANSPORTS, collect, subscribe

ROOM_TEXT = "x" * 2000
#: Seconds that pass between two reads of a slow reader.
TURN = 0.3


async def flood(server: Serving, messages: int) -> None:
    """Fill a room."""
    async with chatter(server.address) as speaker, trio.open_nursery() as nursery:
        wire = b"".join(say(type="publish", room="busy", text=ROOM_TEXT) for _ in range(messages))
        nursery.start_soon(speaker.peer.send, wire)
        for _ in range(messages):
            await speaker.next("ack")


class Turns:
    """Time that passes when all readers have read, however long the machine takes for it."""

    def __init__(self, clock: MockClock, readers: int) -> None:
        clock.rate = 0.01  # the server's own short waits end
        self.passed = 0.0
        self._clock = clock
        self._reading = self._readers = readers
        self._next = trio.Event()

    async def pause(self) -> None:
        next_turn = self._next
        self._end_read()
        await next_turn.wait()

    def leave(self) -> None:
        self._readers -= 1
        self._end_read()

    def _end_read(self) -> None:
        self._reading -= 1
        if self._reading == 0:
            self._reading = self._readers
            self._clock.jump(TURN)
            self.passed += TURN
            self._next.set()
            self._next = trio.Event()


async def test_flush_an_honest_slow_reader_survives_and_gets_everything(mock_clock: MockClock) -> None:
    """The member reads slowly for several windows, with pings."""
    async with (
        serving(flush_window=1.0, flush_rate=1024, send_buffer=8192, ping_interval=1.0, pong_deadline=1.0) as server,
        neighbour(server),
    ):
        await flood(server, 40)
        turns = Turns(mock_clock, len(TRANSPORTS))

        async def read_slowly(transport: str) -> None:
            address = server.address
            async with subscribe(transport, address, "busy", receive_buffer=8192, pause=turns.pause) as slow:
                messages = await collect(slow, 40)
                turns.leave()
                assert [message["offset"] for message in messages] == list(range(1, 41))

        async with trio.open_nursery() as nursery:
            for transport in TRANSPORTS:
                nursery.start_soon(read_slowly, transport)
        assert turns.passed > 3.0, "several windows"
        assert await server.closes("flush-deadline") == 0
        assert await server.closes("pong-deadline") == 0


@pytest.mark.slow
@needs_darkness
@pytest.mark.parametrize("speaks", [False, True])
async def test_flush_a_member_survives_a_link_outage(speaks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link is down for longer than a window, and up again between two retransmissions of TCP.

    A member that is heard was so before: what TCP sent to it after the longest outage was lost as well.
    """
    monkeypatch.setattr(flush, "MAX_LINK_OUTAGE", 1.3 if speaks else 25.0)
    async with serving(flush_window=2.0, send_buffer=8192) as server, neighbour(server), trio.open_nursery() as nursery:
        async with chatter(server.address) as rider:
            await rider.ask("join", room="busy")
            deafen(rider.peer.transport.socket.fileno())
            nursery.start_soon(flood, server, 60)
            table = server.server.parts.connections.table
            await eventually(lambda: any(each is not None and each.backlog is not None for each in table))
            up_again = trio.current_time() + 2.3  # TCP tries after 1.4 and 3 s
            await trio.sleep_until(up_again - 0.8)
            if speaks:
                await rider.say(type="typing", room="busy")
            await trio.sleep_until(up_again)
            undeafen(rider.peer.transport.socket.fileno())
            assert [(await rider.next("message", "gap"))["offset"] for _ in range(60)] == list(range(1, 61))
        assert await server.closes("flush-deadline") == 0


@pytest.mark.jumping_clock
async def test_flush_members_that_never_read_cost_no_queue() -> None:
    """60 members are behind by 40 long messages, which only the ring keeps."""
    deaf, messages = 60, 40
    async with (
        serving(flush_window=60.0, send_buffer=4096) as server,
        AsyncExitStack() as stack,
        chatter(server.address) as friend,
    ):
        await friend.ask("join", room="busy")
        for _ in range(deaf):
            peer = await stack.enter_async_context(connect(server.address, receive_buffer=2048))
            await peer.send(upgrade() + say(type="join", id=1, room="busy"))
            await peer.until(b'"joined"')
        for number in range(messages):
            await publish(server.address, "busy", str(number) + "x" * 7_900)
            assert (await friend.next("message"))["offset"] == number + 1, "a member that reads gets it at once"
        parts = server.server.parts
        behind = [each for each in parts.connections.table if each is not None and each.backlog is not None]
        assert len(behind) == deaf
        assert all(len(each.backlog.chunks) <= 1 and not each.inbox for each in behind if each.backlog)
        kept = {id(chunk): len(chunk) for each in behind if each.backlog for chunk in each.backlog.chunks}
        assert sum(kept.values()) <= 8 * 8_500, "a few frames, shared by all members"
        assert not parts.hub.behind.places
        assert await server.closes("flush-deadline") == 0
