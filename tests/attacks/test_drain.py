"""SIGTERM: all peers are told, every waiting request is answered, and no peer can delay the end.

The server runs in this process, where trio's receiver takes the signals.
"""

import os
import signal
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest import mock

import pytest
import trio

from chatserver.edge.farewell import Farewell
from chatserver.log.interface import Range, Record
from chatserver.net.connection import Connection
from chatserver.net.states import Priority, State
from chatserver.protocol.websocket import text_frame
from tests.support.certificates import certificate, client_hello
from tests.support.groups import SteppedLog
from tests.support.peers import Peer, chatter, connect, frame, request, upgrade
from tests.support.serving import Serving, eventually, serving

pytestmark = pytest.mark.jumping_clock


async def never(wanted: Range) -> list[Record]:
    """A read of the log that is never answered."""
    await trio.sleep_forever()
    raise AssertionError


async def drain(server: Serving) -> None:
    """Send SIGTERM, and wait until connections are refused."""
    os.kill(os.getpid(), signal.SIGTERM)

    async def refused() -> bool:
        try:
            async with connect(replace(server.address, tls=None)):
                return False
        except ConnectionRefusedError:
            return True

    await eventually(refused)


async def check_sent_away(peer: Peer) -> None:
    """The peer gets a 503 with Retry-After, and its connection ends."""
    answer = await peer.response()
    assert (answer.status, answer.error, answer.headers["connection"]) == (503, "draining", "close")
    assert int(answer.headers["retry-after"]) >= 1
    assert await peer.rest() == b""


def stop_before_it_is_read(server: Serving, wire: bytes, *peers: Peer) -> None:
    """Each peer's request arrives, and the drain begins before it is read."""
    parts = server.server.parts
    for peer in peers:
        os.write(peer.transport.socket.fileno(), wire)
    parts.responder.draining = True
    for connection in filter(None, parts.connections.table):
        parts.connections.step(connection, parts.farewell.send_away)


async def test_websockets_are_told_when_to_come_back() -> None:
    async with serving() as server, AsyncExitStack() as stack:
        friends = [await stack.enter_async_context(chatter(server.address)) for _ in range(10)]
        await drain(server)
        retries = []
        for friend in friends:
            goaway = await friend.next("goaway")
            assert list(goaway) == ["type", "reason", "retry_after"]
            retries.append(goaway["retry_after"])
            assert (await friend.closed()).code == 1012
            assert await friend.peer.rest() == b""
    assert len(set(retries)) > 5, "the times of return are spread"
    assert 0 < min(retries) < max(retries) <= 10


async def test_a_busy_server_sends_its_peers_away_in_as_few_rounds_as_there_are_peers() -> None:
    """Between two passes of the poller a flood left a tenth of the time, so most of 7,000 peers were never told."""
    count = 60
    async with serving(drain_timeout=600.0) as server, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(connect(server.address)) for _ in range(count)]
        await server.in_phase("head", count)
        scheduler, farewell = server.server.parts.connections.scheduler, server.server.parts.farewell
        until_told: list[float] = []

        def flood(_: object) -> bool:
            spin_until = perf_counter() + 0.0003
            while perf_counter() < spin_until:
                pass
            return len(until_told) < count

        def send_away(connection: Connection) -> None:
            until_told.append(rounds.call_count)
            spin_until = perf_counter() + 0.0003
            while perf_counter() < spin_until:
                pass
            Farewell.send_away(farewell, connection)

        with (
            mock.patch.object(farewell, "send_away", send_away),
            mock.patch.object(scheduler, "round", side_effect=scheduler.round) as rounds,
        ):
            scheduler.submit(Priority.BULK, flood, object())
            await drain(server)
            for peer in peers:
                assert await peer.rest() == b""
        assert until_told[-1] - until_told[0] <= count


async def test_peers_that_wait_are_answered() -> None:
    async with (
        serving() as server,
        connect(server.address) as poller,
        connect(server.address) as listener,
        connect(server.address) as idle,
        connect(server.address) as blank,
        connect(server.address) as silent,
        connect(server.address) as typist,
    ):
        await poller.send(request("GET", "/rooms/lobby/messages?after=0&wait=60"))
        await listener.send(request("GET", "/rooms/lobby/events"))
        assert (await listener.head()).status == 200
        assert (await idle.request("GET", "/healthz")).status == 200
        await blank.send(request("GET", "/healthz") + b"\r\n")  # as clients do that end a body with it
        assert (await blank.response()).status == 200
        await typist.send(b"GET /readyz HTTP/1.1\r\nHost: t\r\n")
        await server.in_phase("held")
        await drain(server)
        answer = await poller.response()
        assert (answer.json["messages"], answer.headers["connection"]) == ([], "close")
        assert 1 <= int(answer.headers["retry-after"]) <= 6
        assert await poller.rest() == b""
        _, _, told = (await listener.rest()).split(b"retry: ")  # the first began the stream
        assert 1000 <= int(told) <= 6000
        assert await idle.rest() == b""
        assert await blank.rest() == b"", "no answer to a request that it has not begun"
        assert await silent.rest() == b""
        await typist.send(b"\r\n")
        await check_sent_away(typist)


