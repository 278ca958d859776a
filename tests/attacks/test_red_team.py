"""Findings of a red team at default limits: each could end or delay the process for all peers.

Real bytes over real sockets against the real server. A healthy neighbour must notice nothing: it receives every
message, and its own requests are answered. Planted faults are in tests/edge and tests/chat.
"""

import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from chatserver.chat.room import Room
from tests.support.peers import PATIENCE, Chatter, chatter, connect, open_websocket, publish, request
from tests.support.serving import free_flags, neighbour, server_process, serving

#: Nearly the longest text that is allowed.
LONG = "x" * 8000
#: A limit in seconds that exceeds the time of a test.
TOO_LATE = 3 * PATIENCE


async def hears_all(friend: Chatter, count: int) -> None:
    """Receive `count` messages, each once and in order."""
    for offset in range(1, count + 1):
        message = await friend.next("message", "gap")
        assert (message["type"], message["offset"]) == ("message", offset)


# -- publishers that close while they are paused ----------------------------------------------------------------------


@pytest.mark.jumping_clock
@pytest.mark.parametrize("how", ["reset", "end"])
async def test_publishers_that_close_while_they_are_paused(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its 201 and is paused; those that stay are read again once the members have caught up."""
    async with (
        serving() as server, neighbour(server), chatter(server.address) as friend, AsyncExitStack() as stack,
    ):  # fmt: skip
        await friend.ask("join", room="busy")
        peers = [await stack.enter_async_context(connect(server.address)) for _ in range(20)]
        gone, staying = peers[::2], peers[1::2]
        with monkeypatch.context() as patch:
            patch.setattr(Room, "congested", True)
            for peer in peers:
                assert (await peer.request("POST", "/rooms/busy/messages", LONG.encode())).status == 201
            await server.in_phase("paused", len(peers))
            for peer in gone:
                if how == "end":
                    await peer.end()
                else:
                    peer.reset()
            if how == "reset":
                await server.counted("peer-reset", len(gone))
        await publish(server.address, "busy", "the last")
        await hears_all(friend, len(peers) + 1)
        for peer in staying:
            assert (await peer.request("GET", "/healthz")).status == 200, "the peer is read again"
        for peer in gone if how == "end" else ():
            assert await peer.rest() == b""


# -- places and the end of the process --------------------------------------------------------------------------------

STREAM = request("GET", "/rooms/lonely/events")


#: Bytes after the request and before the FIN; "" is another read.
ENDS: dict[str, list[bytes]] = {
    "with the request": [STREAM],
    "with another request": [STREAM + STREAM],
    "later": [STREAM, b""],
    "behind other bytes": [STREAM, b"", b"what nobody asked for" * 1000, b""],
}


@pytest.mark.jumping_clock
@pytest.mark.parametrize("wires", ENDS.values(), ids=ENDS)
async def test_half_closed_event_streams_end_at_once_and_others_go_on(wires: list[bytes]) -> None:
    """A heartbeat does not detect a peer that has only half closed."""
    async with (
        serving(heartbeat_interval=TOO_LATE) as server, neighbour(server),
        connect(server.address) as staying, connect(server.address) as ending,
    ):  # fmt: skip
        for peer in (staying, ending):
            for wire in wires:
                if not wire:
                    await trio.sleep(0.1)
                await peer.send(wire)
        await ending.end()
        await ending.rest()
        await server.reaches(1, "chatserver_connections", phase="stream")
        await publish(server.address, "lonely", "hello")
        assert b'"hello"' in await staying.until(b'"hello"')


async def test_unread_bytes_do_not_delay_the_end(tmp_path: Path) -> None:
    """The kernel sends the rest after the process has ended, so the server must not wait for the reader."""
    limits = ("drain-timeout", "flush-window", "keepalive-deadline")
    flags = free_flags(tmp_path, *(word for name in limits for word in (f"--{name}", str(TOO_LATE))))
    async with AsyncExitStack() as stack:
        async with server_process(tmp_path, *flags, is_forked=True) as server:
            for _ in range(5):
                await publish(server.address, "busy", LONG)
            websocket, events, answer = [
                await stack.enter_async_context(connect(server.address, receive_buffer=4096)) for _ in range(3)
            ]
            await (await open_websocket(websocket)).say(type="join", id=1, room="busy", after=0)
            await events.send(request("GET", "/rooms/busy/events?after=0"))
            await answer.send(request("GET", "/rooms/busy/messages?after=0"))
            for peer in (websocket, events, answer):
                await trio.lowlevel.wait_readable(peer.transport.socket)  # the rest does not fit
            server.process.send_signal(signal.SIGTERM)
            assert await server.ended() == 0
        for peer in (websocket, answer):
            assert (await peer.rest()).count(LONG.encode()) == 5
        everything = await events.rest()  # whole events; the rest follows after a reconnect
        assert 1 <= everything.count(LONG.encode()) == everything.count(b"id: ")
        assert everything.rpartition(b"retry: ")[2].strip().isdigit()