async def test_a_request_that_has_arrived_and_was_not_read_is_answered() -> None:
    async with serving() as server, connect(server.address) as used, connect(server.address) as fresh:
        assert (await used.request("GET", "/healthz")).status == 200
        await eventually(lambda: server.server.parts.connections.held == 2)
        stop_before_it_is_read(server, request("POST", "/rooms/lobby/messages", b"just in time"), used, fresh)
        for peer in (used, fresh):
            answer = await peer.response()
            assert (answer.status, answer.headers["connection"]) == (201, "close")
            assert await peer.rest() == b""


async def test_a_blank_line_that_was_not_read_does_not_hold_a_stop() -> None:
    """Some clients end a body with one. It counted as the beginning of a request until the drain's time was over."""
    too_late = 600.0
    async with (
        serving(keepalive_deadline=too_late, head_deadline=too_late) as server,
        connect(server.address) as used,
        connect(server.address) as fresh,
    ):
        assert (await used.request("GET", "/healthz")).status == 200
        await eventually(lambda: server.server.parts.connections.held == 2)
        begun = trio.current_time()
        stop_before_it_is_read(server, b"\r\n", used, fresh)
        for peer in (used, fresh):
            assert await peer.rest() == b""
        assert trio.current_time() - begun < too_late / 2


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(request("GET", "/rooms/lobby/events"), id="events"),
        pytest.param(upgrade(), id="websocket"),
    ],
)
async def test_a_request_that_would_wait_is_refused_during_a_drain(wire: bytes) -> None:
    """It has arrived in time and was not read."""
    async with serving() as server, connect(server.address) as late:
        await server.in_phase("head")
        stop_before_it_is_read(server, wire, late)
        await check_sent_away(late)


async def test_a_poll_is_answered_at_once_during_a_drain() -> None:
    """Refused, it would look like a failure, though the next worker answers when it is asked again."""
    async with serving() as server, connect(server.address) as late:
        await server.in_phase("head")
        stop_before_it_is_read(server, request("GET", "/rooms/lobby/messages?after=0&wait=60"), late)
        answer = await late.response()
        assert (answer.status, answer.json["messages"], answer.headers["connection"]) == (200, [], "close")
        assert int(answer.headers["retry-after"]) >= 1
        assert await late.rest() == b""


@pytest.mark.parametrize("ahead", [b"", request("GET", "/rooms/long")], ids=["nothing", "a request"])
@pytest.mark.parametrize("send_buffer", [4096, 1 << 20], ids=["taken later", "taken by the kernel at once"])
async def test_a_slow_reader_delays_a_drain_until_it_has_read(send_buffer: int, ahead: bytes) -> None:
    """It has not read its answer at SIGTERM, and sent nothing or another request behind the first one."""
    too_late = 600.0
    async with (
        serving(drain_timeout=too_late, keepalive_deadline=too_late, send_buffer=send_buffer) as server,
        connect(server.address, receive_buffer=4096) as slow,
        connect(server.address) as poster,
    ):
        for _ in range(8):
            assert (await poster.request("POST", "/rooms/long/messages", b"x" * 8000)).status == 201
        await slow.send(request("GET", "/rooms/long/messages?after=0") + ahead)
        connections = server.server.parts.connections
        await eventually(lambda: any(each is not None and each.blocked for each in connections.table))
        await drain(server)
        assert (await slow.response()).status == 200
        if ahead:
            assert (await slow.response()).headers["connection"] == "close"
        assert await slow.rest() == b""


async def test_a_publish_in_progress_is_acknowledged() -> None:
    """One publish waits for the log, and half of the body of another has arrived."""
    log = SteppedLog()
    wire = request("POST", "/rooms/lobby/messages", b"last words")
    async with (
        serving(drain_timeout=60.0, engine=log) as server,
        connect(server.address) as whole,
        connect(server.address) as half,
    ):
        await whole.send(wire)
        await half.send(wire[:-5])
        await eventually(lambda: log.groups == 1)
        await server.in_phase("body")
        await drain(server)
        await half.send(wire[-5:])
        for peer in (whole, half):
            log.steps.release()
            answer = await peer.response()
            assert (answer.status, answer.headers["connection"]) == (201, "close")
            assert await peer.rest() == b""


@pytest.mark.parametrize("waits", ["no", "for a room", "for a task", "for its end"])
async def test_a_websocket_is_acknowledged_before_it_is_sent_away(waits: str) -> None:
    """Its publishes wait for the log; it may also wait for the members of a room, an answer, or its own close."""
    log = SteppedLog()
    async with serving(drain_timeout=60.0, engine=log, ring_messages=16) as server, chatter(server.address) as friend:
        if waits == "for a room":
            await friend.ask("join", room="lobby")
        count = 9  # more than half a ring
        for number in range(count):
            await friend.say(type="publish", id=number, room="lobby", text="last words")
        if waits == "for a task":
            log.read = never  # type: ignore[method-assign]
            await friend.say(type="history", id=9, room="elsewhere", after="0")
        if waits == "for its end":
            await friend.peer.send(frame(b"\x03\xe8", opcode=8))
        await eventually(lambda: log.groups == 1)
        await server.in_phase("open" if waits == "no" else "replying")
        await drain(server)
        assert (await friend.next("goaway"))["reason"] == "restart"
        log.steps.release()
        log.steps.release()
        for number in range(count):
            assert (await friend.next("ack"))["id"] == number
        assert (await friend.closed()).code == 1012


async def test_no_peer_can_delay_a_drain() -> None:
    """The peer answers no close frame, and has a long deadline for that. A second signal: tests/e2e/test_process.py."""
    async with serving(drain_timeout=1.0, close_deadline=600.0) as server, chatter(server.address) as stubborn:
        await drain(server)
        assert (await stubborn.next("goaway"))["reason"] == "restart"
        await stubborn.peer.drip(bytes(100_000), pause=0.02)  # until the server ends


@pytest.mark.parametrize("before", [b"", request("GET", "/healthz")], ids=["first", "next"])
async def test_half_a_request_does_not_hold_a_stop(before: bytes) -> None:
    """Slow heads made each restart last until `--head-deadline`; nothing of them has been carried out."""
    too_late = 600.0
    async with (
        serving(drain_timeout=too_late, head_deadline=too_late) as server,
        connect(server.address) as slow,
    ):  # fmt: skip
        await slow.send(before + b"POST /rooms/lobby/messages HTTP/1.1\r\n")
        if before:
            assert (await slow.response()).status == 200
        await server.in_phase("head")
        begun = trio.current_time()
        await drain(server)
        await check_sent_away(slow)
        assert trio.current_time() - begun < too_late / 2


@pytest.mark.parametrize(
    ("phase", "sent", "options"),
    [
        ("tls_hello", b"\x16\x03\x01\x02\x00", {}),
        ("tls_handshake", client_hello(), {}),
        ("proxy", b"PROXY TCP4", {"proxy_protocol": True, "trusted_proxy": ("127.0.0.1",)}),
    ],
    ids=["half a hello", "half a handshake", "half a PROXY header"],
)
async def test_half_a_handshake_does_not_hold_a_stop(
    tmp_path: Path, phase: str, sent: bytes, options: dict[str, Any]
) -> None:
    too_late = 600.0
    cert, key = certificate(tmp_path)
    async with (
        serving(
            drain_timeout=too_late, tls_deadline=too_late, head_deadline=too_late,
            tls_cert=cert, tls_key=key, **options,
        ) as server,
        connect(replace(server.address, tls=None)) as slow,
    ):  # fmt: skip
        await slow.send(sent)
        table = server.server.parts.connections.table
        await eventually(lambda: any(each and each.state.name.lower() == phase for each in table))
        await eventually(lambda: any(each and (each.inbox or each.context) for each in table))
        begun = trio.current_time()
        await drain(server)
        await slow.rest()
        assert trio.current_time() - begun < too_late / 2


async def test_a_member_whose_reset_is_found_during_a_drain_is_no_fault() -> None:
    """The first flush of the drain finds the reset of a peer, whose session is released then."""
    async with serving() as server, connect(server.address, receive_buffer=4096) as peer:
        await peer.send(upgrade())
        await server.in_phase("open")
        connections = server.server.parts.connections
        [connection] = [each for each in connections.table if each is not None and each.state is State.OPEN]
        connections.step(connection, connections.send, text_frame(bytes(4 << 20)))
        assert connection.blocked
        peer.reset()  # no other task runs before the next line
        connections.step(connection, server.server.parts.farewell.send_away)
        assert connection.descriptor < 0
        assert connections.faults.count == 0
